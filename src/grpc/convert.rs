//! Converts between proto and domain, driven by the field table.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use prost::Message;
use prost_types::{FieldMask, Timestamp};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::errors::invalid_request;
use crate::{
    domain::{
        account::{User, Username},
        error::Error,
        scope::FieldSet,
        update::{Actor, Change, Edit, Edits, RequestKey},
        value::{ListMode, PartialDate, Value, is_text, micros_to_text},
    },
    fields::{FIELDS, Field, Kind, TEXT_CHARACTERS},
    proto::{self, Leaf},
};

/// Converts the details of an update to edits.
///
/// # Errors
/// [`Error::InvalidRequest`] if the mask repeats a path or names an unknown path.
pub fn edits(mut details: proto::UserDetails, mask: Option<&FieldMask>) -> Result<Edits, Error> {
    let named = mask
        .filter(|mask| !mask.paths.is_empty())
        .map(|mask| masked("update_mask", mask))
        .transpose()?;
    let mut edits = Edits::default();
    for field in FIELDS {
        let leaf = details.take(field);
        match &named {
            Some(named) if !named[field as usize] => {}
            Some(_) if leaf.is_none() => {
                edits.add(field, Some(Edit::Set(Value::cleared(field))));
            }
            _ => {
                if let Some(leaf) = leaf {
                    edits.add(field, edit(field, leaf));
                }
            }
        }
    }
    Ok(edits)
}

/// The fields of a read mask; without a mask, every field.
///
/// # Errors
/// [`Error::InvalidRequest`] if the mask repeats a path or names an unknown path.
pub fn read_mask(mask: Option<&FieldMask>) -> Result<[bool; FIELDS.len()], Error> {
    let mask = mask.filter(|mask| !mask.paths.is_empty());
    mask.map_or(Ok([true; FIELDS.len()]), |mask| masked("read_mask", mask))
}

/// The fields of a mask; `None` without paths.
///
/// # Errors
/// [`Error::InvalidRequest`] if the mask repeats a path or names an unknown path.
pub(in crate::grpc) fn field_set(
    name: &'static str,
    mask: Option<&FieldMask>,
) -> Result<Option<FieldSet>, Error> {
    let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else { return Ok(None) };
    let named = masked(name, mask)?;
    Ok(Some(FIELDS.into_iter().filter(|field| named[*field as usize]).collect()))
}

/// Tells for each field whether the mask names it.
fn masked(name: &'static str, mask: &FieldMask) -> Result<[bool; FIELDS.len()], Error> {
    let mut named = [false; FIELDS.len()];
    for (index, path) in mask.paths.iter().enumerate() {
        let refuse = |problem: &str| {
            let path: String = path.chars().take(100).collect();
            Err(invalid_request(name, format!("the path {path:?} {problem}")))
        };
        // Quadratic, but short: an unknown or repeated path ends the loop.
        if mask.paths[..index].contains(path) {
            return refuse("is named twice");
        }
        if let Some(field) = Field::from_path(path) {
            named[field as usize] = true;
            continue;
        }
        let covers = |field: &Field| field.is_within(path);
        if !FIELDS.iter().any(covers) {
            return refuse("is no field of the details");
        }
        FIELDS.into_iter().filter(covers).for_each(|field| named[field as usize] = true);
    }
    Ok(named)
}

/// The edit of a present field; `None` if its value is not allowed.
fn edit(field: Field, leaf: Leaf) -> Option<Edit> {
    let value = match (field.kind(), leaf) {
        (_, Leaf::Date(date)) => {
            let (year, month, day) = (date.year, date.month, date.day);
            return Some(Edit::Date(PartialDate { year, month, day }));
        }
        (Kind::List { .. }, Leaf::Int32(number)) => Some(Value::List(list_mode(number)?)),
        (_, Leaf::Int64(id)) => Value::id(field, id),
        (_, Leaf::Int32(number)) => Value::integer(field, number),
        (_, Leaf::Bool(flag)) => Some(Value::Flag(flag)),
        (_, Leaf::Text(text)) => Value::text(field, text),
    };
    value.map(Edit::Set)
}

fn list_mode(number: i32) -> Option<ListMode> {
    match proto::ListMode::try_from(number).ok()? {
        proto::ListMode::Unspecified => None,
        proto::ListMode::No => Some(ListMode::No),
        proto::ListMode::Blacklist => Some(ListMode::Blacklist),
        proto::ListMode::Whitelist => Some(ListMode::Whitelist),
    }
}

/// Converts a user to proto.
pub fn user_details(user: User) -> proto::UserDetails {
    masked_details(user, &[true; FIELDS.len()])
}

