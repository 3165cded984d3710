//! The table from RPC results to legacy answers.

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{translate::Translated, xml::Answer};
use crate::{
    credentials::UPON_ITSELF,
    fields::Field,
    proto::{ErrorReason, reason_name},
};

/// The rows of the specification, and the HTTP statuses of all other answers.
pub(crate) const ROWS: [&str; 19] = [
    "0", "1", "2", "3", "3a", "4", "5", "6", "7", "8", "9", "10", "400", "404", "405", "413",
    "429", "500", "503",
];

/// The end of the message about an inexact decimal in JSON.
const SEND_AS_TEXT: &str =
    "; this JSON number is inexact: send it as text between quotation marks, such as \"19.95\"";

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The HTTP status; 200 for the rows of the specification.
    pub(crate) http: StatusCode,
    /// The entry of [`ROWS`].
    pub(crate) row: &'static str,
    /// The outcome for the log line: `OK`, or the reason of the service or of the gateway.
    pub(crate) reason: &'static str,
    /// The XML.
    pub(crate) answer: Answer,
    /// The delay in `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

impl Outcome {
    /// An answer without a row in the specification.
    pub(crate) fn refused(http: StatusCode, text: &'static str) -> Self {
        let retry = matches!(http, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let answer = Answer { page: false, element: "error", text, messages: Vec::new() };
        let (row, reason) = match http {
            StatusCode::BAD_REQUEST => ("400", "BAD_REQUEST"),
            StatusCode::NOT_FOUND => ("404", "NO_SUCH_API"),
            StatusCode::METHOD_NOT_ALLOWED => ("405", "METHOD_NOT_ALLOWED"),
            StatusCode::PAYLOAD_TOO_LARGE => ("413", "TOO_LARGE"),
            StatusCode::TOO_MANY_REQUESTS => ("429", "OVERLOADED"),
            StatusCode::SERVICE_UNAVAILABLE => ("503", "UNAVAILABLE"),
            _ => ("500", "INTERNAL"),
        };
        Self { http, row, reason, answer, retry_after: retry.then_some(Duration::from_secs(1)) }
    }

    /// The answer if the storage is down or the deadline has passed.
    pub(super) fn unavailable() -> Self {
        Self::refused(StatusCode::SERVICE_UNAVAILABLE, "Service is temporarily unavailable")
    }

    fn error(
        row: &'static str,
        reason: ErrorReason,
        page: bool,
        text: &'static str,
        messages: Vec<String>,
    ) -> Self {
        let answer = Answer { page, element: "error", text, messages };
        let reason = reason_name(reason);
        Self { http: StatusCode::OK, row, reason, answer, retry_after: None }
    }
}

/// The outcome of a call.
pub(crate) fn of(result: Result<(), &Status>, call: &Translated) -> Outcome {
    let is_manager_unfit = call.unfit.contains_key(&Field::responsible_manager_id);
    let status = match result {
        Ok(()) if call.unfit.is_empty() && call.unreadable.is_none() => {
            let text = "User was updated successfully";
            let answer = Answer { page: true, element: "success", text, messages: Vec::new() };
            let http = StatusCode::OK;
            return Outcome { http, row: "10", reason: "OK", answer, retry_after: None };
        }
        Ok(()) => return invalid(is_manager_unfit, call, None),
        Err(status) => status,
    };
    let reason = reason(status);
    let without_page = |row, text| Outcome::error(row, reason, false, text, Vec::new());
    match reason {
        ErrorReason::AddressNotAllowed => without_page("0", "Access Denied"),
        ErrorReason::ApiDisabled => without_page("1", "API Requests are disabled"),
        ErrorReason::GetDisabled => without_page("2", "GET Requests are disabled"),
        ErrorReason::IncorrectHash => without_page("3", "Incorrect hash"),
        ErrorReason::KeyNotAllowed => without_page("3a", "Access Denied"),
        ErrorReason::AccessDenied => {
            let row = if status.metadata().contains_key(UPON_ITSELF) { "6" } else { "4" };
            Outcome::error(row, reason, true, "Access Denied", Vec::new())
        }
        ErrorReason::NotAuthorized => Outcome::error(
            "5",
            reason,
            true,
            "You are not authorized to view this page",
            Vec::new(),
        ),
        ErrorReason::UserNotFound => {
            Outcome::error("7", reason, true, "User was not found", Vec::new())
        }
        ErrorReason::ManagerInvalid => invalid(true, call, Some(status)),
        ErrorReason::InvalidDetails => invalid(is_manager_unfit, call, Some(status)),
        ErrorReason::RateLimited | ErrorReason::Overloaded => {
            let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
            let refused = Outcome::refused(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
            let retry_after = retry_after.or(refused.retry_after);
            Outcome { retry_after, reason: reason_name(reason), ..refused }
        }
        ErrorReason::Unavailable => Outcome::unavailable(),
        ErrorReason::Unauthenticated
        | ErrorReason::InvalidRequest
        | ErrorReason::RequestIdReused
        | ErrorReason::EtagMismatch
        | ErrorReason::ChangedSince
        | ErrorReason::ChangeNotFound
        | ErrorReason::ChangeNotSupported
        | ErrorReason::KeyNotFound
        | ErrorReason::BlockNotFound
        | ErrorReason::PreconditionFailed
        | ErrorReason::Unimplemented
        | ErrorReason::Internal
        | ErrorReason::Unspecified => {
            let http = StatusCode::INTERNAL_SERVER_ERROR;
            let refused = Outcome::refused(http, "User was not updated");
            Outcome { reason: reason_name(reason), ..refused }
        }
    }
}

/// The reason in a status. A status without a reason comes from the transport or a proxy, not from
/// the service; its code decides.
fn reason(status: &Status) -> ErrorReason {
    let info = status.get_details_error_info();
    let name = info.map(|info| format!("ERROR_REASON_{}", info.reason));
    name.and_then(|name| ErrorReason::from_str_name(&name)).unwrap_or(match status.code() {
        // Unknown and internal: the connection broke during the response.
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal => ErrorReason::Unavailable,
        Code::ResourceExhausted => ErrorReason::Overloaded,
        _ => ErrorReason::Internal,
    })
}

/// One message per invalid parameter. An invalid manager is the error itself, without a message.
fn invalid(is_manager: bool, call: &Translated, status: Option<&Status>) -> Outcome {
    let mut invalid = violations(call, status);
    let (row, reason, text) = if is_manager {
        ("8", ErrorReason::ManagerInvalid, "Manager is invalid")
    } else {
        ("9", ErrorReason::InvalidDetails, "User was not updated")
    };
    if is_manager {
        invalid.remove(&Field::responsible_manager_id);
    }
    let body = call.unreadable.iter().map(ToString::to_string);
    let values = invalid.into_values().map(|(name, allowed)| format!("{name} {allowed}"));
    Outcome::error(row, reason, true, text, body.chain(values).collect())
}

/// The parameters that the gateway or the service rejects, in field-table order.
pub(crate) fn violations(
    call: &Translated,
    status: Option<&Status>,
) -> BTreeMap<Field, (&'static str, String)> {
    let mut violations = BTreeMap::new();
    let details = status.and_then(Status::get_details_bad_request);
    for violation in details.into_iter().flat_map(|details| details.field_violations) {
        let field = violation.field.strip_prefix("user_details.").and_then(Field::from_path);
        if let Some(field) = field {
            let name = call.names.get(&field).copied().unwrap_or(field.name());
            let mut allowed = violation.description;
            if call.inexact.contains(&field) {
                allowed.push_str(SEND_AS_TEXT);
            }
            violations.insert(field, (name, allowed));
        }
    }
    for (field, unfit) in &call.unfit {
        violations.insert(*field, (unfit.name, unfit.allowed.to_owned()));
    }
    violations
}

/// The paths of the fields that the gateway or the service refused, separated by commas; `None`
/// without such fields.
pub(crate) fn refused_fields(call: &Translated, status: Option<&Status>) -> Option<String> {
    let paths = violations(call, status).into_keys();
    let paths: Vec<_> = paths.map(|field| format!("user_details.{}", field.path())).collect();
    (!paths.is_empty()).then(|| paths.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;
    use crate::legacy_call::{parameters::Parameters, translate::translate};

    fn status(code: Code, reason: &str, fields: &[&str]) -> Status {
        let mut details = ErrorDetails::with_error_info(reason, "m4-user-details", HashMap::new());
        let violation = |field: &&str| FieldViolation::new(*field, "must be good");
        details.set_bad_request(fields.iter().map(violation).collect::<Vec<_>>());
        Status::with_error_details(code, "not for legacy clients", details)
    }

    #[test]
    fn every_reason_has_its_answer() {
        let call = translate(&Parameters::from_form(b"city=x&by=1"), "POST", "");
        let table = [
            ("ADDRESS_NOT_ALLOWED", 200, false, "Access Denied"),
            ("KEY_NOT_ALLOWED", 200, false, "Access Denied"),
            ("API_DISABLED", 200, false, "API Requests are disabled"),
            ("GET_DISABLED", 200, false, "GET Requests are disabled"),
            ("INCORRECT_HASH", 200, false, "Incorrect hash"),
            ("ACCESS_DENIED", 200, true, "Access Denied"),
            ("NOT_AUTHORIZED", 200, true, "You are not authorized to view this page"),
            ("USER_NOT_FOUND", 200, true, "User was not found"),
            ("MANAGER_INVALID", 200, true, "Manager is invalid"),
            ("INVALID_DETAILS", 200, true, "User was not updated"),
            ("RATE_LIMITED", 429, false, "Too many requests"),
            ("OVERLOADED", 429, false, "Too many requests"),
            ("UNAVAILABLE", 503, false, "Service is temporarily unavailable"),
            ("UNAUTHENTICATED", 500, false, "User was not updated"),
            ("INVALID_REQUEST", 500, false, "User was not updated"),
            ("REQUEST_ID_REUSED", 500, false, "User was not updated"),
            ("ETAG_MISMATCH", 500, false, "User was not updated"),
            ("INTERNAL", 500, false, "User was not updated"),
            ("ONE_OF_A_LATER_VERSION", 500, false, "User was not updated"),
        ];
        for (reason, http, page, text) in table {
            let outcome = of(Err(&status(Code::OutOfRange, reason, &[])), &call);
            let answer = outcome.answer;
            assert_eq!((outcome.http.as_u16(), answer.page, answer.text), (http, page, text));
            assert_eq!(answer.element, "error");
            assert!(answer.messages.is_empty());
            assert_eq!(outcome.retry_after.is_some(), matches!(http, 429 | 503), "{reason}");
        }
        let outcome = of(Ok(()), &call);
        assert_eq!((outcome.http, outcome.answer.element), (StatusCode::OK, "success"));
    }

    #[test]
    fn a_status_of_the_transport_is_read_by_its_code() {
        let call = translate(&Parameters::default(), "POST", "");
        for (code, http) in [
            (Code::Unavailable, 503),
            (Code::DeadlineExceeded, 503),
            (Code::Cancelled, 503),
            (Code::Unknown, 503),
            (Code::Internal, 503),
            (Code::ResourceExhausted, 429),
            (Code::Unimplemented, 500),
            (Code::OutOfRange, 500),
        ] {
            assert_eq!(of(Err(&Status::new(code, "")), &call).http.as_u16(), http);
        }
    }

    #[test]
    fn messages_of_both_sides_stand_in_the_order_of_the_table_once_each() {
        let form = b"tax1_value=x&comment=%ff&bm=2&hidden=7&responsible_manager_id=5";
        let call = translate(&Parameters::from_form(form), "POST", "");
        let fields = [
            "user_details.taxes.tax1_value",
            "user_details.blocking.block_date",
            "user_details.comment.comment",
            "user_details.general.responsible_manager_id",
            "something.of.a.later.version",
        ];
        let answer = of(Err(&status(Code::Unknown, "MANAGER_INVALID", &fields)), &call).answer;
        assert_eq!(answer.text, "Manager is invalid");
        assert_eq!(
            answer.messages,
            [
                "hidden must be 0 or 1",
                "bm must be good",
                "tax1_value must be good",
                "comment must be encoded in UTF-8",
            ]
        );
    }
}
