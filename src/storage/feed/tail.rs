//! The one reader of a replica.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::{
    Feed, PageSize,
    gaps::Gaps,
    recent::{ContiguousEnd, Found},
    wake,
};
use crate::{
    domain::{
        error::{Error, chain},
        watch::{Position, SharedChange},
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
/// How often it looks whether the log still has what it had.
const END_INTERVAL: Duration = Duration::from_secs(2);
/// At how many of the newest entries it looks first: more than transactions that are under way can have written.
const FIRST_LOOK: u64 = 50_000;
/// The bytes of texts that it reads at once.
const PAGE_BYTES: usize = 1 << 20;

/// Everything that is visible now.
pub(super) async fn start(database: &Database) -> Result<Position, Error> {
    // On SQLite nothing is under way but what comes next.
    let look = if database.engine() == Engine::Sqlite { 1 } else { FIRST_LOOK };
    let ids = database.newest_changes(look).await?;
    let mut position = Position::default();
    if ids.len() as u64 == look {
        // What is older is settled.
        ids.last().into_iter().for_each(|id| position.observe_without_gap(*id));
    }
    ids.into_iter().rev().for_each(|id| position.observe(id));
    note_time(database, &mut position).await?;
    Ok(position)
}

/// Learns the time of the newest entry that was seen.
pub(super) async fn note_time(database: &Database, position: &mut Position) -> Result<(), Error> {
    let newest = position.seen();
    if position.time().is_none()
        && let Some(time) = database.time_of_change(newest).await?
    {
        position.note_time(newest, time);
    }
    Ok(())
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
    let mut gaps = Gaps::new(feed.database.engine());
    let mut size = PageSize::default();
    let mut end_checked = Instant::now();
    loop {
        tokio::select! {
            () = feed.database.wake().called() => {}
            () = sleep(interval) => {}
        }
        while look(feed, &mut gaps, &mut size).await {}
        if end_checked.elapsed() >= END_INTERVAL {
            end_checked = Instant::now();
            if !has_end(feed).await {
                return;
            }
        }
        sleep(REST).await;
        let mut tail = feed.tail.lock().await;
        if !feed.recent.has_subscriptions() {
            feed.recent.clear();
            *tail = None;
            return;
        }
    }
}

/// Looks once. Answers whether there may be more.
async fn look(feed: &Feed, gaps: &mut Gaps, size: &mut PageSize) -> bool {
    // Nobody else changes it.
    let Some(mut position) = feed.tail.lock().await.clone() else { return false };
    let read = async {
        // Before the page: the page shows what ended transactions have stored.
        let ended = gaps.ended(&feed.database, &position).await?;
        // Of a server that has what was seen: an old primary does not show what others have stored.
        let newest = ended.map_or(0, |_| position.seen());
        let page = feed.database.changes_behind(&position, None, newest, (size.0, PAGE_BYTES));
        let page = page.await?;
        Ok::<_, Error>((ended, page))
    };
    let (ended, page) = match read.await {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(error = chain(&error), "the change log could not be read");
            gaps.no_answer();
            sleep(LONG_REST).await;
            return false;
        }
    };
    let more = size.adapt(page.len(), page.is_cut);
    let mut last = 0;
    for id in page.items.iter().map(|entry| entry.id).chain(page.left_out) {
        position.observe(id);
        last = last.max(id);
    }
    page.items.iter().for_each(|entry| position.note_time(entry.id, entry.time));
    if let Some(ended) = ended {
        // Entries that the page has no room for are not missing.
        position.expire_gaps(if more { ended.min(last) } else { ended });
    }
    let share = |entry| SharedChange::new(entry, &feed.budget);
    let entries = page.items.into_iter().map(share).collect();
    let found = Found { entries, contiguous_end: ContiguousEnd::of(&position), is_cut: false };
    let mut tail = feed.tail.lock().await;
    if !found.entries.is_empty() {
        feed.recent.push(found);
    }
    *tail = Some(position);
    more
}

/// Whether the log still has the newest entry that was seen at its place. If not, every subscription ends, and the
/// next one begins with a new reader.
async fn has_end(feed: &Feed) -> bool {
    let mut tail = feed.tail.lock().await;
    let Some(position) = &*tail else { return true };
    // Whether the database answers is looked at elsewhere.
    if !matches!(feed.check_end(position).await, Err(Error::InvalidRequest { .. })) {
        return true;
    }
    tracing::error!(
        "the change log is not the one that was read: its database was restored, or has lost entries"
    );
    feed.recent.push(Found {
        entries: Vec::new(),
        contiguous_end: ContiguousEnd::default(),
        is_cut: true,
    });
    *tail = None;
    false
}
