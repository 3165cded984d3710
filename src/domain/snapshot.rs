//! The stored data that the rules need: planned first, then loaded at once, for one call or many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::HashMap;

use super::{
    account::{ActingAccount, User},
    update::{Actor, Edit, RequestKey, StoredResponse, Update, Updated},
    value::Value,
};
use crate::fields::{Kind, Reference};

/// The data to load.
#[derive(Clone, Debug, Default)]
pub struct LoadPlan {
    /// The names of acting accounts.
    pub actors: BTreeSet<String>,
    /// The ids of users.
    pub users: BTreeSet<i64>,
    /// The keys of requests that may have been answered before.
    pub requests: BTreeSet<String>,
    /// Ids that new values refer to.
    pub references: BTreeMap<Reference, BTreeSet<i64>>,
}

impl Snapshot {
    /// The stored response for this key. Old versions stored it under the unscoped id, where other
    /// content may belong to another service. Copies for old versions do not count: their originals
    /// have scoped ids.
    pub fn answered(&self, key: &RequestKey) -> Option<&StoredResponse> {
        let original = |id| self.requests.get(id).filter(|answered| !answered.is_copy);
        let unscoped = || original(&key.id).filter(|old| old.content == key.content);
        original(&key.scoped_id).or_else(unscoped)
    }

    /// Adds the response of a request, and a copy under the unscoped id if that id is free.
    pub fn keep(&mut self, key: &RequestKey, updated: &Updated) -> Kept {
        let updated = Arc::new(updated.clone());
        let answered = |is_copy| {
            let (content, updated) = (key.content.clone(), Arc::clone(&updated));
            StoredResponse { content, updated, is_copy }
        };
        let replaces_copy = self.requests.insert(key.scoped_id.clone(), answered(false)).is_some();
        let has_copy = !self.requests.contains_key(&key.id);
        if has_copy {
            self.requests.insert(key.id.clone(), answered(true));
        }
        Kept { has_copy, replaces_copy }
    }

    /// The acting account, if it exists.
    pub fn acting(&self, actor: &Actor) -> Option<&ActingAccount> {
        match actor {
            Actor::Account(name) => self.actors.get(name.as_ref()?.as_str()),
            Actor::Service(_) => None,
        }
    }
}

impl LoadPlan {
    /// The data to load for updates.
    pub fn of<'a>(updates: impl IntoIterator<Item = &'a Update>) -> Self {
        let mut plan = Self::default();
        updates.into_iter().for_each(|update| plan.add_update(update));
        plan
    }

    /// Adds the acting account to the plan.
    pub fn add_actor(&mut self, actor: &Actor) {
        if let Actor::Account(Some(name)) = actor {
            self.actors.insert(name.as_str().to_owned());
        }
    }

    /// Adds the data for reading a user.
    pub fn add_read(&mut self, actor: &Actor, user_id: i64) {
        self.add_actor(actor);
        self.users.insert(user_id);
    }

    /// Adds the data for changing a user.
    pub fn add_update(&mut self, update: &Update) {
        self.add_read(&update.actor, update.user_id);
        if let Some(request) = update.idempotency_key() {
            self.requests.insert(request.scoped_id.clone());
            self.requests.insert(request.id.clone());
        }
        for (field, edit) in update.edits.iter() {
            if let (Kind::Id(reference), Edit::Set(Value::Id(id))) = (field.kind(), edit) {
                self.references.entry(reference).or_default().insert(*id);
            }
        }
    }
}

/// The cause of an error of several calls.
pub type SharedCause = Arc<dyn std::error::Error + Send + Sync>;

/// The loaded data. Rows of the plan that are absent here do not exist.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Acting accounts by name.
    pub actors: HashMap<String, ActingAccount>,
    /// Accounts by id.
    pub users: HashMap<i64, User>,
    /// Accounts whose stored row holds an impossible value, by id. Other accounts are not affected.
    pub unreadable: HashMap<i64, SharedCause>,
    /// Stored responses by their keys.
    pub requests: HashMap<String, StoredResponse>,
    /// Ids that exist; for managers, only ids of manager accounts.
    pub references: BTreeMap<Reference, BTreeSet<i64>>,
}

/// How the answer of a request is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whether a copy is stored under the unscoped id.
    pub has_copy: bool,
    /// Whether the response replaces the copy of another caller's response.
    pub replaces_copy: bool,
}
