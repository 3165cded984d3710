//! Limits for the elements of repeated request fields.
//!
//! A decoded element takes far more memory than its encoding: an empty update takes two bytes on
//! the wire and hundreds in memory. So elements are counted before decoding.

use std::collections::HashMap;

use prost_types::{
    DescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use crate::{domain::error::Error, networks::MAX_NETWORKS, retirement::MAX_BROWNOUTS};

/// Maximum updates of a batch.
pub(crate) const MAX_BATCH_SIZE: usize = 1000;
/// Maximum paths of a mask. All fields and groups together are fewer.
pub(crate) const MAX_MASK_PATHS: usize = 100;
/// Maximum hash recipes of the settings.
pub(crate) const MAX_HASH_RECIPES: usize = 10;
/// Maximum doors of a watch.
pub(crate) const MAX_DOORS: usize = 10;
/// Maximum [`FieldLimit`]s of a request.
const MAX_REPEATED_FIELDS: usize = 16;

/// Names the whole message in errors. No field of a request has this name.
const MESSAGE: &str = "message";

/// Element counts, by [`FieldLimit::slot`].
type Counts = [usize; MAX_REPEATED_FIELDS];

/// The limits of one request message.
#[derive(Debug)]
pub(in crate::grpc) struct ElementLimits(Vec<FieldLimit>);

/// A field that is repeated or contains a repeated field.
#[derive(Debug)]
struct FieldLimit {
    tag: u32,
    /// The path in the request.
    name: &'static str,
    /// Maximum elements in the whole request; `None` for a field that is not repeated.
    max: Option<usize>,
    slot: usize,
    /// Whether the field may use the packed encoding.
    is_packable: bool,
    children: Vec<FieldLimit>,
}

impl ElementLimits {
    /// Builds the limits of a message; `messages` holds every message by its name.
    pub(super) fn of(message: &str, messages: &HashMap<String, &DescriptorProto>) -> Self {
        Self(limits(message, "", 1, messages, &mut 0))
    }

    /// Counts the elements of an encoded request. Returns the largest count of a top-level field.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if a field has too many elements, or the bytes are malformed.
    pub(super) fn check(&self, encoded: &[u8]) -> Result<usize, Error> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let mut counts = [0; MAX_REPEATED_FIELDS];
        count(&self.0, encoded, &mut counts)?;
        Ok(self.0.iter().map(|limit| counts[limit.slot]).max().unwrap_or_default())
    }

    /// Whether the beginning of an encoded request already has too many elements.
    pub(super) fn are_exceeded_by(&self, beginning: &[u8]) -> bool {
        // Other errors come from the cut, or appear again in the whole message.
        matches!(self.check(beginning), Err(Error::InvalidRequest { field, .. }) if field != MESSAGE)
    }
}

/// The limits of a message's fields. A request holds at most `instances` of the message.
fn limits(
    message: &str,
    parent: &str,
    instances: usize,
    messages: &HashMap<String, &DescriptorProto>,
    next_slot: &mut usize,
) -> Vec<FieldLimit> {
    let mut limits = Vec::new();
    for field in messages.get(message).into_iter().flat_map(|message| &message.field) {
        let separator = if parent.is_empty() { "" } else { "." };
        let path = format!("{parent}{separator}{}", field.name());
        let is_repeated = field.label() == Label::Repeated;
        let max = is_repeated.then(|| max_elements(field.name()) * instances);
        let is_message = field.r#type() == Type::Message;
        let children = if is_message {
            let instances = max.unwrap_or(instances);
            self::limits(field.type_name(), &path, instances, messages, next_slot)
        } else {
            Vec::new()
        };
        if !is_repeated && children.is_empty() {
            continue;
        }
        let slot = *next_slot;
        *next_slot += 1;
        limits.push(FieldLimit {
            tag: field.number().cast_unsigned(),
            name: path.leak(),
            max,
            slot,
            is_packable: !is_message && !matches!(field.r#type(), Type::String | Type::Bytes),
            children,
        });
    }
    limits
}

/// Maximum elements of a repeated field in one message.
fn max_elements(field: &str) -> usize {
    match field {
        "requests" => MAX_BATCH_SIZE,
        "hash_recipes" => MAX_HASH_RECIPES,
        "allowed_networks" | "networks" => MAX_NETWORKS,
        "brownouts" => MAX_BROWNOUTS,
        "doors" => MAX_DOORS,
        // Mask paths, and fields that are added later.
        _ => MAX_MASK_PATHS,
    }
}

fn count(limits: &[FieldLimit], mut encoded: &[u8], counts: &mut Counts) -> Result<(), Error> {
    while !encoded.is_empty() {
        let (tag, content) = next_field(&mut encoded).ok_or_else(malformed)?;
        let Some(limit) = limits.iter().find(|limit| limit.tag == tag) else { continue };
        if let (Some(max), Some(count)) = (limit.max, counts.get_mut(limit.slot)) {
            // Each number of a packed field takes at least one byte.
            let packed = content.filter(|_| limit.is_packable).map(<[u8]>::len);
            *count += packed.unwrap_or(1);
            if *count > max {
                let problem = format!("has more than {max} elements");
                return Err(Error::InvalidRequest { field: limit.name, problem });
            }
        }
        if let Some(content) = content.filter(|_| !limit.children.is_empty()) {
            self::count(&limit.children, content, counts)?;
        }
    }
    Ok(())
}

/// The error for a message that cannot be decoded.
pub(in crate::grpc) fn malformed() -> Error {
    let problem = "is not a valid encoding of the request message".to_owned();
    Error::InvalidRequest { field: MESSAGE, problem }
}

/// Splits off the next field: its tag, and its content if it is length-delimited.
fn next_field<'a>(encoded: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let key = varint(encoded)?;
    let tag = u32::try_from(key >> 3).ok().filter(|tag| *tag > 0)?;
    let content = match key & 7 {
        0 => varint(encoded).map(|_| None)?,
        1 => take(encoded, 8).map(|_| None)?,
        2 => {
            let length = usize::try_from(varint(encoded)?).ok()?;
            Some(take(encoded, length)?)
        }
        5 => take(encoded, 4).map(|_| None)?,
        // The API has no groups.
        _ => return None,
    };
    Some((tag, content))
}

