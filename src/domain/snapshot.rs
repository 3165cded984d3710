//! What the rules must know of the stored data: asked for first, then loaded at once, for one call or for many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::HashMap;

use super::{
    account::{AccountType, ActingAccount, User},
    update::{Actor, Edit, RequestKey, StoredResponse, Update, Updated},
    value::Value,
};
use crate::fields::{Field, Kind, Reference};

/// What must be loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadPlan {
    /// The names of acting accounts.
    pub actors: BTreeSet<String>,
    /// The ids of users.
    pub users: BTreeSet<i64>,
    /// The ids of requests that may have been answered before.
    pub requests: BTreeSet<String>,
    /// Ids that are referred to.
    pub references: BTreeMap<Reference, BTreeSet<i64>>,
}

impl Snapshot {
    /// What decisions that are made of this rest on.
    pub fn basis(&self) -> Basis {
        Basis {
            actors: self.actors.clone(),
            users: self.users.iter().map(|(id, user)| (*id, UserBasis::from(user))).collect(),
            requests: self.requests.clone(),
            references: self.references.clone(),
        }
    }

    /// The answer of an earlier request with this key. Versions that did not scope ids stored it
    /// under the id alone; there another content may be another service's. A copy for such versions
    /// has its original elsewhere.
    pub fn answered(&self, key: &RequestKey) -> Option<&StoredResponse> {
        let original = |id| self.requests.get(id).filter(|answered| !answered.is_copy);
        let unscoped = || original(&key.id).filter(|old| old.content == key.content);
        original(&key.scoped_id).or_else(unscoped)
    }

    /// Adds the answer of a request, and its copy under the id alone where that is free. Tells where it is stored.
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

    /// The account that acts, if it exists.
    pub fn acting(&self, actor: &Actor) -> Option<&ActingAccount> {
        match actor {
            Actor::Account(name) => self.actors.get(name.as_ref()?.as_str()),
            Actor::Service(_) => None,
        }
    }
}

impl LoadPlan {
    /// What it takes to apply updates.
    pub fn of<'a>(updates: impl IntoIterator<Item = &'a Update>) -> Self {
        let mut plan = Self::default();
        updates.into_iter().for_each(|update| plan.add_update(update));
        plan
    }

    /// Adds what it takes to know what an actor may do.
    pub fn add_actor(&mut self, actor: &Actor) {
        if let Actor::Account(Some(name)) = actor {
            self.actors.insert(name.as_str().to_owned());
        }
    }

    /// Adds what it takes to read a user.
    pub fn add_read(&mut self, actor: &Actor, user_id: i64) {
        self.add_actor(actor);
        self.users.insert(user_id);
    }

    /// Adds what it takes to change a user.
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

/// What was loaded. Whatever was needed and is not here does not exist.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Acting accounts by name.
    pub actors: HashMap<String, ActingAccount>,
    /// Accounts by id.
    pub users: HashMap<i64, User>,
    /// The requests that were answered before, by the keys of their answers.
    pub requests: HashMap<String, StoredResponse>,
    /// Ids that exist; of a manager: that are one.
    pub references: BTreeMap<Reference, BTreeSet<i64>>,
}

/// How the answer of a request is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// With a copy under the id alone.
    pub has_copy: bool,
    /// In place of the copy of another caller's answer.
    pub replaces_copy: bool,
}

/// What decisions rest on: the same as [`Snapshot`], but less of each user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// Acting accounts by name.
    pub actors: HashMap<String, ActingAccount>,
    /// Accounts by id.
    pub users: HashMap<i64, UserBasis>,
    /// The requests that were answered before, by their ids.
    pub requests: HashMap<String, StoredResponse>,
    /// Ids that exist; of a manager: that are one.
    pub references: BTreeMap<Reference, BTreeSet<i64>>,
}

/// What decisions about a user rest on: its version, which grows with each change of its details by this service, and what
/// says who may change it, whoever changes that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserBasis {
    /// The version.
    pub version: i64,
    /// The type of account.
    pub account_type: AccountType,
    /// The manager who is responsible.
    pub manager: Value,
}

impl From<&User> for UserBasis {
    fn from(user: &User) -> Self {
        let manager = user.values[Field::responsible_manager_id].clone();
        Self { version: user.version, account_type: user.account_type, manager }
    }
}
