//! A row of the table, its builder, and the checks of its outcome.

use super::{values::snapshot, *};
use crate::domain::{
    account::Username,
    scope::FieldSet,
    update::{EntryPoint, Origin, RequestKey},
};

/// The function under test.
pub(super) enum Rule {
    Apply,
    Read,
    Visibility,
    Administer,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// `apply` changes these fields and returns a log entry.
    Stored(Vec<Field>),
    /// `apply` would change these fields, and returns no log entry.
    Checked(Vec<Field>),
    /// `apply` returns the stored response of a request that changed these fields.
    Answered(Vec<Field>),
    /// `read` returns the user with this id.
    Found(i64),
    /// `visibility` returns these users.
    Visible(Visibility),
    /// `administer` returns no error.
    Administers,
}

pub(super) struct Row {
    pub(super) name: &'static str,
    rule: Rule,
    /// The stored account with the name [`NAME`].
    account: Option<ActingAccount>,
    /// The request. `read`, `visibility` and `administer` use only its actor and user id.
    update: Update,
    pub(super) expected: Result<Outcome, Error>,
    /// Values of the returned user. The values of [`Edit::Set`] are always checked.
    holds: Vec<(Field, Value)>,
}

/// An actor, and the stored account with the name [`NAME`].
pub(super) struct Caller(Actor, Option<ActingAccount>);

impl From<ActingAccount> for Caller {
    fn from(account: ActingAccount) -> Self {
        Self(Actor::Account(Username::parse(NAME)), Some(account))
    }
}

pub(super) fn admin() -> ActingAccount {
    ActingAccount {
        id: ADMIN,
        account_type: AccountType::Admin,
        blocked: false,
        users_level: None,
        show_only_assigned_users: false,
    }
}

pub(super) fn manager(users_level: Option<Level>) -> ActingAccount {
    ActingAccount { id: MANAGER, account_type: AccountType::Manager, users_level, ..admin() }
}

/// Alice as the acting account.
pub(super) fn plain_user() -> ActingAccount {
    ActingAccount { id: ALICE, account_type: AccountType::User, ..admin() }
}

pub(super) fn blocked(mut account: ActingAccount) -> ActingAccount {
    account.blocked = true;
    account
}

/// An account that shows only assigned users.
pub(super) fn limited(mut account: ActingAccount) -> ActingAccount {
    account.show_only_assigned_users = true;
    account
}

/// A caller that names an account. The only stored account is an admin with the name [`NAME`].
pub(super) fn named(name: &str) -> Caller {
    Caller(Actor::Account(Username::parse(name)), Some(admin()))
}

/// A service in its own name.
pub(super) fn service() -> Caller {
    Caller(Actor::Service("crm".to_owned()), None)
}

pub(super) type FieldEdit = (Field, Option<Edit>);

pub(super) fn set(field: Field, value: Value) -> FieldEdit {
    (field, Some(Edit::Set(value)))
}

/// A field whose new value did not parse.
pub(super) fn bad(field: Field) -> FieldEdit {
    (field, None)
}

pub(super) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A call of a rule. The target user is alice.
pub(super) fn calls(name: &'static str, rule: Rule, caller: impl Into<Caller>) -> Row {
    let Caller(actor, account) = caller.into();
    let update = Update {
        actor,
        allowed: None,
        origin: Origin { reason: "a test".to_owned(), ..Origin::of(EntryPoint::Grpc) },
        user_id: ALICE,
        edits: Edits::default(),
        etag: None,
        request: None,
        unchanged: Vec::new(),
        validate_only: false,
    };
    let expected = Ok(Outcome::Stored(Vec::new()));
    Row { name, rule, account, update, expected, holds: Vec::new() }
}

/// A call of `apply`.
pub(super) fn updates(
    name: &'static str,
    caller: impl Into<Caller>,
    edits: impl IntoIterator<Item = FieldEdit>,
) -> Row {
    let mut row = calls(name, Rule::Apply, caller);
    edits.into_iter().for_each(|(field, edit)| row.update.edits.add(field, edit));
    row
}

/// A call of `apply` that sets the city to Kaunas.
pub(super) fn moves(name: &'static str, caller: impl Into<Caller>) -> Row {
    updates(name, caller, [set(Field::city, text("Kaunas"))])
}

impl Row {
    pub(super) fn on(mut self, user_id: i64) -> Self {
        self.update.user_id = user_id;
        self
    }

