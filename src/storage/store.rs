//! The SQL implementation of [`Store`].

mod opening;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    connect::{Engine, Options},
    database::Database,
    feed::Feed,
    query_telemetry::own_statement,
    sweep::sweep,
    token_key,
    writer::{self, Writers},
};
use crate::domain::{
    account::User,
    administration::{AdminChange, AdminEntry, Administrator},
    call_context::CallContext,
    error::Error,
    listing::{ChangeQuery, Listed, ListedUser, LoggedChange, UserQuery},
    page_token::TokenKey,
    readiness::{Fault, NotReady},
    rules::{self, Visibility},
    settings::Settings,
    snapshot::LoadPlan,
    store::Store,
    ttl_cache::TtlCache,
    update::{Actor, Update, Updated},
    watch::{Position, SubscriptionFilter, Watch, WatchBudget, WatchStart},
};

/// The [`Store`] on a SQL database.
#[derive(Clone, Debug)]
pub struct SqlStore {
    options: Options,
    database: Arc<Database>,
    /// Permits for concurrent calls.
    room: Arc<Semaphore>,
    /// Set once the schema is up to date.
    writers: Arc<OnceLock<Writers>>,
    feed: Arc<Feed>,
    token_key: Arc<TtlCache<TokenKey>>,
    /// The fault of the last failed `prepare`, if known.
    unprepared: Arc<Mutex<Option<Fault>>>,
}

impl SqlStore {
    /// Starts the writers. Assumes that the schema is up to date.
    pub fn attach(&self) {
        self.writers.get_or_init(|| writer::start(&self.database, &self.options));
    }

    /// The database engine.
    pub fn engine(&self) -> Engine {
        self.database.engine()
    }

    /// The durability settings of a write connection, as pairs of name and value.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn durability(&self) -> Result<Vec<(String, String)>, Error> {
        self.prepared()?.durability().await
    }

    /// Deletes stored responses older than 24 hours, and change log entries older than `keep_log`
    /// (`None` keeps all entries).
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn sweep(
        &self,
        now: DateTime<Utc>,
        keep_log: Option<TimeDelta>,
    ) -> Result<(), Error> {
        sweep(self.prepared()?, now, keep_log).await
    }

    /// Waits until every admitted call has ended. Admits no further call.
    pub async fn finish(&self) {
        let all = u32::try_from(self.options.max_in_flight).unwrap_or(u32::MAX);
        // Fails only if `finish` was called before.
        let _ = self.room.acquire_many(all).await;
        self.room.close();
    }

    /// Closes every connection once its current work is done.
    pub async fn close(self) {
        self.database.close().await;
    }

    /// The memory budget of subscriptions.
    pub fn watch_budget(&self) -> &Arc<WatchBudget> {
        self.feed.budget()
    }

    /// Acquires the permit for one call, without waiting.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| Error::Overloaded)
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    fn unprepared(&self) -> Fault {
        let fault = self.unprepared.lock().unwrap_or_else(PoisonError::into_inner);
        fault.unwrap_or(Fault::NotPrepared)
    }

    /// The database, once its schema is up to date.
    pub(super) fn prepared(&self) -> Result<&Database, Error> {
        self.writers.get().map(|_| &*self.database).ok_or_else(not_prepared)
    }
}

fn not_prepared() -> Error {
    Error::Unavailable("the database is not prepared yet".into())
}

#[async_trait]
impl Store for SqlStore {
    fn room(&self) -> usize {
        self.options.max_in_flight
    }

    async fn apply(
        &self,
        call: &CallContext,
        update: Update,
        now: DateTime<Utc>,
    ) -> Result<Updated, Error> {
        let writers = self.writers.get().ok_or_else(not_prepared)?;
        let room = self.admit()?;
        if update.validate_only {
            // Nothing is stored, so no lock is needed.
            let snapshot = self.database.load(call, &LoadPlan::of([&update])).await?;
            return Ok(rules::apply(&update, now, &snapshot)?.0);
        }
        writers.apply(call.clone(), update, now, room).await
    }

