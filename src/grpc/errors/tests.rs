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
        (Error::UsernameBlocked, Code::Unauthenticated, "INCORRECT_HASH", 0, false),
        (
            Error::AddressBlocked { retry_after: Some(Duration::from_secs(9)) },
            Code::ResourceExhausted,
            "RATE_LIMITED",
            0,
            true,
        ),
        (Error::BlockNotFound, Code::NotFound, "BLOCK_NOT_FOUND", 0, false),
        (Binding::Networks.into(), denied, "KEY_NOT_ALLOWED", 0, false),
        (Error::KeyNotFound, Code::NotFound, "KEY_NOT_FOUND", 0, false),
        (Error::FailedPrecondition("no".to_owned()), failed, "PRECONDITION_FAILED", 0, false),
        (Error::AccessDenied, denied, "ACCESS_DENIED", 0, false),
        (NotPermitted::OwnName.into(), denied, "ACCESS_DENIED", 0, false),
        (Error::ActorRefused(Refusal::Itself), denied, "ACCESS_DENIED", 0, false),
        (Error::NotAuthorized, denied, "NOT_AUTHORIZED", 0, false),
        (Error::UserNotFound(7), Code::NotFound, "USER_NOT_FOUND", 0, false),
        (
            invalid(Field::responsible_manager_id),
            Code::InvalidArgument,
            "MANAGER_INVALID",
            2,
            false,
        ),
        (invalid(Field::email), Code::InvalidArgument, "INVALID_DETAILS", 2, false),
        (Error::EtagMismatch, Code::Aborted, "ETAG_MISMATCH", 0, false),
        (Error::EarlierEpoch, Code::Aborted, "ETAG_MISMATCH", 0, false),
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

    let invalid = |field| Error::Invalid(vec![Violation { field, problem: Problem::NotAllowed }]);
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

#[test]
fn a_message_names_the_problem_and_the_reason() {
    let violation = |field| Violation { field, problem: Problem::NotAllowed };
    let invalid =
        |fields: &[Field]| Error::Invalid(fields.iter().map(|field| violation(*field)).collect());
    let in_batch = Error::InBatch { index: 2, error: Box::new(Error::UserNotFound(7)) };
    let table = [
        (Error::UserNotFound(7), "user 7 was not found (USER_NOT_FOUND)"),
        (in_batch, "requests[2]: user 7 was not found (USER_NOT_FOUND)"),
        (invalid(&[Field::hidden]), "user_details.general.hidden must be 0 or 1 (INVALID_DETAILS)"),
        (
            invalid(&[Field::hidden, Field::email, Field::phone]),
            "user_details.general.hidden must be 0 or 1, and 2 more (INVALID_DETAILS)",
        ),
    ];
    for (error, expected) in table {
        assert_eq!(status(&error).message(), expected);
    }
}

#[test]
fn a_refusal_tells_its_rule_unless_it_would_tell_which_accounts_exist() {
    let rule = |error: &Error| {
        let details = status(error).get_error_details();
        details.error_info().unwrap().metadata.get("rule").cloned()
    };
    assert_eq!(rule(&NotPermitted::OwnName.into()).as_deref(), Some("own_name"));
    assert_eq!(rule(&Error::NotAuthorized).as_deref(), Some("group_right"));
    assert_eq!(rule(&Error::AccessDenied).as_deref(), Some("admin_only"));
    for error in [
        Error::ActorRefused(Refusal::Unknown),
        Error::ActorRefused(Refusal::Blocked),
        Error::IncorrectHash,
        Error::UsernameBlocked,
    ] {
        assert_eq!(rule(&error), None, "{error:?}");
    }
}
