//! Who calls the typed API, and with which rights. Every authentication yields an [`Identity`].

use std::sync::{Arc, LazyLock};

use super::{
    account::Username,
    error::{Error, NotPermitted},
    scope::{FieldSet, Scope, Scopes},
    update::Actor,
};

/// The acting account of callers when authentication is off.
const OPEN_ACCOUNT: &str = "admin";

/// The longest name of an identity, in characters: the limit of the change log.
pub const NAME_CHARACTERS: usize = 255;

/// An authenticated caller of the typed API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    scopes: Scopes,
    fields: Option<FieldSet>,
    own: Option<Actor>,
}

impl Identity {
    /// A service. Without `fields`, the service may change every field.
    pub fn new(name: String, scopes: Scopes, fields: Option<FieldSet>) -> Self {
        let own = scopes.allow(Scope::Admin).then(|| Actor::Service(name.clone()));
        Self { name, scopes, fields, own }
    }

    /// The caller when authentication is off. May do everything; the default account is `admin`.
    pub fn open() -> Arc<Self> {
        static OPEN: LazyLock<Arc<Identity>> = LazyLock::new(|| {
            Arc::new(Identity {
                name: String::new(),
                scopes: Scope::ALL.into_iter().collect(),
                fields: None,
                own: Some(Actor::Account(Username::parse(OPEN_ACCOUNT))),
            })
        });
        Arc::clone(&OPEN)
    }

    /// Whether a text can name an identity: 1 to 255 characters, no control characters.
    pub fn is_name(name: &str) -> bool {
        (1..=NAME_CHARACTERS).contains(&name.chars().count()) && !name.chars().any(char::is_control)
    }

    /// The name. The change log shows the name for changes in the identity's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields that the identity may change; `None` for all.
    pub fn fields(&self) -> Option<FieldSet> {
        self.fields
    }

    /// The actor of a call that requires a scope: the named account, or the identity itself.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] if the identity lacks the scope, or if the call names no account and
    /// the identity may not act in its own name.
    pub fn actor(&self, scope: Scope, acting_username: &str) -> Result<Actor, Error> {
        if !self.scopes.allow(scope) {
            return Err(NotPermitted::Scope(scope).into());
        }
        if !acting_username.is_empty() {
            return Ok(Actor::Account(Username::parse(acting_username)));
        }
        self.own.clone().ok_or_else(|| NotPermitted::OwnName.into())
    }
}
