//! The one reader of a replica.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::{Feed, Found, PAGE, wake};
use crate::{
    domain::{
        error::{Error, chain},
        watch::Position,
    },
    storage::{connect::Engine, repository::Database},
};

/// How often it looks where nobody calls it.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same where other replicas cannot call it.
const SHORT_INTERVAL: Duration = Duration::from_millis(100);
/// The least time between two looks, so that it is cheap where much is stored.
const REST: Duration = Duration::from_millis(15);
/// How long to wait after a failure.
const LONG_REST: Duration = Duration::from_secs(1);
/// How long an id may be missing before it is settled: twice as long as a transaction that writes may take.
const LONGEST_MISSING: Duration = Duration::from_secs(30);
/// At how many of the newest entries it looks first: more than transactions that are under way can have written.
const FIRST_LOOK: u64 = 50_000;

/// Everything that is visible now.
pub(super) async fn start(database: &Database) -> Result<Position, Error> {
    // On SQLite nothing is under way but what comes next.
    let look = if database.engine() == Engine::Sqlite { 1 } else { FIRST_LOOK };
    let ids = database.newest_changes(look).await?;
    let mut position = Position::default();
    if ids.len() as u64 == look {
        // What is older is settled.
        ids.last().into_iter().for_each(|id| position.see_alone(*id));
    }
    ids.into_iter().rev().for_each(|id| position.see(id));
    Ok(position)
}

/// Reads while anybody watches.
pub(super) async fn run(feed: Arc<Feed>) {
    let read = async || {
        tokio::select! {
            () = read(&feed) => {}
            () = wake::listen(&feed.database) => {}
        }
    };
    while AssertUnwindSafe(read()).catch_unwind().await.is_err() {
        tracing::error!("the reader of the change log has panicked");
        sleep(LONG_REST).await;
    }
}

async fn read(feed: &Feed) {
    let interval = match feed.database.engine() {
        Engine::MySql => SHORT_INTERVAL,
        Engine::Sqlite | Engine::Postgres => INTERVAL,
    };
    // What was seen at a time: what is missing below it then has been missing since.
    let seen = feed.tail.lock().await.as_ref().map_or(0, Position::seen);
    let mut mark = (Instant::now(), seen);
    loop {
        tokio::select! {
            () = feed.database.wake().called() => {}
            () = sleep(interval) => {}
        }
        while look(feed, &mut mark).await {}
        sleep(REST).await;
        let mut tail = feed.tail.lock().await;
        if feed.found.receiver_count() == 0 {
            *tail = None;
            return;
        }
    }
}

/// Looks once. Answers whether there may be more.
async fn look(feed: &Feed, mark: &mut (Instant, i64)) -> bool {
    // Nobody else changes it.
    let Some(mut position) = feed.tail.lock().await.clone() else { return false };
    let entries = match feed.database.changes_behind(&position, None, PAGE).await {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(error = chain(&error), "the change log could not be read");
            sleep(LONG_REST).await;
            return false;
        }
    };
    for entry in &entries {
        position.see(entry.id);
    }
    if mark.0.elapsed() >= LONGEST_MISSING {
        position.settle(mark.1);
        *mark = (Instant::now(), position.seen());
    }
    let more = entries.len() as u64 == PAGE;
    let found = Found { entries, floor: position.floor() };
    let mut tail = feed.tail.lock().await;
    if !found.entries.is_empty() {
        // Nobody may be there any more.
        let _ = feed.found.send(Arc::new(found));
    }
    *tail = Some(position);
    more
}
