//! Instruments that are bound to their attributes on first use, one per series. A lookup takes a
//! quarter of the instructions of passing attributes to the SDK each time.

use std::{
    hash::{Hash, Hasher},
    ptr,
    sync::RwLock,
};

use foldhash::HashMap;
use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram, Counter, Histogram},
};

/// Text compared by address. Duplicate texts bind the same series twice, which is harmless.
#[derive(Clone, Copy)]
pub(super) struct Name(pub(super) &'static str);

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ptr().hash(state);
    }
}

/// A histogram and its bound series. The key stands for the attributes.
pub(super) struct Histograms<K> {
    histogram: Histogram<f64>,
    kept: RwLock<HashMap<K, BoundHistogram<f64>>>,
}

impl<K: Copy + Eq + Hash> Histograms<K> {
    pub(super) fn new(histogram: Histogram<f64>) -> Self {
        Self { histogram, kept: RwLock::default() }
    }

    /// Records a value of a frequent series.
    pub(super) fn record(&self, key: K, value: f64, attributes: impl FnOnce() -> Vec<KeyValue>) {
        let bind = || self.histogram.bind(&attributes());
        with(&self.kept, key, bind, |bound| bound.record(value));
    }

    /// Records a value of a rare series.
    pub(super) fn record_rarely(&self, value: f64, attributes: &[KeyValue]) {
        self.histogram.record(value, attributes);
    }
}

/// A counter and its bound series.
pub(super) struct Counters<K> {
    counter: Counter<u64>,
    kept: RwLock<HashMap<K, BoundCounter<u64>>>,
}

impl<K: Copy + Eq + Hash> Counters<K> {
    pub(super) fn new(counter: Counter<u64>) -> Self {
        Self { counter, kept: RwLock::default() }
    }

    /// Adds to a series.
    pub(super) fn add(&self, key: K, number: u64, attributes: impl FnOnce() -> Vec<KeyValue>) {
        let bind = || self.counter.bind(&attributes());
        with(&self.kept, key, bind, |bound| bound.add(number));
    }
}

/// Uses a bound instrument; `bind` creates it on first use.
fn with<K: Eq + Hash, I>(
    kept: &RwLock<HashMap<K, I>>,
    key: K,
    bind: impl FnOnce() -> I,
    measure: impl FnOnce(&I),
) {
    if let Some(bound) = kept.read().ok().as_ref().and_then(|kept| kept.get(&key)) {
        return measure(bound);
    }
    if let Ok(mut kept) = kept.write() {
        measure(kept.entry(key).or_insert_with(bind));
    }
}
