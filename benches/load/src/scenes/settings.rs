//! Legacy calls while the settings are believed for a second, beside settings that are read for each call.

use serde::Serialize;

use super::turns::{self, Way};
use crate::{Arguments, callers::Call, database::Database, measured::Figures, program::Program};

/// How many callers there are.
const CALLERS: [usize; 2] = [16, 64];

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Settings {
    /// How many callers there were.
    pub(crate) callers: usize,
    /// With settings that are read for each call.
    pub(crate) read: Figures,
    /// With settings that are believed.
    pub(crate) believed: Figures,
}

/// Plays the scene.
pub(crate) async fn play(database: &mut Database, arguments: &Arguments) -> Vec<Settings> {
    let never = [("M4_SETTINGS_CACHE_MILLISECONDS", "0")];
    let reading = Program::service_with(&database.url, &never).await;
    let believing = Program::service(&database.url).await;
    let mut all = Vec::new();
    for callers in CALLERS {
        let ways = [
            Way {
                name: "settings read",
                calls: &[Call::Legacy(reading.http)],
                programs: &[&reading],
            },
            Way {
                name: "settings believed",
                calls: &[Call::Legacy(believing.http)],
                programs: &[&believing],
            },
        ];
        let [read, believed] = turns::play(database, arguments, callers, ways).await;
        all.push(Settings { callers, read, believed });
    }
    reading.stop().await;
    believing.stop().await;
    all
}
