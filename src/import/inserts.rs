//! Inserts of accounts. They run while the import reads and checks the next rows.

use std::collections::{BTreeSet, VecDeque};

use tokio::task::JoinHandle;

use super::{error::ImportError, run::Import, table::Table};
use crate::domain::{
    error::Error,
    imported::{Clash, ImportedAccount},
};

/// Batches that are inserted at once.
const MAX_CONCURRENT_INSERTS: usize = 2;

/// The running inserts, oldest first.
#[derive(Default)]
pub(super) struct Inserts(VecDeque<RunningInsert>);

struct RunningInsert {
    ids: Vec<i64>,
    /// The keys of the usernames.
    usernames: BTreeSet<String>,
    task: JoinHandle<Result<Vec<(usize, Clash)>, Error>>,
}

impl Inserts {
    /// Whether an account with the key of a username is being inserted.
    pub(super) fn have_username(&self, key: &str) -> bool {
        self.0.iter().any(|insert| insert.usernames.contains(key))
    }
}

impl Import<'_> {
    /// Begins to insert accounts. A dry run plans them.
    pub(super) async fn insert(
        &mut self,
        accounts: Vec<ImportedAccount>,
        inserts: &mut Inserts,
    ) -> Result<(), ImportError> {
        let key = |account: &ImportedAccount| {
            self.store.username_key(account.username.as_str()).to_owned()
        };
        if self.options.dry_run {
            self.counts.inserted += accounts.len() as u64;
            for account in &accounts {
                let key = key(account);
                self.planned.add_account(account, &key);
            }
            return Ok(());
        }
        if accounts.is_empty() {
            return Ok(());
        }
        let ids = accounts.iter().map(|account| account.id).collect();
        let usernames = accounts.iter().map(key).collect();
        while inserts.0.len() >= MAX_CONCURRENT_INSERTS
            && let Some(oldest) = inserts.0.pop_front()
        {
            self.finish_insert(oldest).await?;
        }
        let (store, now) = (self.store.clone(), self.clock.now());
        let task = tokio::spawn(async move { store.insert_accounts(&accounts, now).await });
        inserts.0.push_back(RunningInsert { ids, usernames, task });
        Ok(())
    }

    /// Waits for all inserts. Returns the first error.
    pub(super) async fn finish_inserts(
        &mut self,
        inserts: &mut Inserts,
    ) -> Result<(), ImportError> {
        let mut finished = Ok(());
        while let Some(oldest) = inserts.0.pop_front() {
            finished = finished.and(self.finish_insert(oldest).await);
        }
        finished
    }

    async fn finish_insert(&mut self, insert: RunningInsert) -> Result<(), ImportError> {
        let refused = insert.task.await.map_err(|error| Error::Internal(error.into()))??;
        self.counts.inserted += (insert.ids.len() - refused.len()) as u64;
        self.reject_refused(Table::Accounts, refused, "username", |index| insert.ids[index])
    }
}
