//! Rows that a dry run would have inserted: later rows may refer to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::BuildHasher,
};

use foldhash::{HashSet, SharedSeed, fast::SeedableRandomState};

use super::id_set::IdSet;
use crate::domain::{
    account::AccountType,
    imported::{ImportedAccount, NamedRow, NamedTable},
};

/// The planned rows. Usernames are kept as hashes: 8 bytes each.
pub(super) struct Planned {
    named: BTreeMap<NamedTable, IdSet>,
    names: BTreeMap<NamedTable, BTreeSet<String>>,
    managers: IdSet,
    usernames: HashSet<u64>,
    hasher: SeedableRandomState,
}

impl Default for Planned {
    fn default() -> Self {
        Self {
            named: BTreeMap::new(),
            names: BTreeMap::new(),
            managers: IdSet::default(),
            usernames: HashSet::default(),
            hasher: SeedableRandomState::with_seed(0, SharedSeed::global_fixed()),
        }
    }
}

impl Planned {
    pub(super) fn add_named(&mut self, table: NamedTable, row: &NamedRow) {
        self.named.entry(table).or_default().insert(row.id);
        self.names.entry(table).or_default().insert(row.name.clone());
    }

    pub(super) fn add_account(&mut self, account: &ImportedAccount, username_key: &str) {
        if account.account_type == Some(AccountType::Manager) {
            self.managers.insert(account.id);
        }
        self.usernames.insert(self.hasher.hash_one(username_key));
    }

    pub(super) fn has_named(&self, table: NamedTable, id: i64) -> bool {
        self.named.get(&table).is_some_and(|ids| ids.contains(id))
    }

    pub(super) fn has_name(&self, table: NamedTable, name: &str) -> bool {
        self.names.get(&table).is_some_and(|names| names.contains(name))
    }

    pub(super) fn has_manager(&self, id: i64) -> bool {
        self.managers.contains(id)
    }

    pub(super) fn has_username(&self, username_key: &str) -> bool {
        self.usernames.contains(&self.hasher.hash_one(username_key))
    }
}
