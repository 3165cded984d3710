//! Positions in the change log.

use chrono::{DateTime, Utc};

/// The entries that a subscription has seen: all ids up to `seen`, except `missing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    seen: i64,
    /// The time of the entry `seen`, if known. In a restored log, another entry has this id.
    time: Option<DateTime<Utc>>,
    /// The first and last id of each gap: ascending, disjoint, below `seen`.
    missing: Vec<(i64, i64)>,
}

impl Position {
    /// `None` if `seen` is negative or the gaps are not ascending, disjoint and below `seen`.
    pub fn new(seen: i64, missing: Vec<(i64, i64)>) -> Option<Self> {
        let mut next = 0;
        let in_order = missing.iter().all(|(first, last)| {
            let behind = *first >= next && first <= last;
            next = last.saturating_add(1);
            behind
        });
        (seen >= 0 && in_order && (missing.is_empty() || next <= seen)).then_some(Self {
            seen,
            time: None,
            missing,
        })
    }

    /// The largest id that was seen.
    pub fn seen(&self) -> i64 {
        self.seen
    }

    /// The time of the entry with the largest seen id, if known.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        self.time
    }

    /// Records the time of an entry if its id is the largest seen.
    pub fn note_time(&mut self, id: i64, time: DateTime<Utc>) {
        if id == self.seen {
            self.time = Some(time);
        }
    }

    /// The first and last id of each gap, ascending.
    pub fn missing(&self) -> &[(i64, i64)] {
        &self.missing
    }

    /// The largest id up to which nothing is missing.
    pub fn contiguous_up_to(&self) -> i64 {
        self.missing.first().map_or(self.seen, |(first, _)| first - 1)
    }

    /// Whether an entry was seen.
    pub fn contains(&self, id: i64) -> bool {
        let index = self.missing.partition_point(|(_, last)| *last < id);
        id <= self.seen && self.missing.get(index).is_none_or(|(first, _)| id < *first)
    }

    /// Marks an entry as seen. The ids between the previous largest id and `id` become a gap.
    pub fn observe(&mut self, id: i64) {
        if id > self.seen {
            if id > self.seen + 1 {
                self.missing.push((self.seen + 1, id - 1));
            }
            (self.seen, self.time) = (id, None);
        } else {
            self.fill(id);
        }
    }

    /// Marks an entry as seen and opens no gap, because no relevant entry lies in between.
    pub fn observe_without_gap(&mut self, id: i64) {
        self.fill(id);
        if id > self.seen {
            (self.seen, self.time) = (id, None);
        }
    }

    /// Closes the gaps up to an id: their transactions were rolled back.
    pub fn expire_gaps(&mut self, id: i64) {
        self.missing.retain_mut(|(first, last)| {
            *first = (*first).max(id.saturating_add(1));
            *first <= *last
        });
        if self.missing.capacity() > 2 * self.missing.len() + MIN_CAPACITY {
            self.missing.shrink_to_fit();
        }
    }

    /// The memory of the gaps, in bytes.
    pub fn memory(&self) -> usize {
        self.missing.capacity() * size_of::<(i64, i64)>()
    }

    fn fill(&mut self, id: i64) {
        let index = self.missing.partition_point(|(_, last)| *last < id);
        let Some((first, last)) = self.missing.get(index).copied() else { return };
        if id < first {
            return;
        }
        let parts = [(first, id - 1), (id + 1, last)];
        self.missing.splice(index..=index, parts.into_iter().filter(|(first, last)| first <= last));
    }

    /// Encodes the position, without the time, in at most `max_length` bytes for
    /// [`Position::from_bytes`]. A run of equal gaps at equal distances takes the space of one gap:
    /// nodes of a Galera cluster alternate ids and leave such gaps. If the gaps do not fit, the
    /// encoded position ends below the first gap without room, so it contains no unseen entry.
    pub fn to_bytes(&self, max_length: usize) -> Vec<u8> {
        let (mut runs, mut seen, mut end) = (Vec::new(), self.seen, 0);
        let mut room = MAX_GAPS as i64;
        let mut gaps = self.missing.iter().peekable();
        while let Some((first, last)) = gaps.next() {
            let (distance, length) = (first - end, last - first);
            let mut repeats = 0;
            end = *last;
            while let Some((_, last)) = gaps.next_if(|(first, last)| {
                (first.checked_sub(end), last - first) == (Some(distance), length)
            }) {
                (repeats, end) = (repeats + 1, *last);
            }
            let fitting = runs.len();
            [distance, length, repeats].into_iter().for_each(|part| put_varint(&mut runs, part));
            room -= repeats + 1;
            if room < 0 || runs.len() + MAX_VARINT > max_length {
                runs.truncate(fitting);
                seen = first - 1;
                break;
            }
        }
        let mut bytes = Vec::with_capacity(MAX_VARINT + runs.len());
        put_varint(&mut bytes, seen);
        bytes.append(&mut runs);
        bytes
    }

    /// The largest seen id of an encoded position.
    pub fn seen_in(mut bytes: &[u8]) -> Option<i64> {
        take_varint(&mut bytes)
    }

    /// Decodes a position; `None` if malformed.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let seen = take_varint(&mut bytes)?;
        let (mut missing, mut end) = (Vec::new(), 0_i64);
        while !bytes.is_empty() {
            let distance = take_varint(&mut bytes)?;
            let length = take_varint(&mut bytes)?;
            for _ in 0..=take_varint(&mut bytes)? {
                if missing.len() == MAX_GAPS {
                    return None;
                }
                let first = end.checked_add(distance)?;
                end = first.checked_add(length)?;
                missing.push((first, end));
            }
        }
        Self::new(seen, missing)
    }
}

