//! Limits the subscriptions of a replica, and the share of each caller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::domain::error::Error;

/// Maximum number of subscriptions per replica.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 1024;
/// Maximum number of subscriptions per caller.
pub(crate) const MAX_PER_CALLER: usize = MAX_SUBSCRIPTIONS / 4;

/// Counts the taken places.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_caller: HashMap<String, usize>,
}

impl Places {
    /// Takes a place for a caller.
    pub(super) fn take(self: &Arc<Self>, caller: &str) -> Result<Place, Error> {
        let mut taken = self.taken();
        let own = taken.by_caller.get(caller).copied().unwrap_or_default();
        if taken.total >= MAX_SUBSCRIPTIONS || own >= MAX_PER_CALLER {
            return Err(Error::Overloaded);
        }
        taken.total += 1;
        taken.by_caller.insert(caller.to_owned(), own + 1);
        Ok(Place { places: Arc::clone(self), caller: caller.to_owned() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one subscription, released on drop.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    caller: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.total -= 1;
        if let Some(own) = taken.by_caller.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                taken.by_caller.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_gets_a_quarter_of_the_places() {
        let places = Arc::new(Places::default());
        let take = |caller: &str| -> Vec<_> {
            std::iter::from_fn(|| places.take(caller).ok()).take(MAX_SUBSCRIPTIONS + 1).collect()
        };
        let first = take("first");
        assert_eq!(first.len(), MAX_PER_CALLER);
        let others: Vec<_> = ["second", "third", "fourth"].into_iter().flat_map(take).collect();
        assert_eq!(others.len(), MAX_SUBSCRIPTIONS - MAX_PER_CALLER);
        assert!(matches!(places.take("fifth"), Err(Error::Overloaded)));
        drop(first);
        assert_eq!(take("first").len(), MAX_PER_CALLER);
        drop(others);
        let taken = places.taken();
        assert!(taken.by_caller.is_empty() && taken.total == 0);
    }
}
