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

/// The retry delay while a block without an end lasts.
const ENDLESS_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// The code and the reason of an error.
fn classify(error: &Error) -> (Code, ErrorReason) {
    match error {
        Error::AddressNotAllowed => (Code::PermissionDenied, ErrorReason::AddressNotAllowed),
        Error::ApiDisabled | Error::Brownout(_) => {
            (Code::FailedPrecondition, ErrorReason::ApiDisabled)
        }
        Error::GetDisabled => (Code::FailedPrecondition, ErrorReason::GetDisabled),
        Error::IncorrectHash | Error::UsernameBlocked => {
            (Code::Unauthenticated, ErrorReason::IncorrectHash)
        }
        Error::AddressBlocked { .. } => (Code::ResourceExhausted, ErrorReason::RateLimited),
        Error::KeyNotAllowed(_) => (Code::PermissionDenied, ErrorReason::KeyNotAllowed),
        Error::AccessDenied | Error::ActorRefused(_) | Error::NotPermitted(_) => {
            (Code::PermissionDenied, ErrorReason::AccessDenied)
        }
        Error::NotAuthorized => (Code::PermissionDenied, ErrorReason::NotAuthorized),
        Error::UserNotFound(_) => (Code::NotFound, ErrorReason::UserNotFound),
        Error::Invalid(violations) => {
            let is_manager =
                |violation: &Violation| violation.field == Field::responsible_manager_id;
            if violations.iter().any(is_manager) {
                (Code::InvalidArgument, ErrorReason::ManagerInvalid)
            } else {
                (Code::InvalidArgument, ErrorReason::InvalidDetails)
            }
        }
        Error::EtagMismatch | Error::EarlierEpoch => (Code::Aborted, ErrorReason::EtagMismatch),
        Error::RequestIdReused => (Code::AlreadyExists, ErrorReason::RequestIdReused),
        Error::InBatch { error, .. } => classify(error),
        Error::ChangedSince => (Code::Aborted, ErrorReason::ChangedSince),
        Error::ChangeNotFound => (Code::NotFound, ErrorReason::ChangeNotFound),
        Error::ChangeNotSupported => (Code::FailedPrecondition, ErrorReason::ChangeNotSupported),
        Error::KeyNotFound => (Code::NotFound, ErrorReason::KeyNotFound),
        Error::BlockNotFound => (Code::NotFound, ErrorReason::BlockNotFound),
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
pub(super) const SHED: [&str; 2] = [OVERLOADED, DEADLINE];
const OVERLOADED: &str = "overloaded";
const DEADLINE: &str = "deadline";

/// The reason for shedding a call; `None` if the call was not shed. A blocked address is no overload.
pub(super) fn shed(error: &Error) -> Option<&'static str> {
    match classify(error) {
        (_, ErrorReason::Overloaded) => Some(OVERLOADED),
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
    let rule = public_rule(error).map(|rule| ("rule".to_owned(), rule.to_owned()));
    details.set_error_info(
        reason(error),
        ERROR_DOMAIN,
        rule.into_iter().collect::<HashMap<_, _>>(),
    );
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
        Error::AddressBlocked { retry_after } => {
            details.set_retry_info(Some(retry_after.unwrap_or(ENDLESS_RETRY_AFTER)));
        }
        Error::AddressNotAllowed
        | Error::ApiDisabled
        | Error::Brownout(_)
        | Error::GetDisabled
        | Error::IncorrectHash
        | Error::UsernameBlocked
        | Error::KeyNotAllowed(_)
        | Error::KeyNotFound
        | Error::BlockNotFound
        | Error::FailedPrecondition(_)
        | Error::AccessDenied
        | Error::NotPermitted(_)
        | Error::ActorRefused(_)
        | Error::NotAuthorized
        | Error::UserNotFound(_)
        | Error::EtagMismatch
        | Error::EarlierEpoch
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
    Status::with_error_details(classify(error).0, message(error), details)
}

/// The problem, with the first violation and the number of others, and the reason in parentheses.
fn message(error: &Error) -> String {
    format!("{} ({})", problem(error), reason(error))
}

fn problem(error: &Error) -> String {
    match error {
        Error::Invalid(violations) => {
            let Some((first, others)) = violations.split_first() else { return error.to_string() };
            let more = match others.len() {
                0 => String::new(),
                number => format!(", and {number} more"),
            };
            format!("{} {}{more}", details_path("", first.field), first.allowed())
        }
        Error::InBatch { index, error } => format!("requests[{index}]: {}", problem(error)),
        error => error.to_string(),
    }
}

/// The rule that refused a call, unless it tells which accounts exist.
fn public_rule(error: &Error) -> Option<&'static str> {
    match error {
        Error::ActorRefused(_) | Error::UsernameBlocked => None,
        Error::InBatch { error, .. } => public_rule(error),
        error => error.rule(),
    }
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
mod tests;
