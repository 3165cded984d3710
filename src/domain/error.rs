//! The one error type of the domain.

use std::time::Duration;

use super::{legacy_key::Binding, scope::Scope};
use crate::{fields::Field, retirement::Window};

/// Why a call was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of a legacy client is not in the allowed networks.
    #[error("the client's address is not in the allowed networks")]
    AddressNotAllowed,
    /// Legacy calls are switched off, or no secret key is configured.
    #[error("legacy calls are switched off, or no secret key is configured")]
    ApiDisabled,
    /// A brownout: legacy calls are refused in this window.
    #[error("legacy calls are refused in the brownout {0}")]
    Brownout(Window),
    /// Legacy calls may not use GET.
    #[error("legacy calls may not use GET")]
    GetDisabled,
    /// The hash of a legacy call is missing or wrong, or belongs to another user id.
    #[error("the hash is missing or wrong")]
    IncorrectHash,
    /// The address of a legacy client is blocked after too many wrong hashes, or by an operator.
    #[error("the client's address is blocked")]
    AddressBlocked {
        /// The time until the block ends; `None` for never.
        retry_after: Option<Duration>,
    },
    /// The username of a legacy call is blocked. Callers see no difference from a wrong hash.
    #[error("the hash is missing or wrong")]
    UsernameBlocked,
    /// A binding of the client key refuses the legacy call.
    #[error("{0}")]
    KeyNotAllowed(#[from] Binding),
    /// The caller may not do this.
    #[error("only an acting admin may do this")]
    AccessDenied,
    /// The caller's scopes do not allow this.
    #[error("the caller may not do this: {0}")]
    NotPermitted(#[from] NotPermitted),
    /// The acting account may not act, or not upon itself. Callers do not learn the reason.
    #[error("the acting account may not do this")]
    ActorRefused(Refusal),
    /// The acting manager's group lacks the right.
    #[error("the acting manager's group lacks the right `users`")]
    NotAuthorized,
    /// There is no plain user with this id within the acting account's reach.
    #[error("user {0} was not found")]
    UserNotFound(i64),
    /// Values are invalid. An invalid responsible manager has its own error reason.
    #[error("invalid values")]
    Invalid(Vec<Violation>),
    /// The etag is not the stored one.
    #[error("the user was changed since its etag was read")]
    EtagMismatch,
    /// The etag was read before the database was restored.
    #[error("the etag was read before the database was restored: read the user again")]
    EarlierEpoch,
    /// A field to revert was changed since.
    #[error("a later change modified the same fields")]
    ChangedSince,
    /// There is no such entry in the change log within the acting account's reach.
    #[error("change was not found")]
    ChangeNotFound,
    /// The change has a field or a value that only a newer version knows.
    #[error(
        "the change has a field that this version does not know: only a newer version can revert it"
    )]
    ChangeNotSupported,
    /// There is no such active client key.
    #[error("there is no such active client key")]
    KeyNotFound,
    /// There is no such block of legacy calls.
    #[error("there is no such block")]
    BlockNotFound,
    /// Something that the operation needs is missing; the text says what.
    #[error("{0}")]
    FailedPrecondition(String),
    /// The request id was used for another request.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// An update of an atomic batch failed.
    #[error("requests[{index}]: {error}")]
    InBatch {
        /// The index of the update in the batch, from 0.
        index: usize,
        /// The error of the update.
        error: Box<Error>,
    },
    /// The request is malformed.
    #[error("{field}: {problem}")]
    InvalidRequest {
        /// The field's path in the request.
        field: &'static str,
        /// The problem of the field; never its value.
        problem: String,
    },
    /// There is no such method.
    #[error("there is no such method")]
    UnknownMethod,
    /// The message uses an unsupported compression.
    #[error("the message is compressed with an encoding that is not supported")]
    UnknownEncoding,
    /// The token is missing or invalid.
    #[error("a valid token is required")]
    Unauthenticated,
    /// Too many calls at once.
    #[error("too many calls at once")]
    Overloaded,
    /// The storage does not answer.
    #[error("the storage does not answer")]
    Unavailable(#[source] Cause),
    /// The call's deadline ran out. A change may or may not have been stored.
    #[error("the deadline ran out")]
    DeadlineExceeded,
    /// The client did not read the answer in time.
    #[error("the answer was not read in time")]
    AnswerNotRead,
    /// A defect.
    #[error("internal error")]
    Internal(#[source] Cause),
}

impl Error {
    /// The rule that denied the call; `None` for other errors. Not for callers: they do not learn
    /// which accounts exist.
    pub fn rule(&self) -> Option<&'static str> {
        match self {
            Self::NotPermitted(refused) => Some(refused.rule()),
            Self::ActorRefused(refusal) => Some(refusal.rule()),
            Self::AccessDenied => Some("admin_only"),
            Self::AddressNotAllowed => Some("allowed_networks"),
            Self::AddressBlocked { .. } => Some("blocked_address"),
            Self::UsernameBlocked => Some("blocked_username"),
            Self::KeyNotAllowed(binding) => Some(binding.rule()),
            Self::Brownout(_) => Some("brownout"),
            Self::NotAuthorized => Some("group_right"),
            Self::InBatch { error, .. } => error.rule(),
            _ => None,
        }
    }
}

/// An operation that the caller's scopes do not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPermitted {
    /// An operation that requires this scope.
    #[error("it lacks the scope `{}`", .0.as_str())]
    Scope(Scope),
    /// Acting without naming an account.
    #[error("`acting_username` is required without the scope `admin`")]
    OwnName,
    /// Learning a hash that can change every field.
    #[error("a caller limited to some fields must not receive a hash")]
    Hash,
    /// Getting a client key that could change every field.
    #[error("a caller limited to some fields must not receive a client key")]
    ClientKey,
    /// Changing this field.
    #[error("it may not change `{}`", .0.path())]
    Field(Field),
}

impl NotPermitted {
    fn rule(&self) -> &'static str {
        match self {
            Self::Scope(Scope::Read) => "scope_read",
            Self::Scope(Scope::Update) => "scope_update",
            Self::Scope(Scope::Settings) => "scope_settings",
            Self::Scope(Scope::Admin) => "scope_admin",
            Self::OwnName => "own_name",
            Self::Hash => "include_hash",
            Self::ClientKey => "client_key",
            Self::Field(_) => "token_fields",
        }
    }
}

/// Why an acting account is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such account.
    Unknown,
    /// It is a plain user.
    PlainUser,
    /// It is blocked.
    Blocked,
    /// It acts upon itself.
    Itself,
}

impl Refusal {
    fn rule(self) -> &'static str {
        match self {
            Self::Unknown => "account_unknown",
            Self::PlainUser => "account_plain_user",
            Self::Blocked => "account_blocked",
            Self::Itself => "account_itself",
        }
    }
}

/// The source of an error; for the log, never for a client.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error and its sources, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The sources of an error, outermost first.
pub fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| cause.source())
}

/// One invalid field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The field.
    pub field: Field,
    /// The problem.
    pub problem: Problem,
}

/// The problem of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The field table does not allow the value.
    NotAllowed,
    /// A list is used, but its number pool is not set.
    PoolMissing,
}

impl Violation {
    /// The allowed values, as the end of a sentence that begins with the field's name.
    pub fn allowed(&self) -> &'static str {
        match self.problem {
            Problem::NotAllowed => self.field.allowed(),
            Problem::PoolMissing => "must be set while its list is blacklist or whitelist",
        }
    }
}
