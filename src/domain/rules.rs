//! Who may do what, and what a valid change is. The checks stand in the order in which they are answered.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{
    account::{AccountType, ActingAccount, Level, User},
    error::{Error, Problem, Violation},
    store::{LogEntry, Purpose, Transaction},
    update::{Actor, Change, Edit, Edits, Update, Updated},
    value::{ListMode, Value, Values},
};
use crate::fields::{FIELDS, Field, Kind, Reference};

/// Checks a change and stores it, unless it is to be validated only or changes nothing.
///
/// # Errors
/// In this order: [`Error::AccessDenied`], [`Error::NotAuthorized`], [`Error::AccessDenied`] (itself),
/// [`Error::UserNotFound`], [`Error::EtagMismatch`], [`Error::Invalid`].
pub async fn apply(
    update: &Update,
    now: DateTime<Utc>,
    transaction: &mut dyn Transaction,
) -> Result<Updated, Error> {
    let actor = authorise(&update.actor, Level::Edit, update.user_id, transaction).await?;
    let mut user = reach(actor.as_ref(), update.user_id, Purpose::Change, transaction).await?;
    if update.etag.as_ref().is_some_and(|etag| *etag != user.etag()) {
        return Err(Error::EtagMismatch);
    }
    let values = validate(&update.edits, &user.values, transaction).await?;
    let changes = difference(&user.values, &values);
    if changes.is_empty() {
        return Ok(Updated { user, changes });
    }
    user.values = values;
    user.version += 1;
    user.update_time = now;
    if !update.validate_only {
        let entry = LogEntry {
            actor_id: actor.map(|actor| actor.id),
            service: match &update.actor {
                Actor::Service(name) => Some(name),
                Actor::Account(_) => None,
            },
            door: update.door,
            changes: &changes,
        };
        transaction.write(&user, entry).await?;
    }
    Ok(Updated { user, changes })
}

/// Reads a user.
///
/// # Errors
/// [`Error::AccessDenied`], [`Error::NotAuthorized`], [`Error::UserNotFound`].
pub async fn read(
    actor: &Actor,
    user_id: i64,
    transaction: &mut dyn Transaction,
) -> Result<User, Error> {
    let actor = authorise(actor, Level::Read, user_id, transaction).await?;
    reach(actor.as_ref(), user_id, Purpose::Read, transaction).await
}

/// Checks that an actor may read and change settings: an admin, or a service in its own name.
///
/// # Errors
/// [`Error::AccessDenied`].
pub async fn administer(actor: &Actor, transaction: &mut dyn Transaction) -> Result<(), Error> {
    match load(actor, transaction).await? {
        None | Some(ActingAccount { account_type: AccountType::Admin, .. }) => Ok(()),
        Some(_) => Err(Error::AccessDenied),
    }
}

/// The acting account, if it may act at all; none for a service in its own name.
async fn load(
    actor: &Actor,
    transaction: &mut dyn Transaction,
) -> Result<Option<ActingAccount>, Error> {
    let name = match actor {
        Actor::Service(_) => return Ok(None),
        Actor::Account(name) => name.as_ref().ok_or(Error::AccessDenied)?,
    };
    let account = transaction.acting_account(name).await?.ok_or(Error::AccessDenied)?;
    if account.blocked || account.account_type == AccountType::User {
        return Err(Error::AccessDenied);
    }
    Ok(Some(account))
}

/// The acting account, if it may do this to users.
async fn authorise(
    actor: &Actor,
    level: Level,
    user_id: i64,
    transaction: &mut dyn Transaction,
) -> Result<Option<ActingAccount>, Error> {
    let Some(account) = load(actor, transaction).await? else {
        return Ok(None);
    };
    if account.account_type == AccountType::Manager && account.users_level < Some(level) {
        return Err(Error::NotAuthorized);
    }
    if account.id == user_id {
        return Err(Error::AccessDenied);
    }
    Ok(Some(account))
}

/// The plain user of an id, if the actor reaches it.
async fn reach(
    actor: Option<&ActingAccount>,
    user_id: i64,
    purpose: Purpose,
    transaction: &mut dyn Transaction,
) -> Result<User, Error> {
    let user = transaction.user(user_id, purpose).await?.ok_or(Error::UserNotFound)?;
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
        Err(Error::UserNotFound)
    }
}

/// The values after the edits.
async fn validate(
    edits: &Edits,
    stored: &Values,
    transaction: &mut dyn Transaction,
) -> Result<Values, Error> {
    let mut values = stored.clone();
    let mut violations: BTreeMap<Field, Problem> =
        edits.violations().iter().map(|violation| (violation.field, violation.problem)).collect();
    let mut references: BTreeMap<Reference, BTreeSet<i64>> = BTreeMap::new();
    for (field, edit) in edits.iter() {
        values[*field] = match edit {
            Edit::Set(value) => value.clone(),
            Edit::Date(parts) => {
                let before = match stored[*field] {
                    Value::Date(date) => Some(date),
                    _ => None,
                };
                let Some(date) = parts.complete(before) else {
                    violations.insert(*field, Problem::NotAllowed);
                    continue;
                };
                Value::Date(date)
            }
        };
        if let (Kind::Id(reference), Value::Id(id)) = (field.kind(), &values[*field]) {
            references.entry(reference).or_default().insert(*id);
        }
    }
    for (reference, ids) in references {
        let existing = transaction.existing(reference, &ids).await?;
        for (field, edit) in edits.iter() {
            if let (Kind::Id(of), Edit::Set(Value::Id(id))) = (field.kind(), edit)
                && of == reference
                && !existing.contains(id)
            {
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

fn difference(old: &Values, new: &Values) -> Vec<Change> {
    let change = |field| Change { field, old: old[field].clone(), new: new[field].clone() };
    FIELDS.into_iter().filter(|field| old[*field] != new[*field]).map(change).collect()
}