/// Gap capacity that a position keeps after its gaps close.
const MIN_CAPACITY: usize = 256;

/// Maximum gaps of an encoded position: more than the ids that are unsettled at one time.
const MAX_GAPS: usize = 1 << 17;

/// The longest varint of a non-negative `i64`, in bytes.
const MAX_VARINT: usize = 9;

/// Appends a non-negative number, 7 bits per byte, lowest first.
fn put_varint(bytes: &mut Vec<u8>, mut number: i64) {
    while number > 0x7f {
        bytes.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0;
    for index in 0..MAX_VARINT {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= i64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_are_opened_filled_and_settled() {
        let mut position = Position::default();
        position.observe(5);
        position.observe(9);
        assert_eq!(position.missing(), [(1, 4), (6, 8)]);
        assert_eq!((position.contiguous_up_to(), position.seen()), (0, 9));
        position.observe(7);
        assert_eq!(position.missing(), [(1, 4), (6, 6), (8, 8)]);
        assert!(position.contains(7) && !position.contains(8) && !position.contains(10));
        position.expire_gaps(3);
        assert_eq!(position.missing(), [(4, 4), (6, 6), (8, 8)]);
        position.expire_gaps(8);
        assert_eq!((position.missing().len(), position.contiguous_up_to()), (0, 9));
        position.observe_without_gap(20);
        assert!(position.missing().is_empty() && position.contains(15));
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for (seen, missing) in
            [(-1, vec![]), (5, vec![(3, 2)]), (5, vec![(3, 5)]), (9, vec![(4, 5), (5, 6)])]
        {
            assert_eq!(Position::new(seen, missing), None);
        }
        assert!(Position::new(9, vec![(4, 5), (7, 8)]).is_some());
    }

    proptest! {
        #[test]
        fn whatever_the_order_each_id_is_seen_once(ids in Just((1..60_i64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut position = Position::default();
            for (index, id) in ids.iter().enumerate() {
                prop_assert!(!position.contains(*id));
                position.observe(*id);
                prop_assert!(ids[..=index].iter().all(|id| position.contains(*id)));
                let again = Position::new(position.seen(), position.missing().to_vec());
                prop_assert_eq!(again.as_ref(), Some(&position));
            }
            prop_assert!(position.missing().is_empty());
        }

        #[test]
        fn a_compact_form_that_fits_is_exact(position in positions(300)) {
            let bytes = position.to_bytes(10_000);
            prop_assert_eq!(Position::from_bytes(&bytes), Some(position));
        }

        #[test]
        fn a_compact_form_without_room_never_contains_an_unseen_entry(
            position in positions(300),
            max_length in 9..600_usize,
        ) {
            let bytes = position.to_bytes(max_length);
            prop_assert!(bytes.len() <= max_length);
            let short = Position::from_bytes(&bytes).unwrap();
            prop_assert!(short.contiguous_up_to() >= position.contiguous_up_to() && short.seen() <= position.seen());
            for id in 0..=position.seen().min(2000) {
                prop_assert!(!short.contains(id) || position.contains(id), "{id}");
                prop_assert_eq!(short.contains(id), position.contains(id) && id <= short.seen());
            }
        }

        #[test]
        fn arbitrary_bytes_are_a_position_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(position) = Position::from_bytes(&bytes) {
                let again = Position::new(position.seen(), position.missing().to_vec());
                prop_assert_eq!(again, Some(position));
            }
        }
    }

    /// Positions of up to `most` gaps, with small and with large ids.
    fn positions(most: usize) -> impl Strategy<Value = Position> {
        let step = prop_oneof![4 => 1..4_i64, 1 => 1..1_i64 << 40];
        prop::collection::vec((step.clone(), step), 0..most).prop_map(|gaps| {
            let mut position = Position::default();
            for (seen, missing) in gaps {
                (0..seen.min(3)).for_each(|_| position.observe(position.seen() + 1));
                // This makes runs of equal gaps at equal distances.
                (0..missing.min(3)).for_each(|_| position.observe(position.seen() + missing + 1));
            }
            position
        })
    }

    #[test]
    fn fifty_thousand_gaps_fit_in_two_kilobytes() {
        let mut regular = Position::default();
        (1..=50_000).for_each(|number| regular.observe(number * 3));
        let bytes = regular.to_bytes(1536);
        assert!(bytes.len() < 20, "{}", bytes.len());
        assert_eq!(Position::from_bytes(&bytes), Some(regular));
        let mut irregular = Position::default();
        (1..=50_000).for_each(|number| irregular.observe(number * 3 + number % 2));
        assert_eq!(irregular.missing().len(), 50_000);
        let bytes = irregular.to_bytes(1536);
        assert!(bytes.len() <= 1536);
        let short = Position::from_bytes(&bytes).unwrap();
        assert!(short.missing().len() > 500, "{}", short.missing().len());
        assert!((1..=short.seen()).all(|id| short.contains(id) == irregular.contains(id)));
    }

    #[test]
    fn a_compact_form_of_too_many_gaps_can_be_read() {
        let mut position = Position::new(9, vec![(4, 5)]).unwrap();
        (10..300_000).for_each(|number| position.observe(number * 2));
        let short = Position::from_bytes(&position.to_bytes(1536)).unwrap();
        assert_eq!(short, Position::new(20, vec![(4, 5), (10, 19)]).unwrap());
    }

    #[test]
    fn a_compact_form_cannot_ask_for_memory_without_end() {
        let mut bytes = Vec::new();
        [i64::MAX, 1, 0, i64::MAX].into_iter().for_each(|part| put_varint(&mut bytes, part));
        assert_eq!(Position::from_bytes(&bytes), None);
    }
}
