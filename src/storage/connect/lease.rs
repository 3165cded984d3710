//! Connections leased to one caller at a time.

use std::{
    ops::Deref,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use deadpool::managed::{self, Pool};
use sea_orm::{ConnAcquireErr, DatabaseConnection, DbErr};
use tokio::time::timeout;

use super::{
    ACQUIRE_TIMEOUT,
    login::timed_out,
    servers::{Connections, Connector},
};
use crate::{
    domain::error::Error,
    storage::failure::{Breakage, breakage},
};

/// A connection leased until drop.
pub(in crate::storage) enum Lease {
    /// A connection to a file, from a driver pool.
    File(DatabaseConnection),
    /// A connection to a server.
    Server(Leased),
}

/// A server connection leased until drop.
pub(in crate::storage) struct Leased {
    /// `None` only during drop.
    slot: Option<managed::Object<Connector>>,
    connection: DatabaseConnection,
    is_done: bool,
    is_useless: AtomicBool,
}

impl Lease {
    /// Acquires an idle connection, or creates one.
    pub(super) async fn of(pool: &Connections) -> Result<Self, DbErr> {
        let slot = timeout(ACQUIRE_TIMEOUT, pool.get()).await.map_err(|_| timed_out())?;
        let slot = slot.map_err(|error| match error {
            managed::PoolError::Backend(error) => error,
            managed::PoolError::Closed => {
                DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
            }
            _ => timed_out(),
        })?;
        let (connection, is_useless) = (slot.connection.clone(), AtomicBool::new(false));
        Ok(Self::Server(Leased { slot: Some(slot), connection, is_done: false, is_useless }))
    }

    /// Ends the lease after every statement was answered. A connection dropped without `done` is
    /// checked before its next use.
    pub(in crate::storage) fn done(mut self) {
        if let Self::Server(leased) = &mut self {
            leased.is_done = true;
        }
    }

    /// Has the connection replaced after drop.
    pub(in crate::storage) fn fails(&self, breakage: Breakage) {
        let Self::Server(leased) = self else { return };
        leased.is_useless.store(true, Ordering::Relaxed);
        let pool = leased.slot.as_ref().and_then(managed::Object::pool);
        if let Some(connector) = pool.as_ref().map(Pool::manager) {
            connector.note(breakage);
        }
    }

    /// Returns `outcome`. If its error is a [`Breakage`], has the connection replaced.
    pub(in crate::storage) fn note<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Some(breakage) = outcome.as_ref().err().and_then(breakage) {
            self.fails(breakage);
        }
        outcome
    }
}

impl Deref for Lease {
    type Target = DatabaseConnection;

    fn deref(&self) -> &DatabaseConnection {
        match self {
            Self::File(connection) => connection,
            Self::Server(leased) => &leased.connection,
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let Some(mut slot) = self.slot.take() else { return };
        if self.is_useless.load(Ordering::Relaxed) {
            drop(managed::Object::take(slot));
            return;
        }
        slot.is_interrupted = !self.is_done;
        slot.used = Instant::now();
    }
}
