//! Caches the SQL texts that SeaORM builds for updates: a text does not depend on values.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use foldhash::HashMap;
use sea_orm::{DbBackend, Statement, Value};

use super::connect::Engine;
use crate::fields::Field;

/// Maximum number of texts. Only the sets of updated fields make the shapes numerous.
const MAX_TEXTS: usize = 1000;

type Texts = HashMap<(Engine, Shape), Arc<str>>;
static TEXTS: LazyLock<Mutex<Texts>> = LazyLock::new(Mutex::default);

/// Determines a statement's text, together with the engine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// Reads this many acting accounts.
    Actors(usize),
    /// Reads this many users. `Some` locks the rows: true waits, false skips locked rows.
    Users(usize, Option<bool>),
    /// Stores these fields of one user.
    Update(Vec<Field>),
    /// Updates these fields. The number is the number of users.
    Updates(Vec<Field>, usize),
    /// Stores this many change log entries.
    Entries(usize),
}

/// The engine, for SeaORM.
pub(super) fn backend(engine: Engine) -> DbBackend {
    match engine {
        Engine::Sqlite => DbBackend::Sqlite,
        Engine::Postgres => DbBackend::Postgres,
        Engine::MySql => DbBackend::MySql,
    }
}

/// A statement of a shape with `values`. Its text comes from the cache, or from `build`. A
/// statement with other values is not cached.
pub(super) fn statement(
    engine: Engine,
    shape: Shape,
    values: Vec<Value>,
    build: impl FnOnce() -> Statement,
) -> Statement {
    if let Some(text) = kept(engine, &shape) {
        return Statement::from_sql_and_values(backend(engine), &*text, values);
    }
    let built = build();
    let same = built.values.as_ref().is_some_and(|built| built.0 == values);
    debug_assert!(same, "{shape:?}: {:?} {values:?}", built.values);
    if same {
        keep(engine, shape, &built.sql);
    }
    built
}

/// Returns the cached text of a shape.
fn kept(engine: Engine, shape: &Shape) -> Option<Arc<str>> {
    let texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    texts.get(&(engine, shape.clone())).cloned()
}

/// Caches the text of a shape.
fn keep(engine: Engine, shape: Shape, text: &str) {
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if texts.len() >= MAX_TEXTS {
        texts.clear();
    }
    texts.insert((engine, shape), text.into());
}
