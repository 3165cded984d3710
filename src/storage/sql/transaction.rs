//! Write transactions.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
    TransactionSession, TransactionTrait,
};

use super::{
    executor::Executor,
    rows::Answer,
    statements::{RowLock, Statements},
    writes::Write,
};
use crate::{
    domain::{
        error::Error,
        rules,
        snapshot::{Kept, LoadPlan, Snapshot},
        update::{Change, Entry, EntryPoint, MAX_BATCH_TEXT_BYTES, Update, Updated},
    },
    storage::{connect::Engine, failure::Failure, query_telemetry::statement},
    telemetry::instruments::{Instruments, instruments},
};

/// How refused updates affect the other updates of their transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Atomicity {
    /// Refused updates have no effect. The other updates are stored.
    PerItem,
    /// If one update is refused, none has an effect.
    AllOrNothing,
}

/// The rules' decisions on updates, and the statements that store them.
struct Decisions {
    decisions: Vec<Result<(Updated, Option<Entry>), Error>>,
    /// The indexes of decisions to store under their idempotency keys.
    kept: Vec<(usize, Kept)>,
    writes: Vec<Write>,
}

impl Decisions {
    fn of(
        engine: Engine,
        updates: &[(&Update, DateTime<Utc>)],
        mut snapshot: Snapshot,
        atomicity: Atomicity,
    ) -> Result<Self, Error> {
        let mut text_bytes = 0;
        let mut users = BTreeSet::new();
        let distinct = updates.iter().all(|(update, _)| users.insert(update.user_id));
        let mut decisions = Vec::with_capacity(updates.len());
        let mut kept = Vec::new();
        for (update, now) in updates {
            if let Some(account) = snapshot.acting(&update.actor) {
                update.acting.tell_account(account.id);
            }
            let mut decision = rules::apply(update, *now, &snapshot);
            if let (Atomicity::AllOrNothing, Ok((updated, _))) = (atomicity, &decision) {
                text_bytes += updated.text_bytes();
                if text_bytes > MAX_BATCH_TEXT_BYTES {
                    decision = Err(too_much_text());
                }
            }
            let key = update.idempotency_key().filter(|key| snapshot.answered(key).is_none());
            if let (Ok((updated, _)), Some(key)) = (&decision, key) {
                // A later update may repeat this request.
                kept.push((decisions.len(), snapshot.keep(key, updated)));
            }
            if let Ok((updated, Some(_))) = &decision
                && !distinct
            {
                // A later update may change the same user.
                snapshot.users.insert(updated.user.id, updated.user.clone());
            }
            decisions.push(decision);
        }
        let changes = decisions.iter().flatten();
        let changes = changes.filter_map(|(updated, entry)| Some((updated, entry.as_ref()?)));
        let writes = Write::all(engine, changes.collect())?;
        Ok(Self { decisions, kept, writes })
    }
}

fn too_much_text() -> Error {
    let limit = MAX_BATCH_TEXT_BYTES >> 20;
    let problem = format!(
        "has details with which the batch has more than {limit} MiB of text: send fewer updates at once"
    );
    Error::InvalidRequest { field: "user_id", problem }
}

/// Applies updates in order in a begun transaction, and ends the transaction.
pub(in crate::storage) async fn apply(
    transaction: impl Executor + TransactionSession,
    engine: Engine,
    updates: &[(&Update, DateTime<Utc>)],
    lock: RowLock,
    atomicity: Atomicity,
) -> Result<Vec<Result<Updated, Error>>, Failure> {
    let plan = LoadPlan::of(updates.iter().map(|(update, _)| *update));
    let statements = Statements { engine, connection: &transaction };
    let snapshot = statements.load(&plan, lock).await?;
    let Decisions { decisions, kept, writes } =
        Decisions::of(engine, updates, snapshot, atomicity)?;
    let answers = kept.into_iter().filter_map(|(index, kept)| {
        let (update, now) = updates[index];
        let updated = &decisions[index].as_ref().ok()?.0;
        Some(Answer { key: update.idempotency_key()?, updated, now, kept })
    });
    let answers: Vec<_> = answers.collect();
    let undone = atomicity == Atomicity::AllOrNothing && decisions.iter().any(Result::is_err);
    if undone || decisions.iter().all(Result::is_err) {
        rollback(transaction, engine).await;
    } else if writes.is_empty() && answers.is_empty() {
        end_unchanged(transaction, engine).await?;
    } else {
        statements.write(writes).await?;
        statements.keep(&answers).await?;
        statement(engine, "COMMIT", "", transaction.commit()).await.map_err(Failure::at_commit)?;
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

/// Ends a transaction that locked rows and changed nothing. On PostgreSQL, `COMMIT` waits for
/// synchronous standbys: an old primary with stale rows acknowledges nothing.
async fn end_unchanged(
    transaction: impl TransactionSession,
    engine: Engine,
) -> Result<(), Failure> {
    if engine != Engine::Postgres {
        rollback(transaction, engine).await;
        return Ok(());
    }
    statement(engine, "COMMIT", "", transaction.commit()).await.map_err(Failure::at_commit)
}

/// Logs a stored change without its values.
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

/// Counts stored updates by entry point and field group.
fn measured<'a>(
    instruments: &Instruments,
    updates: impl Iterator<Item = (EntryPoint, &'a [Change])>,
) {
    let mut count = 0;
    for (door, changes) in updates {
        count += 1;
        // A group's fields are adjacent in the field table.
        for group in changes.chunk_by(|one, next| one.field.group() == next.field.group()) {
            group.first().into_iter().for_each(|change| {
                instruments.updates(1, door.as_str(), change.field.group());
            });
        }
    }
    instruments.transaction(count);
}

/// Begins a write transaction. On SQLite, it takes the write lock at once: a later upgrade may fail.
pub(in crate::storage) async fn begin(
    connection: &DatabaseConnection,
    engine: Engine,
) -> Result<DatabaseTransaction, Error> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    Ok(statement(engine, "BEGIN", "", connection.begin_with_options(options)).await?)
}

/// Rolls back a transaction. If the rollback fails, the server rolls back by itself.
pub(in crate::storage) async fn rollback(transaction: impl TransactionSession, engine: Engine) {
    if statement(engine, "ROLLBACK", "", transaction.rollback()).await.is_err() {
        tracing::debug!("a transaction could not be rolled back");
    }
}
