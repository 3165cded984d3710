//! The change log reader of a replica.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};

use super::{
    gaps::Gaps,
    notify,
    page_size::PageSize,
    recent::{Announced, ContiguousEnd, Found},
    state::Feed,
};
use crate::{
    domain::{
        error::{Error, chain},
        watch::{Position, SharedChange},
    },
    storage::{connect::Engine, database::Database},
    trace::Span,
};

/// Poll interval without wake-up calls.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Poll interval on engines where other replicas cannot send wake-up calls.
const FAST_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Minimum time between two polls: bounds the cost under many writes.
const POLL_BACKOFF: Duration = Duration::from_millis(15);
/// Backoff after a failure.
const READ_BACKOFF: Duration = Duration::from_secs(1);
/// Interval between checks that the log still has the newest seen entry.
const END_INTERVAL: Duration = Duration::from_secs(2);
/// Number of newest entries in the first read: more than open transactions can have written.
const FIRST_LOOK: u64 = 50_000;
/// Text bytes of a page, after which reading stops.
const PAGE_BYTES: usize = 1 << 20;

/// The reader's position, and a receiver of all later entries. Starts the reader if needed.
pub(super) async fn subscribe(
    feed: &Arc<Feed>,
    span: &Span,
) -> Result<(Position, broadcast::Receiver<Announced>), Error> {
    let mut tail = feed.tail.lock().await;
    let position = match &*tail {
        Some(position) => position.clone(),
        None => {
            let position = start(&feed.database, span).await?;
            *tail = Some(position.clone());
            tokio::spawn(run(Arc::clone(feed)));
            position
        }
    };
    Ok((position, feed.recent.subscribe()))
}

/// The position after all visible entries.
pub(super) async fn start(database: &Database, span: &Span) -> Result<Position, Error> {
    // SQLite has one writer: no open transaction can fill an older gap.
    let look = if database.engine() == Engine::Sqlite { 1 } else { FIRST_LOOK };
    let ids = database.newest_changes(span, look).await?;
    let mut position = Position::default();
    if ids.len() as u64 == look {
        // No open transaction can fill an older gap.
        ids.last().into_iter().for_each(|id| position.observe_without_gap(*id));
    }
    ids.into_iter().rev().for_each(|id| position.observe(id));
    note_time(database, span, &mut position).await?;
    Ok(position)
}

/// Sets the time of the newest seen entry, if unknown.
pub(super) async fn note_time(
    database: &Database,
    span: &Span,
    position: &mut Position,
) -> Result<(), Error> {
    let newest = position.seen();
    if position.time().is_none()
        && let Some(time) = database.time_of_change(span, newest).await?
    {
        position.note_time(newest, time);
    }
    Ok(())
}

/// Runs the reader while there are subscriptions.
async fn run(feed: Arc<Feed>) {
    let read = async || {
        tokio::select! {
            () = read(&feed) => {}
            () = notify::listen(&feed.database) => {}
        }
    };
    while AssertUnwindSafe(read()).catch_unwind().await.is_err() {
        tracing::error!("the reader of the change log has panicked");
        sleep(READ_BACKOFF).await;
    }
}

async fn read(feed: &Feed) {
    let interval = match feed.database.engine() {
        Engine::MySql => FAST_POLL_INTERVAL,
        Engine::Sqlite | Engine::Postgres => POLL_INTERVAL,
    };
    let mut gaps = Gaps::new(feed.database.engine(), feed.database.snapshot_interval());
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
        sleep(POLL_BACKOFF).await;
        let mut tail = feed.tail.lock().await;
        if !feed.recent.has_subscriptions() {
            feed.recent.clear();
            *tail = None;
            return;
        }
    }
}

/// Reads one page. Returns whether more entries may follow.
async fn look(feed: &Feed, gaps: &mut Gaps, size: &mut PageSize) -> bool {
    // Only the reader changes the position.
    let Some(mut position) = feed.tail.lock().await.clone() else { return false };
    let read = async {
        // Before the page: the page must show the entries of ended transactions.
        let ended = gaps.ended(&feed.database, &position).await?;
        // Require a server with all seen entries: an old primary lacks other servers' entries.
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
            sleep(READ_BACKOFF).await;
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
        // Entries beyond the page are not missing.
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

/// Whether the log still has the newest seen entry. If not, ends every subscription; the next
/// subscription starts a new reader.
async fn has_end(feed: &Feed) -> bool {
    let mut tail = feed.tail.lock().await;
    let Some(position) = &*tail else { return true };
    // Other errors are handled elsewhere.
    if !matches!(
        feed.check_end(&Span::default(), position).await,
        Err(Error::InvalidRequest { .. })
    ) {
        return true;
    }
    tracing::error!("the change log was replaced: its database was restored, or has lost entries");
    feed.recent.push(Found {
        entries: Vec::new(),
        contiguous_end: ContiguousEnd::default(),
        is_cut: true,
    });
    *tail = None;
    false
}
