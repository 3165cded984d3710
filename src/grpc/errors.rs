//! The only table that maps domain errors to gRPC status.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    domain::{
        error::{Error, NotPermitted, Violation},
        legacy_key::Binding,
    },
    fields::Field,
    proto::{ErrorReason, UpdateUserDetailsError, UpdateUserDetailsViolation, reason_name},
};

/// The domain of every `google.rpc.ErrorInfo`.
pub(super) const ERROR_DOMAIN: &str = "m4-user-details";

/// The retry delay in `google.rpc.RetryInfo`.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The code and the reason of an error.
fn classify(error: &Error) -> (Code, ErrorReason) {
    match error {
        Error::AddressNotAllowed => (Code::PermissionDenied, ErrorReason::AddressNotAllowed),
        Error::ApiDisabled | Error::Brownout(_) => {
            (Code::FailedPrecondition, ErrorReason::ApiDisabled)
        }
        Error::GetDisabled => (Code::FailedPrecondition, ErrorReason::GetDisabled),
        Error::IncorrectHash => (Code::Unauthenticated, ErrorReason::IncorrectHash),
        Error::KeyNotAllowed(_) => (Code::PermissionDenied, ErrorReason::KeyNotAllowed),
        Error::AccessDenied | Error::ActorRefused(_) | Error::NotPermitted(_) => {
            (Code::PermissionDenied, ErrorReason::AccessDenied)
        }
        Error::NotAuthorized => (Code::PermissionDenied, ErrorReason::NotAuthorized),
        Error::UserNotFound => (Code::NotFound, ErrorReason::UserNotFound),
        Error::Invalid(violations) => {
            let is_manager =
                |violation: &Violation| violation.field == Field::responsible_manager_id;
            if violations.iter().any(is_manager) {
                (Code::InvalidArgument, ErrorReason::ManagerInvalid)
            } else {
                (Code::InvalidArgument, ErrorReason::InvalidDetails)
            }
        }
        Error::EtagMismatch => (Code::Aborted, ErrorReason::EtagMismatch),
        Error::RequestIdReused => (Code::AlreadyExists, ErrorReason::RequestIdReused),
        Error::InBatch { error, .. } => classify(error),
        Error::ChangedSince => (Code::Aborted, ErrorReason::ChangedSince),
        Error::ChangeNotFound => (Code::NotFound, ErrorReason::ChangeNotFound),
        Error::ChangeNotSupported => (Code::FailedPrecondition, ErrorReason::ChangeNotSupported),
        Error::KeyNotFound => (Code::NotFound, ErrorReason::KeyNotFound),
        Error::FailedPrecondition(_) => (Code::FailedPrecondition, ErrorReason::PreconditionFailed),
        Error::InvalidRequest { .. } => (Code::InvalidArgument, ErrorReason::InvalidRequest),
        Error::UnknownMethod | Error::UnknownEncoding => {
            (Code::Unimplemented, ErrorReason::Unimplemented)
        }
        Error::Unauthenticated => (Code::Unauthenticated, ErrorReason::Unauthenticated),
        Error::Overloaded => (Code::ResourceExhausted, ErrorReason::Overloaded),
        Error::Unavailable(_) => (Code::Unavailable, ErrorReason::Unavailable),
        Error::DeadlineExceeded | Error::AnswerNotRead => {
            (Code::DeadlineExceeded, ErrorReason::Unavailable)
        }
        Error::Internal(_) => (Code::Internal, ErrorReason::Internal),
    }
}

/// The reason as in `google.rpc.ErrorInfo`.
pub(super) fn reason(error: &Error) -> &'static str {
    reason_name(classify(error).1)
}

/// The reasons for shedding a call.
pub(super) const SHED: [&str; 3] = [OVERLOADED, RATE_LIMITED, DEADLINE];
const OVERLOADED: &str = "overloaded";
const RATE_LIMITED: &str = "rate_limited";
const DEADLINE: &str = "deadline";

/// The reason for shedding a call; `None` if the call was not shed.
pub(super) fn shed(error: &Error) -> Option<&'static str> {
    match classify(error) {
        (_, ErrorReason::Overloaded) => Some(OVERLOADED),
        (_, ErrorReason::RateLimited) => Some(RATE_LIMITED),
        (Code::DeadlineExceeded, _) => Some(DEADLINE),
        _ => None,
    }
}

/// The status code of a call.
pub(super) fn code(error: Option<&Error>) -> Code {
    error.map_or(Code::Ok, |error| classify(error).0)
}

