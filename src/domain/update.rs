//! A requested change and its outcome.

use std::sync::Arc;

use super::{
    account::{User, Username},
    error::{Problem, Violation},
    scope::FieldSet,
    value::{PartialDate, Value},
};
use crate::fields::Field;

/// Maximum bytes of the texts of users and changes that an atomic batch holds in memory.
pub const MAX_BATCH_TEXT_BYTES: usize = 4 << 20;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// An account, by name; `None` if no account can have the name.
    Account(Option<Username>),
    /// A service in its own name, with an admin's rights.
    Service(String),
}

/// The entry point of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryPoint {
    /// The typed API.
    Grpc,
    /// The legacy HTTP call.
    Legacy,
    /// The command `import`.
    Import,
    /// Another program that writes to the database. The database logs the change.
    External,
    /// An entry point of a newer version. Read from the change log, never written.
    Unknown,
}

impl EntryPoint {
    /// The word in the change log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Legacy => "legacy",
            Self::Import => "import",
            Self::External => "external",
            Self::Unknown => "unknown",
        }
    }

    /// The entry point for a word; `None` if this version does not know the word.
    pub fn from_word(word: &str) -> Option<Self> {
        let known = [Self::Grpc, Self::Legacy, Self::Import, Self::External];
        known.into_iter().find(|door| door.as_str() == word)
    }
}

/// The origin of a change, for the change log. No decision depends on an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The entry point.
    pub door: EntryPoint,
    /// The address of the caller, or of the legacy client; empty if unknown.
    pub address: String,
    /// The caller's reason; empty if not given.
    pub reason: String,
    /// The caller's request id; empty if not given.
    pub request_id: String,
    /// The W3C `traceparent` of the call; empty if the call is not traced.
    pub traceparent: String,
    /// The name of the calling service, even if it acts as an account, or of the key of a legacy call;
    /// empty without authentication.
    pub identity: String,
}

impl Origin {
    /// An origin with only the entry point.
    pub fn of(door: EntryPoint) -> Self {
        let [address, reason, request_id, traceparent, identity] = [const { String::new() }; 5];
        Self { door, address, reason, request_id, traceparent, identity }
    }
}

/// The new value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A complete value.
    Set(Value),
    /// The stored date with some parts replaced.
    Date(PartialDate),
}

/// The fields to change, each at most once, and the fields whose new value did not parse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    edits: Vec<(Field, Edit)>,
    violations: Vec<Violation>,
}

impl Update {
    /// The idempotency key; `None` if the update is only validated.
    pub fn idempotency_key(&self) -> Option<&RequestKey> {
        self.request.as_ref().filter(|_| !self.validate_only)
    }
}

impl Edits {
    /// Adds a field. Without an edit, the field is a violation.
    pub fn add(&mut self, field: Field, edit: Option<Edit>) {
        match edit {
            Some(edit) => self.edits.push((field, edit)),
            None => self.violations.push(Violation { field, problem: Problem::NotAllowed }),
        }
    }

    /// The fields to change.
    pub fn iter(&self) -> impl Iterator<Item = &(Field, Edit)> {
        self.edits.iter()
    }

    /// All fields of the edits, valid or not.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        let violations = self.violations.iter().map(|violation| violation.field);
        self.edits.iter().map(|(field, _)| *field).chain(violations)
    }

    /// The fields whose new value did not parse.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

/// A requested change.
#[derive(Clone, Debug)]
pub struct Update {
    /// The acting account or service.
    pub actor: Actor,
    /// The fields that the caller may change; `None` for all.
    pub allowed: Option<FieldSet>,
    /// The origin of the change.
    pub origin: Origin,
    /// The id of the user.
    pub user_id: i64,
    /// The fields to change.
    pub edits: Edits,
    /// The etag that the stored user must have.
    pub etag: Option<String>,
    /// The idempotency key: repeats of the request apply the change once.
    pub request: Option<RequestKey>,
    /// Values that fields must hold, else [`crate::domain::error::Error::ChangedSince`].
    pub unchanged: Vec<(Field, Value)>,
    /// Check everything, store nothing.
    pub validate_only: bool,
}

/// A request to revert a logged change.
#[derive(Clone, Debug)]
pub struct Revert {
    /// The acting account or service.
    pub actor: Actor,
    /// The fields that the caller may change; `None` for all.
    pub allowed: Option<FieldSet>,
    /// The origin of the new change.
    pub origin: Origin,
    /// The id of the log entry.
    pub change_id: i64,
    /// The etag that the stored user must have.
    pub etag: Option<String>,
    /// Check everything, store nothing.
    pub validate_only: bool,
}

/// The idempotency key of a request, with a digest that detects reuse for another request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// A lower-case UUID.
    pub id: String,
    /// The key of the stored answer: the id scoped to the calling identity, so two services that
    /// use the same UUID do not see each other's answers.
    pub scoped_id: String,
    /// A digest of the caller and the request.
    pub content: String,
}

/// The stored response of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    /// The digest of the caller and the request.
    pub content: String,
    /// The response.
    pub updated: Arc<Updated>,
    /// Whether this is a copy under the unscoped id. Version 0.1.0 reads only that id: a repeat on
    /// an old replica during a rolling upgrade finds the copy.
    pub is_copy: bool,
}

/// One changed field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The field.
    pub field: Field,
    /// The value before.
    pub old: Value,
    /// The value after.
    pub new: Value,
}

/// The actor and origin in a log entry; [`Updated`] holds the rest of the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id of the acting account; `None` for a service in its own name.
    pub actor_id: Option<i64>,
    /// The name of the service that acted in its own name.
    pub service: Option<String>,
    /// The origin of the change.
    pub origin: Origin,
}

/// The outcome of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The user after the change.
    pub user: User,
    /// The changed fields, in the order of the table.
    pub changes: Vec<Change>,
}

impl Updated {
    /// The bytes of all texts, including old values.
    pub fn text_bytes(&self) -> usize {
        let of_change = |change: &Change| change.old.text_bytes() + change.new.text_bytes();
        self.user.text_bytes() + self.changes.iter().map(of_change).sum::<usize>()
    }
}
