//! `new-epoch`: begins a new epoch of a restored database.

use super::{administrator::administrator, error::CliError, print};
use crate::{
    config::Config,
    domain::{
        call_context::CallContext,
        clock::{Clock, SystemClock},
    },
    storage::SqlStore,
};

pub(super) async fn run(config: &Config) -> Result<(), CliError> {
    let store = SqlStore::open_existing(config.database.clone()).await;
    let store = store.map_err(|error| CliError::Run(error.into()))?;
    let by = (&administrator(), SystemClock.now());
    let epoch = store.begin_epoch(&CallContext::default(), by).await;
    store.close().await;
    print::text(&format!("epoch {} has begun\n", epoch?));
    Ok(())
}
