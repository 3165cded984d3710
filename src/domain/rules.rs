//! Who may do what, and which changes are valid. The checks run in the order of their errors.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    account::{AccountType, ActingAccount, Level, User},
    epoch,
    error::{Error, NotPermitted, Problem, Refusal, Violation},
    snapshot::Snapshot,
    update::{Actor, Change, Edit, Edits, Entry, Update, Updated},
    value::{ListMode, Value, Values},
};
use crate::fields::{FIELDS, Field, Kind, Reference};

/// Checks a change. Returns the outcome, or the stored outcome of a repeated request, and the log
/// entry to store. The entry is `None` for `validate_only`, for a repeat, and if nothing changes.
///
/// # Errors
/// In this order: [`Error::NotPermitted`], [`Error::ActorRefused`], [`Error::NotAuthorized`],
/// [`Error::ActorRefused`] (itself), [`Error::UserNotFound`], [`Error::RequestIdReused`],
/// [`Error::EtagMismatch`], [`Error::EarlierEpoch`], [`Error::ChangedSince`], [`Error::Invalid`].
pub fn apply(
    update: &Update,
    now: DateTime<Utc>,
    snapshot: &Snapshot,
) -> Result<(Updated, Option<Entry>), Error> {
    permit(update)?;
    let actor = authorise(&update.actor, Level::Edit, update.user_id, snapshot)?;
    let stored = reach(actor, update.user_id, snapshot)?;
    if let Some(request) = update.idempotency_key()
        && let Some(answered) = snapshot.answered(request)
    {
        let repeat = answered.content == request.content;
        return if repeat {
            Ok((Updated::clone(&answered.updated), None))
        } else {
            Err(Error::RequestIdReused)
        };
    }
    if let Some(etag) = update.etag.as_ref().filter(|etag| **etag != stored.etag()) {
        let is_earlier = epoch::is_earlier(etag, stored.version);
        return Err(if is_earlier { Error::EarlierEpoch } else { Error::EtagMismatch });
    }
    if update.unchanged.iter().any(|(field, value)| stored.values[*field] != *value) {
        return Err(Error::ChangedSince);
    }
    let values = validate(&update.edits, &stored.values, snapshot)?;
    let changes = difference(&stored.values, &values);
    let mut user = User { values, username: stored.username.clone(), ..*stored };
    if changes.is_empty() {
        return Ok((Updated { user, changes }, None));
    }
    if update.validate_only {
        // Keep the stored version: the next version's etag would belong to another change.
        return Ok((Updated { user, changes }, None));
    }
    user.version += 1;
    // Never go back: replica clocks differ, and an update can wait while another one is stored.
    user.update_time = user.update_time.max(now);
    let entry = Entry {
        actor_id: actor.map(|actor| actor.id),
        service: match &update.actor {
            Actor::Service(name) => Some(name.clone()),
            Actor::Account(_) => None,
        },
        origin: update.origin.clone(),
    };
    Ok((Updated { user, changes }, Some(entry)))
}

/// Reads a user.
///
/// # Errors
/// [`Error::ActorRefused`], [`Error::NotAuthorized`], [`Error::UserNotFound`].
pub fn read<'a>(actor: &Actor, user_id: i64, snapshot: &'a Snapshot) -> Result<&'a User, Error> {
    let actor = authorise(actor, Level::Read, user_id, snapshot)?;
    reach(actor, user_id, snapshot)
}

/// The users that an actor may list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Every plain user.
    All,
    /// Users whose responsible manager is this account.
    AssignedTo(i64),
}

/// Returns the users that an actor may list.
///
/// # Errors
/// [`Error::ActorRefused`], [`Error::NotAuthorized`].
pub fn visibility(actor: &Actor, snapshot: &Snapshot) -> Result<Visibility, Error> {
    // No account has id 0, so no actor is refused for acting upon itself.
    let actor = authorise(actor, Level::Read, 0, snapshot)?;
    let bound = actor.filter(|actor| {
        actor.account_type == AccountType::Manager && actor.show_only_assigned_users
    });
    Ok(bound.map_or(Visibility::All, |manager| Visibility::AssignedTo(manager.id)))
}

/// Checks that an actor may read and change settings: an admin, or a service in its own name.
///
/// # Errors
/// [`Error::ActorRefused`], [`Error::AccessDenied`].
pub fn administer(actor: &Actor, snapshot: &Snapshot) -> Result<(), Error> {
    match act(actor, snapshot)? {
        None | Some(ActingAccount { account_type: AccountType::Admin, .. }) => Ok(()),
        Some(_) => Err(Error::AccessDenied),
    }
}