    pub(super) fn allowed(mut self, paths: &[&str]) -> Self {
        self.update.allowed = Some(FieldSet::of_paths(paths.iter().copied()));
        self
    }

    pub(super) fn etag(mut self, etag: &str) -> Self {
        self.update.etag = Some(etag.to_owned());
        self
    }

    /// Adds a value that the stored user must have.
    pub(super) fn expecting(mut self, field: Field, value: Value) -> Self {
        self.update.unchanged.push((field, value));
        self
    }

    pub(super) fn request(mut self, id: &str, scoped_id: &str, content: &str) -> Self {
        let [id, scoped_id, content] = [id, scoped_id, content].map(str::to_owned);
        self.update.request = Some(RequestKey { id, scoped_id, content });
        self
    }

    pub(super) fn validate_only(mut self) -> Self {
        self.update.validate_only = true;
        self
    }

    pub(super) fn holding(mut self, field: Field, value: Value) -> Self {
        self.holds.push((field, value));
        self
    }

    pub(super) fn is(self, outcome: Outcome) -> Self {
        Self { expected: Ok(outcome), ..self }
    }

    pub(super) fn stores(self, fields: &[Field]) -> Self {
        self.is(Outcome::Stored(fields.to_vec()))
    }

    pub(super) fn checks(self, fields: &[Field]) -> Self {
        self.is(Outcome::Checked(fields.to_vec()))
    }

    /// The outcome is the stored response in the snapshot.
    pub(super) fn answers(self) -> Self {
        self.is(Outcome::Answered(vec![Field::call_limit]))
    }

    pub(super) fn fails(self, error: Error) -> Self {
        Self { expected: Err(error), ..self }
    }

    pub(super) fn finds_nobody(self) -> Self {
        let user_id = self.update.user_id;
        self.fails(Error::UserNotFound(user_id))
    }

    pub(super) fn refused(self, refusal: Refusal) -> Self {
        self.fails(Error::ActorRefused(refusal))
    }

    pub(super) fn invalid(self, violations: &[(Field, Problem)]) -> Self {
        let violation = |&(field, problem): &(Field, Problem)| Violation { field, problem };
        self.fails(Error::Invalid(violations.iter().map(violation).collect()))
    }

    /// Calls the rule.
    pub(super) fn run(&self) -> Result<Outcome, Error> {
        let snapshot = snapshot(self.account.as_ref());
        let Update { actor, user_id, .. } = &self.update;
        match self.rule {
            Rule::Apply => {
                let (updated, entry) = apply(&self.update, NOW, &snapshot)?;
                Ok(self.outcome(&snapshot.users[user_id], &updated, entry.as_ref()))
            }
            Rule::Read => read(actor, *user_id, &snapshot).map(|user| Outcome::Found(user.id)),
            Rule::Visibility => visibility(actor, &snapshot).map(Outcome::Visible),
            Rule::Administer => administer(actor, &snapshot).map(|()| Outcome::Administers),
        }
    }

    /// Checks the user, the changes and the log entry that `apply` returned.
    fn outcome(&self, stored: &User, updated: &Updated, entry: Option<&Entry>) -> Outcome {
        let (user, name) = (&updated.user, self.name);
        let fields = updated.changes.iter().map(|change| change.field).collect();
        // The stored response in the snapshot has an earlier version.
        if user.version < stored.version {
            return Outcome::Answered(fields);
        }
        for change in &updated.changes {
            let values = (&stored.values[change.field], &user.values[change.field]);
            assert_eq!((&change.old, &change.new), values, "{name}");
        }
        for (field, edit) in self.update.edits.iter() {
            if let Edit::Set(value) = edit {
                assert_eq!(user.values[*field], *value, "{name}");
            }
        }
        for (field, value) in &self.holds {
            assert_eq!(user.values[*field], *value, "{name}");
        }
        let Some(entry) = entry else {
            let before = (stored.version, stored.update_time);
            assert_eq!((user.version, user.update_time), before, "{name}");
            return Outcome::Checked(fields);
        };
        let after = (stored.version + 1, stored.update_time.max(NOW));
        assert_eq!((user.version, user.update_time), after, "{name}");
        let service = match &self.update.actor {
            Actor::Service(service) => Some(service.clone()),
            Actor::Account(_) => None,
        };
        let actor_id = self.account.as_ref().map(|account| account.id);
        let origin = self.update.origin.clone();
        assert_eq!(*entry, Entry { actor_id, service, origin }, "{name}");
        Outcome::Stored(fields)
    }
}
