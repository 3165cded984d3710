//! A transaction that writes.

use chrono::{DateTime, Utc};

use super::{
    sea_orm::{
        DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
        TransactionTrait,
    },
    statements::{Lock, Statements},
};
use crate::{
    domain::{
        error::Error,
        facts::Needs,
        rules,
        update::{Answered, Change, Door, Entry, Update, Updated},
    },
    storage::{connect::Engine, failure::Failure},
    telemetry::instruments::{Instruments, instruments},
};

/// What becomes of updates in one transaction of which the rules refuse some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Refused {
    /// Those have no effect, and the others have.
    Alone,
    /// None has an effect.
    All,
}

/// Applies updates, in their order, in a transaction that was begun, and ends it.
pub(in crate::storage) async fn apply(
    transaction: DatabaseTransaction,
    engine: Engine,
    updates: &[(&Update, DateTime<Utc>)],
    lock: Lock,
    refused: Refused,
) -> Result<Vec<Result<Updated, Error>>, Failure> {
    let mut needs = Needs::default();
    for (update, _) in updates {
        needs.add_update(update);
    }
    let statements = Statements { engine, connection: &transaction };
    let mut facts = statements.load(&needs, lock).await?;
    let distinct = needs.users.len() == updates.len();
    let mut decisions = Vec::with_capacity(updates.len());
    let mut keys = Vec::new();
    for (update, now) in updates {
        if let Some(account) = facts.acting(&update.actor) {
            update.acting.tell_account(account.id);
        }
        let decision = rules::apply(update, *now, &facts);
        let key = update.kept_as().filter(|key| !facts.requests.contains_key(&key.id));
        if let (Ok((updated, _)), Some(key)) = (&decision, key) {
            // Its repeat may be among the next ones.
            let answered = Answered { content: key.content.clone(), updated: updated.clone() };
            facts.requests.insert(key.id.clone(), answered);
            keys.push((decisions.len(), key, *now));
        }
        if let Ok((updated, Some(_))) = &decision
            && !distinct
        {
            // The next one may be of the same user.
            facts.users.insert(updated.user.id, updated.user.clone());
        }
        decisions.push(decision);
    }
    let to_write =
        decisions.iter().flatten().filter_map(|(updated, entry)| Some((updated, entry.as_ref()?)));
    let writes: Vec<_> = to_write.collect();
    let answers = keys.into_iter().filter_map(|(index, key, now)| {
        let decision: &Result<(Updated, _), Error> = &decisions[index];
        Some((key, &decision.as_ref().ok()?.0, now))
    });
    let answers: Vec<_> = answers.collect();
    let undone = refused == Refused::All && decisions.iter().any(Result::is_err);
    if undone || (writes.is_empty() && answers.is_empty()) {
        rollback(transaction, engine).await;
    } else {
        statements.write(writes).await?;
        statements.keep(&answers).await?;
        sql!(engine, "COMMIT", "", transaction.commit()).map_err(Failure::at_commit)?;
        for (updated, entry) in decisions.iter().flatten() {
            if let Some(entry) = entry {
                tell(updated, entry);
            }
        }
        if let Some(instruments) = instruments() {
            let stored = decisions.iter().flatten();
            measured(
                instruments,
                stored.filter_map(|(updated, entry)| {
                    Some((entry.as_ref()?.origin.door, &*updated.changes))
                }),
            );
        }
    }
    Ok(decisions.into_iter().map(|decision| decision.map(|(updated, _)| updated)).collect())
}

/// Logs what was stored, without its values.
fn tell(Updated { user, changes }: &Updated, entry: &Entry) {
    tracing::debug!(
        user_id = user.id,
        version = user.version,
        fields = ?changes.iter().map(|change| change.field.path()).collect::<Vec<_>>(),
        door = entry.origin.door.as_str(),
        actor_id = entry.actor_id,
        service = entry.service,
        traceparent = entry.origin.traceparent,
        "a change is stored"
    );
}

/// Counts what was stored: the door of each update, and what it changed.
fn measured<'a>(instruments: &Instruments, updates: impl Iterator<Item = (Door, &'a [Change])>) {
    let mut count = 0;
    for (door, changes) in updates {
        count += 1;
        // The fields of a group stand together in the table.
        for group in changes.chunk_by(|one, next| one.field.group() == next.field.group()) {
            group.first().into_iter().for_each(|change| {
                instruments.update(door.as_str(), change.field.group());
            });
        }
    }
    instruments.transaction(count);
}

/// Begins a transaction that writes.
pub(in crate::storage) async fn begin(
    connection: &DatabaseConnection,
    engine: Engine,
) -> Result<DatabaseTransaction, Error> {
    // A SQLite transaction that begins by reading cannot always go on to write.
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    Ok(sql!(engine, "BEGIN", "", connection.begin_with_options(options))?)
}

/// Ends a transaction that wrote nothing that is to stay. If even that fails, the server does it.
pub(in crate::storage) async fn rollback(transaction: DatabaseTransaction, engine: Engine) {
    if sql!(engine, "ROLLBACK", "", transaction.rollback()).is_err() {
        tracing::debug!("a transaction could not be rolled back");
    }
}
