//! Client keys: the time of a legacy call with one key, and with many.

use std::time::Instant;

use m4_user_details::proto::{
    CreateLegacyKeyRequest, LegacyKey, RevokeLegacyKeysRequest,
    legacy_service_client::LegacyServiceClient,
};
use serde::Serialize;
use sha1::{Digest, Sha1};
use tonic::transport::Channel;

use crate::{
    callers::{Legacy, channels},
    database::Database,
    measured::median,
    program::Program,
};

/// Client keys, with the key of the calls.
const KEYS: usize = 1000;
/// Rounds with one key, and with all keys.
const ROUNDS: usize = 5;
/// Calls of each kind per round.
const CALLS: usize = 2000;
/// The name of the keys that no call uses.
const UNUSED: &str = "unused";
/// The secret key of the load tool's services.
const DEFAULT: &str = "secret";

/// A kind of call.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Keys {
    /// The key of the call.
    pub(crate) name: &'static str,
    /// The median time with all keys, divided by that with one.
    pub(crate) ratio: f64,
}

/// Plays the scene: one caller makes calls that change nothing, by turns with one and with all keys.
pub(crate) async fn play(database: &Database) -> Vec<Keys> {
    let masters = std::env::temp_dir().join(format!("m4-load-masters-{}", std::process::id()));
    std::fs::write(&masters, "42".repeat(32)).unwrap();
    let file = [("M4_API_MASTER_KEY_FILE", masters.to_str().unwrap())];
    let service = Program::service_with(&database.url, &file).await;
    std::fs::remove_file(masters).unwrap();
    let mut legacy = LegacyServiceClient::new(channels(service.grpc(), 1).remove(0));
    let own = create(&mut legacy, "own").await;
    let mut connection = Legacy::connect(service.http).await;
    let kinds = [("client key", &*own), ("default key", DEFAULT)];
    // By kind, and then with one key and with all keys.
    let mut times = [const { [const { Vec::new() }; 2] }; 2];
    for _ in 0..ROUNDS {
        for with_all in [false, true] {
            if with_all {
                for _ in 1..KEYS {
                    create(&mut legacy, UNUSED).await;
                }
            }
            for (kind, (name, secret)) in kinds.iter().enumerate() {
                let hash = hex::encode(Sha1::digest(format!("admin3{secret}")));
                let target =
                    format!("/billing/api/user_details_update?u=admin&user_id=3&hash={hash}");
                for number in 0..CALLS + CALLS / 10 {
                    let sent = Instant::now();
                    let (_, body) = connection.call(&target).await;
                    let time = sent.elapsed();
                    assert!(body.contains("successfully"), "{name}: {body}");
                    // The first calls warm the caches up.
                    if number >= CALLS / 10 {
                        times[kind][usize::from(with_all)].push(time.as_secs_f64());
                    }
                }
            }
        }
        let request = RevokeLegacyKeysRequest {
            key_id_or_name: UNUSED.to_owned(),
            acting_username: "admin".to_owned(),
        };
        legacy.revoke_legacy_keys(request).await.unwrap();
    }
    service.stop().await;
    let of = |((name, _), [one, all]): ((&'static str, _), [Vec<f64>; 2])| {
        let ratio = median(all).unwrap() / median(one).unwrap();
        println!("{}: {name}: {KEYS} keys ÷ one {ratio:.3}", database.engine.name());
        Keys { name, ratio }
    };
    kinds.into_iter().zip(times).map(of).collect()
}

async fn create(legacy: &mut LegacyServiceClient<Channel>, name: &str) -> String {
    let key = Some(LegacyKey { name: name.to_owned(), ..LegacyKey::default() });
    let request = CreateLegacyKeyRequest { key, acting_username: "admin".to_owned() };
    legacy.create_legacy_key(request).await.unwrap().into_inner().secret
}
