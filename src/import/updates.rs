//! Updates of stored users, through the path of every update: rules, version, change log.

use chrono::{DateTime, Utc};
use futures_util::future::join_all;

use super::{difference, error::ImportError, rejects::Rejection, run::Import, table::Table};
use crate::{
    domain::{
        call_context::CallContext,
        error::Error,
        imported::{ImportedAccount, StoredAccount},
        store::Store,
        update::{Actor, Edit, Edits, EntryPoint, Origin, Update},
    },
    storage::SqlStore,
};

/// The identity of the import in the change log.
const IMPORT_IDENTITY: &str = "import";
/// Updates at once: the storage groups them into transactions.
const CONCURRENT_UPDATES: usize = 64;
/// Attempts to update a user whom others change at the same time.
const MAX_IMPORT_ATTEMPTS: u32 = 5;

/// What became of a user.
enum Outcome {
    Unchanged,
    Updated,
    Rejected(Vec<Rejection>),
}

impl Import<'_> {
    pub(super) async fn update(
        &mut self,
        users: Vec<(ImportedAccount, StoredAccount)>,
    ) -> Result<(), ImportError> {
        for users in users.chunks(CONCURRENT_UPDATES) {
            let now = self.clock.now();
            let updates = users
                .iter()
                .map(|(account, stored)| update(self.store, account, stored.clone(), now));
            let outcomes = join_all(updates).await;
            for ((account, _), outcome) in users.iter().zip(outcomes) {
                match outcome? {
                    Outcome::Unchanged => self.counts.unchanged += 1,
                    Outcome::Updated => self.counts.updated += 1,
                    Outcome::Rejected(rejections) => {
                        self.reject(Table::Accounts, &account.id.to_string(), rejections)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Updates a user to the values of the source, also if others change the user meanwhile: the etag makes
/// sure that the update starts from the row that was compared.
async fn update(
    store: &SqlStore,
    account: &ImportedAccount,
    mut stored: StoredAccount,
    now: DateTime<Utc>,
) -> Result<Outcome, Error> {
    let gone = || Outcome::Rejected(vec![Rejection::new("", "the user does not exist any more")]);
    for _ in 0..MAX_IMPORT_ATTEMPTS {
        let mut edits = Edits::default();
        for (field, value) in difference::details(account, &stored) {
            edits.add(*field, Some(Edit::Set(value.clone())));
        }
        if edits.iter().next().is_none() {
            return Ok(Outcome::Unchanged);
        }
        let identity = IMPORT_IDENTITY.to_owned();
        let update = Update {
            actor: Actor::Service(identity.clone()),
            allowed: None,
            origin: Origin { identity, ..Origin::of(EntryPoint::Import) },
            user_id: account.id,
            edits,
            etag: Some(stored.user.etag()),
            request: None,
            unchanged: Vec::new(),
            validate_only: false,
        };
        match store.apply(&CallContext::default(), update, now).await {
            Ok(_) => return Ok(Outcome::Updated),
            Err(Error::EtagMismatch) => {}
            Err(Error::UserNotFound(_)) => return Ok(gone()),
            Err(Error::Invalid(violations)) => {
                let rejection = violations
                    .iter()
                    .map(|violation| Rejection::new(violation.field.name(), violation.allowed()));
                return Ok(Outcome::Rejected(rejection.collect()));
            }
            Err(error) => return Err(error),
        }
        match store.accounts(&[account.id]).await?.remove(&account.id).flatten() {
            Some(newer) => stored = newer,
            None => return Ok(gone()),
        }
    }
    let reason = "others change the user all the time: import again";
    Ok(Outcome::Rejected(vec![Rejection::new("", reason)]))
}
