//! The start and the filter of a request for a watch.

use crate::{
    domain::{
        error::Error,
        update::EntryPoint,
        watch::{EntryFilter, WatchStart},
    },
    grpc::{convert, errors::invalid_request, paging::time},
    proto::{WatchUserDetailsRequest, watch_user_details_request::Start},
};

/// Where the watch begins without a token.
///
/// # Errors
/// [`Error::InvalidRequest`].
pub(super) fn of(request: &WatchUserDetailsRequest) -> Result<WatchStart, Error> {
    Ok(match request.start {
        None | Some(Start::StartEarliest(false)) => WatchStart::Now,
        Some(Start::StartEarliest(true)) => WatchStart::Earliest,
        Some(Start::StartAfterChangeId(id)) => WatchStart::After(id),
        Some(Start::StartTime(begin)) => match time(Some(begin), "start_time")? {
            Some(begin) => WatchStart::Since(begin),
            None => WatchStart::Now,
        },
    })
}

/// The entries that the watch contains.
///
/// # Errors
/// [`Error::InvalidRequest`].
pub(super) fn filter(request: &WatchUserDetailsRequest) -> Result<EntryFilter, Error> {
    let door = |word: &String| match (EntryPoint::from_word(word), word.as_str()) {
        (Some(door), _) => Ok(door),
        (None, "unknown") => Ok(EntryPoint::Unknown),
        (None, _) => {
            Err(invalid_request("doors", "must be grpc, legacy, import, external or unknown"))
        }
    };
    Ok(EntryFilter {
        fields: convert::field_set("changed_fields", request.changed_fields.as_ref())?,
        doors: request.doors.iter().map(door).collect::<Result<_, _>>()?,
        except_identities: request.except_identities.clone(),
        since: None,
    })
}
