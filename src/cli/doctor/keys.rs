//! The keys of legacy calls.

use crate::{config::Config, finding::Finding};

const SECRET_KEYS: &str = "secret keys";
const MASTER_KEYS: &str = "master keys";

/// Examines the secret keys and the master keys. `client_keys` are the keys in the database.
pub(super) fn examine(config: &Config, client_keys: i64) -> [Finding; 2] {
    let keys = config.keys.0.get().len();
    let secret = if config.keys.have_demo_key() {
        let found = "the secret key of the demo data is public";
        Finding::warning(SECRET_KEYS, found, "set api.secret_key (M4_API_SECRET_KEY)")
    } else if keys == 0 && client_keys == 0 {
        let found = "none: every legacy call is refused";
        Finding::warning(SECRET_KEYS, found, "set api.secret_key (M4_API_SECRET_KEY)")
    } else {
        Finding::ok(SECRET_KEYS, format!("{keys} configured, {client_keys} client keys"))
    };
    let masters = config.master_keys.0.get().len();
    let found = format!("{masters} configured, {client_keys} client keys");
    let master = if masters == 0 && client_keys > 0 {
        let remedy = "set api.master_key_file: without it, client keys cannot be opened";
        Finding::error(MASTER_KEYS, found, remedy)
    } else {
        Finding::ok(MASTER_KEYS, found)
    };
    [secret, master]
}