fn take<'a>(encoded: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = encoded.split_at_checked(length)?;
    *encoded = rest;
    Some(taken)
}

fn varint(encoded: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = encoded.split_first()?;
        *encoded = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FieldMask;

    use super::*;
    use crate::{
        grpc::layers::method::Route,
        proto::{
            BatchUpdateUserDetailsRequest, Settings, UpdateSettingsRequest,
            UpdateUserDetailsRequest,
        },
    };

    fn check(method: &str, request: &impl Message) -> Result<usize, String> {
        check_bytes(method, &request.encode_to_vec())
    }

    fn check_bytes(method: &str, encoded: &[u8]) -> Result<usize, String> {
        let route = Route::of(&format!("/m4.userdetails.v1.{method}"));
        route.method().unwrap().elements.check(encoded).map_err(|error| error.to_string())
    }

    fn masked(paths: usize) -> UpdateUserDetailsRequest {
        let update_mask = Some(FieldMask { paths: vec!["address.city".to_owned(); paths] });
        UpdateUserDetailsRequest { user_id: 300, update_mask, ..Default::default() }
    }

    #[test]
    fn as_many_elements_as_the_api_allows_pass_and_one_more_is_refused() {
        let update = "UserDetailsService/UpdateUserDetails";
        assert!(check(update, &masked(MAX_MASK_PATHS)).is_ok());
        let error = check(update, &masked(MAX_MASK_PATHS + 1)).unwrap_err();
        assert_eq!(error, "update_mask.paths: has more than 100 elements");

        let batch = "UserDetailsService/BatchUpdateUserDetails";
        let updates = |number| BatchUpdateUserDetailsRequest {
            requests: vec![masked(MAX_MASK_PATHS); number],
            ..Default::default()
        };
        assert_eq!(check(batch, &updates(MAX_BATCH_SIZE)), Ok(MAX_BATCH_SIZE));
        let error = check(batch, &updates(MAX_BATCH_SIZE + 1)).unwrap_err();
        assert_eq!(error, "requests: has more than 1000 elements");

        let encoded = updates(MAX_BATCH_SIZE + 2).encode_to_vec();
        let limits = &Route::of(&format!("/m4.userdetails.v1.{batch}")).method().unwrap().elements;
        assert!(limits.are_exceeded_by(&encoded[..encoded.len() - 1]));
        assert!(!limits.are_exceeded_by(&encoded[..encoded.len() / 2 - 1]));
    }

    #[test]
    fn a_mask_that_stands_twice_is_counted_as_one() {
        let encoded = masked(60).encode_to_vec().repeat(2);
        let error = check_bytes("UserDetailsService/UpdateUserDetails", &encoded).unwrap_err();
        assert_eq!(error, "update_mask.paths: has more than 100 elements");
    }

    #[test]
    fn packed_numbers_are_counted_one_by_one() {
        let request = |number| UpdateSettingsRequest {
            settings: Some(Settings { hash_recipes: vec![1; number], ..Default::default() }),
            ..Default::default()
        };
        let method = "SettingsService/UpdateSettings";
        assert!(check(method, &request(MAX_HASH_RECIPES)).is_ok());
        let error = check(method, &request(MAX_HASH_RECIPES + 1)).unwrap_err();
        assert_eq!(error, "settings.hash_recipes: has more than 10 elements");
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let method = "UserDetailsService/UpdateUserDetails";
        for encoded in [&[0x80][..], &[0x0a, 0x05, 0x01], &[0x0b], &[0x00, 0x01], &[0xff; 11]] {
            let error = check_bytes(method, encoded).unwrap_err();
            assert_eq!(error, malformed().to_string(), "{encoded:?}");
        }
    }

    #[test]
    fn every_repeated_field_has_a_slot() {
        fn slots(limits: &[FieldLimit]) -> usize {
            limits.iter().map(|limit| 1 + slots(&limit.children)).sum()
        }
        let mut repeated = 0;
        for method in crate::grpc::layers::method::all() {
            let used = slots(&method.elements.0);
            assert!(used <= MAX_REPEATED_FIELDS, "{}", method.name);
            repeated += used;
        }
        assert!(repeated > 5, "the descriptors are not read");
    }
}
