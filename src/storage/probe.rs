//! Checks that a server could store an update: inserts and rolls back on a reserved connection.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};
use tokio::{sync::Mutex, time::timeout};

use super::{
    connect::{Engine, Options, single},
    not_ready::NoRoom,
    query_telemetry::statement,
};
use crate::{domain::error::Error, trace::Span};

/// Timeout of a read on a connection of the pool.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a MariaDB or MySQL server counts as full after an update finds a full disk.
const FULL_TIME: Duration = Duration::from_secs(10);

/// Size of a large insert's text, in bytes.
const LARGE_BYTES: usize = 64 << 10;

/// The connection of the readiness probe.
#[derive(Debug)]
pub(super) struct Probe {
    options: Options,
    insert: String,
    /// Large enough to need new pages.
    large_insert: String,
    /// When an update last found a full disk.
    full_since: std::sync::Mutex<Option<Instant>>,
    /// Whether the disk may still be full. A small insert proves nothing: it may fit in an allocated page.
    doubts_room: AtomicBool,
    /// Taken while in use: a failed or cancelled probe drops it. After a switchover, it would still
    /// lead to the old primary.
    connection: Mutex<Option<DatabaseConnection>>,
    /// Whether the last probe failed or was cancelled.
    has_failed: AtomicBool,
}

impl Probe {
    pub(super) fn new(options: Options) -> Self {
        // A random name: replicas must not wait for each other's row locks.
        let random = RandomState::new().hash_one(0_u8);
        let insert =
            format!("INSERT INTO settings (name, value) VALUES ('readiness probe {random}', '')");
        // Compressible text would need fewer pages.
        let noise: String = (0..LARGE_BYTES / 16)
            .map(|number| format!("{:016x}", RandomState::new().hash_one(number)))
            .collect();
        let large_insert = format!(
            "INSERT INTO requests (id, content, answer_time, answer) \
             VALUES ('probe {random}', '', 0, '\"{noise}\"')"
        );
        Self {
            options,
            insert,
            large_insert,
            full_since: std::sync::Mutex::new(None),
            doubts_room: AtomicBool::new(false),
            connection: Mutex::new(None),
            has_failed: AtomicBool::new(true),
        }
    }

    /// Records that an update found a full disk. On PostgreSQL, a large insert then proves that
    /// there is room again. MariaDB 10.11 exits if a large insert on a full disk fails or is rolled
    /// back: it counts as full until an update is stored, or for [`FULL_TIME`].
    pub(super) fn doubt_room(&self) {
        *self.full_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.doubts_room.store(true, Ordering::Relaxed);
    }

    /// On MariaDB, a stored update proves that the disk has space again.
    pub(super) fn found_room(&self, engine: Engine) {
        if engine == Engine::MySql && self.doubts_room.load(Ordering::Relaxed) {
            self.doubts_room.store(false, Ordering::Relaxed);
        }
    }

    /// Whether an update found a full disk within [`FULL_TIME`].
    fn is_full(&self) -> bool {
        let full_since = *self.full_since.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = full_since.is_some_and(|since| since.elapsed() < FULL_TIME);
        if !is_full {
            self.doubts_room.store(false, Ordering::Relaxed);
        }
        is_full
    }

    /// Checks that a server could store an update. After a failure, `read` must also succeed on a
    /// pooled connection: pooled connections may be dead. A timeout of `read` is no failure.
    pub(super) async fn prove<T>(
        &self,
        engine: Engine,
        read: impl Future<Output = Result<T, Error>>,
    ) -> Result<(), Error> {
        let read = async {
            match self.has_failed.swap(true, Ordering::Relaxed) {
                true => timeout(READ_TIMEOUT, read).await.map_or(Ok(()), |read| read.map(drop)),
                false => Ok(()),
            }
        };
        let (written, read) = tokio::join!(self.write(engine), read);
        let is_full =
            engine == Engine::MySql && self.doubts_room.load(Ordering::Relaxed) && self.is_full();
        let room = if is_full { Err(Error::Unavailable(NoRoom.into())) } else { Ok(()) };
        let proven = written.and(read).and(room);
        self.has_failed.store(proven.is_err(), Ordering::Relaxed);
        proven
    }

    /// Inserts and rolls back.
    async fn write(&self, engine: Engine) -> Result<(), Error> {
        let mut kept = self.connection.lock().await;
        let connection = match kept.take() {
            Some(connection) => connection,
            None => {
                single(&self.options).await.map_err(|error| Error::Unavailable(error.into()))?
            }
        };
        // A probe is no call: its statements have no spans.
        let span = &Span::default();
        let transaction = statement(engine, span, "BEGIN", "", connection.begin()).await?;
        let insert = transaction.execute_unprepared(&self.insert);
        statement(engine, span, "INSERT", "settings", insert).await?;
        if engine == Engine::Postgres && self.doubts_room.load(Ordering::Relaxed) {
            let insert = transaction.execute_unprepared(&self.large_insert);
            statement(engine, span, "INSERT", "requests", insert).await?;
            self.doubts_room.store(false, Ordering::Relaxed);
        }
        statement(engine, span, "ROLLBACK", "", transaction.rollback()).await?;
        *kept = Some(connection);
        Ok(())
    }

    /// Closes the connection.
    pub(super) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            let _ = connection.close().await;
        }
    }
}
