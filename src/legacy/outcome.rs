//! The one table from the RPC's outcome to the legacy answer.

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{translate::Translated, xml::Answer};
use crate::{fields::Field, proto::ErrorReason};

/// What the client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The HTTP status; 200 wherever the call was answered.
    pub(super) http: StatusCode,
    /// The XML.
    pub(super) answer: Answer,
    /// When to try again.
    pub(super) retry_after: Option<Duration>,
}

impl Outcome {
    /// An answer to what never reached the call.
    pub(super) fn refused(http: StatusCode, text: &'static str) -> Self {
        let retry = matches!(http, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let answer = Answer { page: false, element: "error", text, messages: Vec::new() };
        Self { http, answer, retry_after: retry.then_some(Duration::from_secs(1)) }
    }

    /// The storage is down, or the deadline ran out.
    pub(super) fn unavailable() -> Self {
        Self::refused(StatusCode::SERVICE_UNAVAILABLE, "Service is temporarily unavailable")
    }

    fn error(page: bool, text: &'static str, messages: Vec<String>) -> Self {
        let answer = Answer { page, element: "error", text, messages };
        Self { http: StatusCode::OK, answer, retry_after: None }
    }
}

/// The outcome of a call.
pub(super) fn of(result: Result<(), &Status>, call: &Translated) -> Outcome {
    let is_manager_unfit = call.unfit.contains_key(&Field::responsible_manager_id);
    let status = match result {
        Ok(()) if call.unfit.is_empty() => {
            let text = "User was updated successfully";
            let answer = Answer { page: true, element: "success", text, messages: Vec::new() };
            return Outcome { http: StatusCode::OK, answer, retry_after: None };
        }
        Ok(()) => return invalid(is_manager_unfit, call, None),
        Err(status) => status,
    };
    match reason(status) {
        ErrorReason::ApiDisabled => Outcome::error(false, "API Requests are disabled", Vec::new()),
        ErrorReason::GetDisabled => Outcome::error(false, "GET Requests are disabled", Vec::new()),
        ErrorReason::IncorrectHash => Outcome::error(false, "Incorrect hash", Vec::new()),
        ErrorReason::AccessDenied => Outcome::error(true, "Access Denied", Vec::new()),
        ErrorReason::NotAuthorized => {
            Outcome::error(true, "You are not authorized to view this page", Vec::new())
        }
        ErrorReason::UserNotFound => Outcome::error(true, "User was not found", Vec::new()),
        ErrorReason::ManagerInvalid => invalid(true, call, Some(status)),
        ErrorReason::InvalidDetails => invalid(is_manager_unfit, call, Some(status)),
        ErrorReason::RateLimited | ErrorReason::Overloaded => {
            let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
            let refused = Outcome::refused(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
            Outcome { retry_after: retry_after.or(refused.retry_after), ..refused }
        }
        ErrorReason::Unavailable => Outcome::unavailable(),
        ErrorReason::Unauthenticated
        | ErrorReason::InvalidRequest
        | ErrorReason::RequestIdReused
        | ErrorReason::EtagMismatch
        | ErrorReason::Internal
        | ErrorReason::Unspecified => {
            Outcome::refused(StatusCode::INTERNAL_SERVER_ERROR, "User was not updated")
        }
    }
}

/// The reason in a status. One without comes from the transport, or from before the service: by its code.
fn reason(status: &Status) -> ErrorReason {
    let info = status.get_details_error_info();
    let name = info.map(|info| format!("ERROR_REASON_{}", info.reason));
    name.and_then(|name| ErrorReason::from_str_name(&name)).unwrap_or(match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ErrorReason::Unavailable,
        Code::ResourceExhausted => ErrorReason::Overloaded,
        _ => ErrorReason::Internal,
    })
}

/// A message for each invalid parameter, found here or by the service, in the order of the field table. Where the
/// manager is invalid, that is the error itself and no message.
fn invalid(is_manager: bool, call: &Translated, status: Option<&Status>) -> Outcome {
    let mut messages: BTreeMap<Field, String> = BTreeMap::new();
    let details = status.and_then(Status::get_details_bad_request);
    for violation in details.into_iter().flat_map(|details| details.field_violations) {
        let field = violation.field.strip_prefix("user_details.").and_then(Field::from_path);
        if let Some(field) = field {
            let name = call.names.get(&field).copied().unwrap_or(field.name());
            messages.insert(field, format!("{name} {}", violation.description));
        }
    }
    for (field, name) in &call.unfit {
        messages.insert(*field, format!("{name} {}", field.allowed()));
    }
    let text = if is_manager { "Manager is invalid" } else { "User was not updated" };
    if is_manager {
        messages.remove(&Field::responsible_manager_id);
    }
    Outcome::error(true, text, messages.into_values().collect())
}
