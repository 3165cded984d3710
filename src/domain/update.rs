//! A change that is asked for, and what became of it.

use std::sync::Arc;

use super::{
    account::{User, Username},
    acting::Acting,
    error::{Problem, Violation},
    identity::FieldSet,
    value::{PartialDate, Value},
};
use crate::fields::Field;

/// The texts of the users and of their changes that an atomic batch may have in memory, in bytes.
pub const MAX_BATCH_TEXT_BYTES: usize = 4 << 20;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// An account, by its name; none where no account can bear the name.
    Account(Option<Username>),
    /// A service in its own name, with an admin's rights.
    Service(String),
}

/// Through which door a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryPoint {
    /// The typed API.
    Grpc,
    /// The legacy HTTP call.
    Legacy,
    /// A door that only a newer version has. Read from the change log, and never written.
    Unknown,
}

impl EntryPoint {
    /// The word for it in the change log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Legacy => "legacy",
            Self::Unknown => "unknown",
        }
    }

    /// The door of a word; none of a word that this version does not know.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Grpc, Self::Legacy].into_iter().find(|door| door.as_str() == word)
    }
}

/// Whence a change comes: what the change log keeps beside who acted. None of it decides anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Through which door.
    pub door: EntryPoint,
    /// The address of the caller, or of the legacy client; empty where it is not known.
    pub address: String,
    /// Why, in the caller's words; empty where it did not say.
    pub reason: String,
    /// The id that the caller gave its request; empty where it gave none.
    pub request_id: String,
    /// The trace of the call, and its span in it, as W3C writes them; empty where it is not traced.
    pub traceparent: String,
    /// The name of the service that called, as an account or in its own name; empty where it proved nothing, or at the legacy
    /// door.
    pub identity: String,
}

impl Origin {
    /// Nothing but a door is known.
    pub fn of(door: EntryPoint) -> Self {
        let [address, reason, request_id, traceparent, identity] = [const { String::new() }; 5];
        Self { door, address, reason, request_id, traceparent, identity }
    }
}

/// The new value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// This value.
    Set(Value),
    /// The stored day with some parts replaced.
    Date(PartialDate),
}

/// The fields to change, each at most once, and those whose new value was found invalid while it was parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    edits: Vec<(Field, Edit)>,
    violations: Vec<Violation>,
}

impl Update {
    /// The id under which its answer is kept; none where nothing is stored.
    pub fn idempotency_key(&self) -> Option<&RequestKey> {
        self.request.as_ref().filter(|_| !self.validate_only)
    }
}

impl Edits {
    /// Adds a field; without an edit as an invalid one.
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

    /// The fields that are meant, whatever becomes of their values.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        let violations = self.violations.iter().map(|violation| violation.field);
        self.edits.iter().map(|(field, _)| *field).chain(violations)
    }

    /// The fields that were found invalid while they were parsed.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

/// A change that is asked for.
#[derive(Clone, Debug)]
pub struct Update {
    /// Who asks.
    pub actor: Actor,
    /// The fields that the caller may change; none is all.
    pub allowed: Option<FieldSet>,
    /// Whence it comes.
    pub origin: Origin,
    /// The id of the user.
    pub user_id: i64,
    /// What to change.
    pub edits: Edits,
    /// The etag that must be the stored one.
    pub etag: Option<String>,
    /// The id of the request, so that it is done once however often it comes.
    pub request: Option<RequestKey>,
    /// What fields must hold, or it is [`crate::domain::error::Error::ChangedSince`].
    pub unchanged: Vec<(Field, Value)>,
    /// Check everything, store nothing.
    pub validate_only: bool,
    /// The call that is told which account acts.
    pub acting: Acting,
}

/// The id that a caller gave a request, and what tells a repeat of it from another request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// A UUID, in small letters.
    pub id: String,
    /// The key of the stored answer: the id scoped to the calling identity, so two services that
    /// use the same UUID do not see each other's answers.
    pub scoped_id: String,
    /// A digest of who asks for what.
    pub content: String,
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    /// The digest of who asked for what.
    pub content: String,
    /// The answer.
    pub updated: Arc<Updated>,
    /// Whether it is a copy under the id alone. Version 0.1.0 looks only there: a repeat that reaches an old replica during
    /// a rolling upgrade finds it.
    pub is_copy: bool,
}

/// One field that differs from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The field.
    pub field: Field,
    /// The value before.
    pub old: Value,
    /// The value after.
    pub new: Value,
}

/// Whom the change log names for a change, and the door; the rest of its entry stands in [`Updated`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id of the acting account; none for a service in its own name.
    pub actor_id: Option<i64>,
    /// The name of the service that acted in its own name.
    pub service: Option<String>,
    /// Whence the change came.
    pub origin: Origin,
}

/// What became of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The user after the change.
    pub user: User,
    /// The fields that differ, in the order of the table.
    pub changes: Vec<Change>,
}

impl Updated {
    /// The bytes of its texts, old ones too.
    pub fn text_bytes(&self) -> usize {
        let of_change = |change: &Change| change.old.text_bytes() + change.new.text_bytes();
        self.user.text_bytes() + self.changes.iter().map(of_change).sum::<usize>()
    }
}
