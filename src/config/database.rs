//! The section `database`.

use super::{
    section::section,
    value::{Number, Parse},
};
use crate::storage::{Engine, check_url};

section! {
    /// The database.
    Database("database.") {
        /// `sqlite://FILE`, `postgres://…` or `mysql://…`. PostgreSQL may have several hosts:
        /// `postgres://A,B/NAME`.
        url: DatabaseUrl = "sqlite://m4-user-details.db",
        /// Maximum number of connections to the database. Servers have one more for the readiness
        /// probe, and PostgreSQL another one for watches.
        max_connections: Number<1, 1000> = "10",
    }
}

/// A URL of a supported database. May hold a password.
pub(super) struct DatabaseUrl(pub(super) String);

impl Parse for DatabaseUrl {
    fn parse(text: String) -> Result<Self, String> {
        if Engine::from_url(&text).is_none() {
            return Err("must be sqlite://FILE, postgres://… or mysql://…".to_owned());
        }
        check_url(&text).map_err(|error| format!("cannot be used: {error}"))?;
        Ok(Self(text))
    }
}