/// The paths of the fields that a call was refused for, separated by commas; `None` without such
/// fields. The paths are those in `google.rpc.BadRequest`.
pub(super) fn refused_fields(error: &Error) -> Option<String> {
    let (error, prefix) = in_batch(error);
    match error {
        Error::Invalid(violations) => {
            let paths = violations.iter().map(|violation| details_path(&prefix, violation.field));
            Some(paths.collect::<Vec<_>>().join(", "))
        }
        Error::InvalidRequest { field, .. } => Some(format!("{prefix}{field}")),
        Error::NotPermitted(NotPermitted::Field(field))
        | Error::KeyNotAllowed(Binding::Field(field)) => Some(details_path(&prefix, *field)),
        _ => None,
    }
}

/// The error of an update, and the prefix of its paths in a batch.
fn in_batch(error: &Error) -> (&Error, String) {
    match error {
        Error::InBatch { index, error } => (error, format!("requests[{index}].")),
        error => (error, String::new()),
    }
}

fn details_path(prefix: &str, field: Field) -> String {
    format!("{prefix}user_details.{}", field.path())
}

/// The error of a field of a request.
pub(super) fn invalid_request(field: &'static str, problem: impl Into<String>) -> Error {
    Error::InvalidRequest { field, problem: problem.into() }
}

/// Converts an error to a status. The layers read the error from the status's source.
pub(super) fn to_status(error: Error) -> Status {
    let mut status = self::status(&error);
    if let Error::UnknownEncoding = error {
        let supported = MetadataValue::from_static("identity,gzip,zstd");
        status.metadata_mut().insert("grpc-accept-encoding", supported);
    }
    status.set_source(Arc::new(error));
    status
}

/// The status of an error, with its details.
pub(super) fn status(error: &Error) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason(error), ERROR_DOMAIN, HashMap::new());
    let (inner, prefix) = in_batch(error);
    match inner {
        Error::Invalid(violations) => {
            for violation in violations {
                let field = details_path(&prefix, violation.field);
                details.add_bad_request_violation(field, violation.allowed());
            }
        }
        Error::InvalidRequest { field, problem } => {
            details.add_bad_request_violation(format!("{prefix}{field}"), problem);
        }
        Error::Overloaded | Error::Unavailable(_) => {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Error::AddressNotAllowed
        | Error::ApiDisabled
        | Error::Brownout(_)
        | Error::GetDisabled
        | Error::IncorrectHash
        | Error::KeyNotAllowed(_)
        | Error::KeyNotFound
        | Error::FailedPrecondition(_)
        | Error::AccessDenied
        | Error::NotPermitted(_)
        | Error::ActorRefused(_)
        | Error::NotAuthorized
        | Error::UserNotFound
        | Error::EtagMismatch
        | Error::RequestIdReused
        | Error::InBatch { .. }
        | Error::ChangedSince
        | Error::ChangeNotFound
        | Error::ChangeNotSupported
        | Error::UnknownMethod
        | Error::UnknownEncoding
        | Error::Unauthenticated
        | Error::DeadlineExceeded
        | Error::AnswerNotRead
        | Error::Internal(_) => {}
    }
    Status::with_error_details(classify(error).0, error.to_string(), details)
}