/// Converts a user to proto, with only the fields of the mask.
pub(super) fn masked_details(user: User, mask: &[bool; FIELDS.len()]) -> proto::UserDetails {
    let mut details = proto::UserDetails {
        user_id: user.id,
        etag: user.etag(),
        username: user.username,
        create_time: Some(timestamp(user.create_time)),
        update_time: Some(timestamp(user.update_time)),
        ..proto::UserDetails::default()
    };
    let mut values = user.values;
    for field in FIELDS.into_iter().filter(|field| mask[*field as usize]) {
        set(&mut details, field, std::mem::replace(&mut values[field], Value::None));
    }
    details
}

/// Converts the old or the new values of changes to proto. Other fields are absent.
pub fn values(changes: Vec<Change>, side: impl Fn(Change) -> Value) -> proto::UserDetails {
    let mut details = proto::UserDetails::default();
    for change in changes {
        set(&mut details, change.field, side(change));
    }
    details
}

fn set(details: &mut proto::UserDetails, field: Field, value: Value) {
    if let Some(leaf) = leaf(value) {
        details.set(field, leaf);
    }
}

/// The length of a scoped request id, in characters: as long as a UUID.
const SCOPED_ID_LENGTH: usize = 36;

/// Takes the request id out of an update. The key digests the actor and the rest of the request.
///
/// # Errors
/// [`Error::InvalidRequest`] if the request id is not a UUID.
pub(super) fn request_key(
    request: &mut proto::UpdateUserDetailsRequest,
    actor: &Actor,
    identity: &str,
) -> Result<Option<RequestKey>, Error> {
    let mut id = std::mem::take(&mut request.request_id);
    if id.is_empty() {
        return Ok(None);
    }
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if !is_uuid {
        return Err(invalid_request("request_id", "must be a UUID of 36 characters"));
    }
    id.make_ascii_lowercase();
    let mut digest = Sha1::new();
    match actor {
        Actor::Account(name) => {
            digest.update("account ");
            digest.update(name.as_ref().map(Username::as_str).unwrap_or_default());
        }
        Actor::Service(name) => {
            digest.update("service ");
            digest.update(name);
        }
    }
    // Separates the name from the request.
    digest.update([0]);
    // The actor is already in the digest, and a batch names the actor elsewhere.
    let acting_username = std::mem::take(&mut request.acting_username);
    digest.update(request.encode_to_vec());
    request.acting_username = acting_username;
    let (scoped_id, content) = (scoped(&id, identity), hex::encode(digest.finalize()));
    Ok(Some(RequestKey { id, scoped_id, content }))
}

/// Scopes a request id to an identity. The result is as long as a UUID but has no hyphens, so it
/// never equals a UUID. Callers without identity share one scope.
fn scoped(id: &str, identity: &str) -> String {
    if identity.is_empty() {
        return id.to_owned();
    }
    // NUL is a safe separator: names have no control characters.
    let digest = Sha256::digest(format!("request id\0{identity}\0{id}"));
    hex::encode(&digest[..SCOPED_ID_LENGTH / 2])
}

/// Validates the reason for a change.
///
/// # Errors
/// [`Error::InvalidRequest`] if the reason is too long or has control characters.
pub(super) fn reason(reason: String) -> Result<String, Error> {
    if is_text(&reason) {
        return Ok(reason);
    }
    let problem = format!("is over {TEXT_CHARACTERS} characters, or has control characters");
    Err(invalid_request("reason", problem))
}

fn leaf(value: Value) -> Option<Leaf> {
    Some(match value {
        Value::None => return None,
        Value::Id(id) => Leaf::Int64(id),
        Value::Integer(number) => Leaf::Int32(number),
        Value::Flag(flag) => Leaf::Bool(flag),
        Value::Text(text) => Leaf::Text(text),
        Value::Micros(micros) => Leaf::Text(micros_to_text(micros)),
        Value::List(mode) => Leaf::Int32(match mode {
            ListMode::No => proto::ListMode::No,
            ListMode::Blacklist => proto::ListMode::Blacklist,
            ListMode::Whitelist => proto::ListMode::Whitelist,
        } as i32),
        Value::Date(date) => Leaf::Date(calendar_day(date)),
    })
}

fn calendar_day(date: NaiveDate) -> proto::Date {
    proto::Date {
        year: Some(date.year()),
        month: i32::try_from(date.month()).ok(),
        day: i32::try_from(date.day()).ok(),
    }
}

pub(super) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default();
    Timestamp { seconds: time.timestamp(), nanos }
}

/// The field paths of changes.
pub fn paths(changes: &[Change]) -> FieldMask {
    FieldMask { paths: changes.iter().map(|change| change.field.path().to_owned()).collect() }
}
