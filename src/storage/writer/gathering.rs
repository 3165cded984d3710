//! How long the writers of a server wait for more updates.

use std::{
    pin::{Pin, pin},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::MaybeDone;
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

use super::queue::{MAX_GROUP_UPDATES, Work};

/// Decides how many updates a transaction takes.
pub(super) struct Gathering {
    /// The longest time that a writer waits for a group as large as the other writer's.
    patience: Duration,
    /// The number of updates that the writers run now.
    under_way: AtomicUsize,
    /// Notified when a writer ends its transaction.
    ended: Notify,
}

/// Counts updates as running until dropped.
pub(super) struct UnderWay<'a>(&'a Gathering, usize);

impl<'a> UnderWay<'a> {
    pub(super) fn new(gathering: &'a Gathering, number: usize) -> Self {
        gathering.under_way.fetch_add(number, Ordering::Relaxed);
        Self(gathering, number)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(self.1, Ordering::Relaxed);
        self.0.ended.notify_waiters();
    }
}

impl Gathering {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, under_way: AtomicUsize::new(0), ended: Notify::new() }
    }

    /// Receives work while the transaction begins, unless it `begins_later`, and until the group is
    /// as large as the other writer's. After a transaction, callers send their next updates one by
    /// one: an early start would create many small transactions.
    pub(super) async fn gather(
        &self,
        queue: &mut mpsc::UnboundedReceiver<Work>,
        work: &mut Vec<Work>,
        mut begin: Pin<&mut MaybeDone<impl Future>>,
        begins_later: bool,
    ) {
        let mut patience = pin!(sleep(self.patience));
        loop {
            let ended = self.ended.notified();
            let room = MAX_GROUP_UPDATES - work.len();
            let has_begun = matches!(*begin, MaybeDone::Done(_));
            let begins =
                !begins_later && !has_begun && work.iter().any(|work| matches!(work, Work::One(_)));
            let other = self.under_way.load(Ordering::Relaxed);
            let enough = self.patience.is_zero() || work.len() >= other;
            if room == 0 || (enough && !begins) {
                return;
            }
            // `recv_many` is cancel safe: a cancelled branch loses no work.
            tokio::select! {
                biased;
                () = begin.as_mut(), if begins => {}
                more = queue.recv_many(work, room) => if more == 0 { return },
                () = ended => {}
                () = patience.as_mut() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::future::maybe_done;
    use tokio::time::Instant;

    use super::*;

    const GATHER_TIME: Duration = Duration::from_secs(2);

    /// The number of updates taken, and how long that took. One update is there, and `more` follow,
    /// one per second. Another writer runs `under_way` updates, which end after `ends`.
    async fn gathered(
        patience: Duration,
        under_way: usize,
        more: usize,
        ends: Duration,
    ) -> (usize, Duration) {
        let gathering = Gathering::new(patience);
        let (sender, mut queue) = mpsc::unbounded_channel();
        let mut work = vec![Work::Wake];
        let mut begin = pin!(maybe_done(std::future::ready(())));
        let begun = Instant::now();
        let others = async {
            let _under_way = UnderWay::new(&gathering, under_way);
            sleep(ends).await;
        };
        let senders = async {
            for _ in 0..more {
                sleep(Duration::from_secs(1)).await;
                let _ = sender.send(Work::Wake);
            }
            std::future::pending::<()>().await;
        };
        let taken = async {
            gathering.gather(&mut queue, &mut work, begin.as_mut(), false).await;
            (work.len(), begun.elapsed())
        };
        tokio::select! {
            biased;
            ((), taken) = async { tokio::join!(others, taken) } => taken,
            () = senders => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_are_taken_as_are_under_way_elsewhere() {
        let never = Duration::from_secs(60);
        let seconds = Duration::from_secs;
        assert_eq!(gathered(GATHER_TIME, 0, 1, never).await, (1, seconds(0)));
        assert_eq!(gathered(GATHER_TIME, 1, 1, never).await, (1, seconds(0)));
        assert_eq!(gathered(GATHER_TIME, 2, 1, never).await, (2, seconds(1)));
        assert_eq!(gathered(GATHER_TIME, 3, 1, never).await, (2, GATHER_TIME));
        assert_eq!(
            gathered(GATHER_TIME, 2, 0, Duration::from_millis(300)).await,
            (1, Duration::from_millis(300))
        );
        assert_eq!(gathered(Duration::ZERO, 3, 1, never).await, (1, seconds(0)));
    }

    /// On a Galera cluster, an update that joins after `BEGIN` could read a stale row.
    #[tokio::test(start_paused = true)]
    async fn a_transaction_that_begins_later_is_not_begun_while_updates_gather() {
        let gathering = Gathering::new(GATHER_TIME);
        let (_sender, mut queue) = mpsc::unbounded_channel();
        let mut work = vec![Work::Wake];
        let mut begin = pin!(maybe_done(std::future::poll_fn(|_| -> Poll<()> {
            panic!("it begins while updates gather")
        })));
        let _other = UnderWay::new(&gathering, 2);
        gathering.gather(&mut queue, &mut work, begin.as_mut(), true).await;
        assert_eq!(work.len(), 1);
    }
}