/// Converts an error to a result of a batch.
pub(super) fn item(error: &Error) -> UpdateUserDetailsError {
    let status = status(error);
    let bad = status.get_details_bad_request().map(|bad| bad.field_violations);
    let violation = |violation: tonic_types::FieldViolation| UpdateUserDetailsViolation {
        field: violation.field,
        description: violation.description,
    };
    UpdateUserDetailsError {
        code: status.code().into(),
        reason: reason(error).to_owned(),
        message: status.message().to_owned(),
        violations: bad.into_iter().flatten().map(violation).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        error::{Problem, Refusal},
        legacy_key::Binding,
    };

    fn brownout() -> Error {
        Error::Brownout("2027-02-01T09:00:00Z/2027-02-01T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn every_error_has_its_code_reason_and_details() {
        let violation = |field| Violation { field, problem: Problem::NotAllowed };
        let invalid = |field| Error::Invalid(vec![violation(Field::city), violation(field)]);
        let request = invalid_request("update_mask", "no");
        let (denied, failed) = (Code::PermissionDenied, Code::FailedPrecondition);
        let table = [
            (Error::AddressNotAllowed, denied, "ADDRESS_NOT_ALLOWED", 0, false),
            (Error::ApiDisabled, failed, "API_DISABLED", 0, false),
            (brownout(), failed, "API_DISABLED", 0, false),
            (Error::GetDisabled, failed, "GET_DISABLED", 0, false),
            (Error::IncorrectHash, Code::Unauthenticated, "INCORRECT_HASH", 0, false),
            (Binding::Networks.into(), denied, "KEY_NOT_ALLOWED", 0, false),
            (Error::KeyNotFound, Code::NotFound, "KEY_NOT_FOUND", 0, false),
            (Error::FailedPrecondition("no".to_owned()), failed, "PRECONDITION_FAILED", 0, false),
            (Error::AccessDenied, denied, "ACCESS_DENIED", 0, false),
            (NotPermitted::OwnName.into(), denied, "ACCESS_DENIED", 0, false),
            (Error::ActorRefused(Refusal::Itself), denied, "ACCESS_DENIED", 0, false),
            (Error::NotAuthorized, denied, "NOT_AUTHORIZED", 0, false),
            (Error::UserNotFound, Code::NotFound, "USER_NOT_FOUND", 0, false),
            (
                invalid(Field::responsible_manager_id),
                Code::InvalidArgument,
                "MANAGER_INVALID",
                2,
                false,
            ),
            (invalid(Field::email), Code::InvalidArgument, "INVALID_DETAILS", 2, false),
            (Error::EtagMismatch, Code::Aborted, "ETAG_MISMATCH", 0, false),
            (Error::RequestIdReused, Code::AlreadyExists, "REQUEST_ID_REUSED", 0, false),
            (Error::ChangedSince, Code::Aborted, "CHANGED_SINCE", 0, false),
            (Error::ChangeNotFound, Code::NotFound, "CHANGE_NOT_FOUND", 0, false),
            (Error::ChangeNotSupported, failed, "CHANGE_NOT_SUPPORTED", 0, false),
            (request, Code::InvalidArgument, "INVALID_REQUEST", 1, false),
            (Error::UnknownMethod, Code::Unimplemented, "UNIMPLEMENTED", 0, false),
            (Error::UnknownEncoding, Code::Unimplemented, "UNIMPLEMENTED", 0, false),
            (Error::Unauthenticated, Code::Unauthenticated, "UNAUTHENTICATED", 0, false),
            (Error::Overloaded, Code::ResourceExhausted, "OVERLOADED", 0, true),
            (Error::Unavailable("cause".into()), Code::Unavailable, "UNAVAILABLE", 0, true),
            (Error::DeadlineExceeded, Code::DeadlineExceeded, "UNAVAILABLE", 0, false),
            (Error::AnswerNotRead, Code::DeadlineExceeded, "UNAVAILABLE", 0, false),
            (Error::Internal("cause".into()), Code::Internal, "INTERNAL", 0, false),
        ];
        for (error, code, reason, violations, retry) in table {
            let status = status(&error);
            assert_eq!(status.code(), code, "{error:?}");
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, ERROR_DOMAIN));
            let found = details.bad_request().map_or(0, |bad| bad.field_violations.len());
            assert_eq!(found, violations, "{error:?}");
            assert_eq!(details.retry_info().is_some(), retry, "{error:?}");
            assert!(!status.message().contains("cause"), "{error:?}");
        }
    }

    #[test]
    fn a_refusal_names_its_fields_and_its_rule() {
        use crate::domain::scope::Scope;

        let invalid =
            |field| Error::Invalid(vec![Violation { field, problem: Problem::NotAllowed }]);
        let in_batch = |error| Error::InBatch { index: 1, error: Box::new(error) };
        let request = invalid_request("update_mask", "no");
        let table = [
            (Error::Unauthenticated, None, None),
            (Error::NotAuthorized, None, Some("group_right")),
            (brownout(), None, Some("brownout")),
            (NotPermitted::Scope(Scope::Update).into(), None, Some("scope_update")),
            (
                NotPermitted::Field(Field::city).into(),
                Some("user_details.address.city"),
                Some("token_fields"),
            ),
            (in_batch(Error::ActorRefused(Refusal::Blocked)), None, Some("account_blocked")),
            (in_batch(invalid(Field::city)), Some("requests[1].user_details.address.city"), None),
            (invalid(Field::comment), Some("user_details.comment.comment"), None),
            (request, Some("update_mask"), None),
        ];
        for (error, fields, rule) in table {
            assert_eq!((refused_fields(&error).as_deref(), error.rule()), (fields, rule));
        }
    }
}
