//! Write transactions.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
    TransactionSession, TransactionTrait,
};

use super::{
    executor::{Executor, Write},
    rows::Answer,
    statements::{RowLock, Statements},
};
use crate::{
    domain::{
        call_context::CallRecord,
        error::Error,
        rules,
        snapshot::{Kept, LoadPlan, Snapshot},
        update::{Change, Entry, EntryPoint, MAX_BATCH_TEXT_BYTES, Update, Updated},
    },
    storage::{connect::Engine, failure::Failure, query_telemetry::statement},
    telemetry::instruments::{Instruments, instruments},
    trace::Span,
};

/// An update to decide and store.
#[derive(Clone, Copy)]
pub(in crate::storage) struct Pending<'a> {
    pub(in crate::storage) update: &'a Update,
    pub(in crate::storage) now: DateTime<Utc>,
    pub(in crate::storage) record: &'a CallRecord,
}

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
        updates: &[Pending<'_>],
        mut snapshot: Snapshot,
        atomicity: Atomicity,
    ) -> Result<Self, Error> {
        let mut text_bytes = 0;
        let mut users = BTreeSet::new();
        let distinct = updates.iter().all(|pending| users.insert(pending.update.user_id));
        let mut decisions = Vec::with_capacity(updates.len());
        let mut kept = Vec::new();
        for Pending { update, now, record } in updates {
            if let Some(account) = snapshot.acting(&update.actor) {
                record.set_account(account.id);
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
    (engine, span): (Engine, &Span),
    updates: &[Pending<'_>],
    lock: RowLock,
    atomicity: Atomicity,
) -> Result<Vec<Result<Updated, Error>>, Failure> {
    let plan = LoadPlan::of(updates.iter().map(|pending| pending.update));
    let statements = Statements { engine, span, connection: &transaction };
    let snapshot = statements.load(&plan, lock).await?;
    let Decisions { decisions, kept, writes } =
        Decisions::of(engine, updates, snapshot, atomicity)?;
    let answers = kept.into_iter().filter_map(|(index, kept)| {
        let Pending { update, now, .. } = updates[index];
        let updated = &decisions[index].as_ref().ok()?.0;
        Some(Answer { key: update.idempotency_key()?, updated, now, kept })
    });
    let answers: Vec<_> = answers.collect();
    let undone = atomicity == Atomicity::AllOrNothing && decisions.iter().any(Result::is_err);
    if undone || decisions.iter().all(Result::is_err) {
        rollback(transaction, engine, span).await;
    } else if writes.is_empty() && answers.is_empty() {
        end_unchanged(transaction, engine, span).await?;
    } else {
        statements.write(writes).await?;
        statements.keep(&answers).await?;
        let committed = statement(engine, span, "COMMIT", "", transaction.commit()).await;
        committed.map_err(Failure::at_commit)?;
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
    span: &Span,
) -> Result<(), Failure> {
    if engine != Engine::Postgres {
        rollback(transaction, engine, span).await;
        return Ok(());
    }
    let committed = statement(engine, span, "COMMIT", "", transaction.commit()).await;
    committed.map_err(Failure::at_commit)
}

/// Logs a stored change without its values.
fn tell(Updated { user, changes }: &Updated, entry: &Entry) {
    tracing::debug!(
        user_id = user.id,
        version = user.version,
        fields = changes.iter().map(|change| change.field.path()).collect::<Vec<_>>().join(", "),
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
    span: &Span,
) -> Result<DatabaseTransaction, Error> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let begin = connection.begin_with_options(options);
    Ok(statement(engine, span, "BEGIN", "", begin).await?)
}

/// Rolls back a transaction. If the rollback fails, the server rolls back by itself.
pub(in crate::storage) async fn rollback(
    transaction: impl TransactionSession,
    engine: Engine,
    span: &Span,
) {
    if statement(engine, span, "ROLLBACK", "", transaction.rollback()).await.is_err() {
        tracing::debug!("a transaction could not be rolled back");
    }
}