/// Checks that the caller may change every field of an update, even if the values stay the same.
fn permit(update: &Update) -> Result<(), Error> {
    let Some(allowed) = &update.allowed else { return Ok(()) };
    match update.edits.fields().find(|field| !allowed.has(*field)) {
        Some(field) => Err(NotPermitted::Field(field).into()),
        None => Ok(()),
    }
}

/// The acting account, if it may act at all; `None` for a service in its own name.
fn act<'a>(actor: &Actor, snapshot: &'a Snapshot) -> Result<Option<&'a ActingAccount>, Error> {
    let name = match actor {
        Actor::Service(_) => return Ok(None),
        Actor::Account(name) => name.as_ref().ok_or(Error::ActorRefused(Refusal::Unknown))?,
    };
    let account =
        snapshot.actors.get(name.as_str()).ok_or(Error::ActorRefused(Refusal::Unknown))?;
    if account.account_type == AccountType::User {
        return Err(Error::ActorRefused(Refusal::PlainUser));
    }
    if account.blocked {
        return Err(Error::ActorRefused(Refusal::Blocked));
    }
    Ok(Some(account))
}

/// The acting account, if it has the level and does not act upon itself.
fn authorise<'a>(
    actor: &Actor,
    level: Level,
    user_id: i64,
    snapshot: &'a Snapshot,
) -> Result<Option<&'a ActingAccount>, Error> {
    let Some(account) = act(actor, snapshot)? else { return Ok(None) };
    if account.account_type == AccountType::Manager && account.users_level < Some(level) {
        return Err(Error::NotAuthorized);
    }
    if account.id == user_id {
        return Err(Error::ActorRefused(Refusal::Itself));
    }
    Ok(Some(account))
}

/// The plain user with an id, if the actor may access the user.
fn reach<'a>(
    actor: Option<&ActingAccount>,
    user_id: i64,
    snapshot: &'a Snapshot,
) -> Result<&'a User, Error> {
    if let Some(cause) = snapshot.unreadable.get(&user_id) {
        return Err(Error::Internal(Arc::clone(cause).into()));
    }
    let user = snapshot.users.get(&user_id).ok_or(Error::UserNotFound(user_id))?;
    let assigned = |manager: &ActingAccount| {
        user.values[Field::responsible_manager_id] == Value::Id(manager.id)
    };
    let reached = actor.is_none_or(|actor| {
        actor.account_type == AccountType::Admin
            || !actor.show_only_assigned_users
            || assigned(actor)
    });
    if user.account_type == AccountType::User && reached {
        Ok(user)
    } else {
        Err(Error::UserNotFound(user_id))
    }
}

/// Applies the edits to the stored values and validates the result.
fn validate(edits: &Edits, stored: &Values, snapshot: &Snapshot) -> Result<Values, Error> {
    let mut values = stored.clone();
    let mut violations: BTreeMap<Field, Problem> =
        edits.violations().iter().map(|violation| (violation.field, violation.problem)).collect();
    for (field, edit) in edits.iter() {
        let value = match edit {
            Edit::Set(value) => Some(value.clone()),
            Edit::Date(parts) => {
                let before = match stored[*field] {
                    Value::Date(date) => Some(date),
                    _ => None,
                };
                parts.complete(before).map(Value::Date)
            }
        };
        match value {
            Some(value) if exists(*field, &value, snapshot) => values[*field] = value,
            _ => {
                violations.insert(*field, Problem::NotAllowed);
            }
        }
    }
    for field in FIELDS {
        if let Kind::List { pool } = field.kind()
            && edits.iter().any(|(edited, _)| *edited == field || *edited == pool)
            && values[field] != Value::List(ListMode::No)
            && values[pool] == Value::None
        {
            violations.entry(pool).or_insert(Problem::PoolMissing);
        }
    }
    if violations.is_empty() {
        return Ok(values);
    }
    let violation = |(field, problem)| Violation { field, problem };
    Err(Error::Invalid(violations.into_iter().map(violation).collect()))
}

/// Whether the row that a value refers to exists.
fn exists(field: Field, value: &Value, snapshot: &Snapshot) -> bool {
    let has = |reference: Reference, id: &i64| {
        snapshot.references.get(&reference).is_some_and(|ids| ids.contains(id))
    };
    match (field.kind(), value) {
        (Kind::Id(reference), Value::Id(id)) => has(reference, id),
        _ => true,
    }
}

fn difference(old: &Values, new: &Values) -> Vec<Change> {
    let change = |field| Change { field, old: old[field].clone(), new: new[field].clone() };
    FIELDS.into_iter().filter(|field| old[*field] != new[*field]).map(change).collect()
}

#[cfg(test)]
mod tests;