    async fn apply_all(
        &self,
        call: &CallContext,
        updates: Vec<Update>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Updated>, Error> {
        let writers = self.writers.get().ok_or_else(not_prepared)?;
        writers.apply_all(call.clone(), updates, now, self.admit()?).await
    }

    async fn read(&self, call: &CallContext, actor: &Actor, user_id: i64) -> Result<User, Error> {
        let _room = self.admit()?;
        let mut plan = LoadPlan::default();
        plan.add_read(actor, user_id);
        let snapshot = self.prepared()?.load(call, &plan).await?;
        rules::read(actor, user_id, &snapshot).cloned()
    }

    async fn list(
        &self,
        call: &CallContext,
        actor: &Actor,
        query: &UserQuery,
    ) -> Result<Listed<ListedUser>, Error> {
        let _room = self.admit()?;
        self.prepared()?.list(call, actor, query).await
    }

    async fn list_changes(
        &self,
        call: &CallContext,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Listed<LoggedChange>, Error> {
        let _room = self.admit()?;
        self.prepared()?.list_changes(call, actor, query).await
    }

    async fn visibility(
        &self,
        call: &CallContext,
        actor: &Actor,
        user_id: Option<i64>,
    ) -> Result<Visibility, Error> {
        self.prepared()?.visibility(call, actor, user_id).await
    }

    async fn watch(
        &self,
        call: &CallContext,
        start: WatchStart,
        watched: SubscriptionFilter,
        caller: &str,
    ) -> Result<Box<dyn Watch>, Error> {
        self.prepared()?;
        Ok(Box::new(self.feed.watch(&call.span, start, watched, caller).await?))
    }

    async fn position(&self, call: &CallContext) -> Result<Position, Error> {
        let _room = self.admit()?;
        self.prepared()?;
        self.feed.position(&call.span).await
    }

    async fn token_key(&self, call: &CallContext) -> Result<TokenKey, Error> {
        let database = self.prepared()?;
        let load = async {
            let (_room, lease) = database.own_work().await?;
            let key = token_key::load(&*lease);
            let key = own_statement(database.engine(), &call.span, "SELECT", "token_keys", key);
            let key = key.await;
            let key = lease.note(key)?;
            lease.done();
            Ok(key)
        };
        self.token_key.get(load).await
    }

    async fn administer(&self, call: &CallContext, actor: &Actor) -> Result<(), Error> {
        let _room = self.admit()?;
        let mut plan = LoadPlan::default();
        plan.add_actor(actor);
        rules::administer(actor, &self.prepared()?.load(call, &plan).await?)
    }

    async fn settings(&self, call: &CallContext) -> Result<Settings, Error> {
        let _room = self.admit()?;
        self.prepared()?.settings(&call.span).await
    }

    async fn update_settings(
        &self,
        call: &CallContext,
        by: (&Administrator, DateTime<Utc>),
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        let _room = self.admit()?;
        self.prepared()?.update_settings(&call.span, by, change).await
    }

    async fn log_administration(
        &self,
        call: &CallContext,
        by: (&Administrator, DateTime<Utc>),
        change: AdminChange,
    ) -> Result<(), Error> {
        let _room = self.admit()?;
        let administration = self.prepared()?.administration(&call.span).await?;
        administration.end(by, Ok(((), vec![change]))).await
    }

    async fn administration_log(
        &self,
        call: &CallContext,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<AdminEntry>, Error> {
        let _room = self.admit()?;
        self.prepared()?.administration_log(&call.span, before, limit).await
    }

    async fn ready(&self) -> Result<(), NotReady> {
        let Some(writers) = self.writers.get() else {
            return Err(NotReady { fault: self.unprepared(), cause: not_prepared().into() });
        };
        writers.probe(&self.database).await.map_err(Into::into)
    }
}
