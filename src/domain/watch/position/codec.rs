//! The encoded form of a position, in resume tokens.

use super::Position;

impl Position {
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

    proptest! {
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
