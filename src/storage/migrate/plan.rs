//! The steps of a database's schema: applied, pending, or of a newer version. Changes nothing.

use m4_user_details_migrations::{Record, Step, steps};
use tokio::time::timeout;

use super::{compatible::check_compatible, lock::in_time};
use crate::storage::{
    connect::{ACQUIRE_TIMEOUT, Engine, OpenError, Options, UrlError, check, read_only},
    sqlite_url::{SqliteFile, check_file},
    texts::backend,
};

/// The state of a step in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// The step was applied.
    Applied,
    /// The next migration applies the step.
    Pending,
    /// A newer version applied the step. This version can run on it.
    Newer,
}

/// A step of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The name.
    pub name: String,
    /// The state.
    pub state: StepState,
    /// Why older programs cannot run on the step; `None` if they can.
    pub incompatible: Option<&'static str>,
    /// The statement on this engine; `None` if the engine needs none.
    pub sql: Option<String>,
}

/// Reads which steps a database has, and which a migration would apply.
///
/// # Errors
/// [`OpenError`]: the database does not answer or is unfit, or a newer version has made the schema
/// incompatible.
pub async fn plan(options: &Options) -> Result<Vec<PlannedStep>, OpenError> {
    let engine = Engine::from_url(&options.url).ok_or(UrlError::Scheme)?;
    check_file(&options.url)?;
    let is_new = engine == Engine::Sqlite && !SqliteFile::from_url(&options.url)?.path().exists();
    let record = if is_new {
        Record::empty()
    } else {
        check(options).await?;
        read(options).await?
    };
    Ok(planned(engine, &record, &steps()))
}

async fn read(options: &Options) -> Result<Record, OpenError> {
    let connection = read_only(options).await?;
    let read = async {
        in_time(check_compatible(&connection, &steps())).await?;
        in_time(Record::read(&connection)).await
    };
    let record = read.await;
    // A failed close does not change the result.
    let _ = timeout(ACQUIRE_TIMEOUT, connection.close()).await;
    record
}

fn planned(engine: Engine, record: &Record, steps: &[Step]) -> Vec<PlannedStep> {
    let known = steps.iter().map(|step| PlannedStep {
        name: step.name().to_owned(),
        state: if record.has(step) { StepState::Applied } else { StepState::Pending },
        incompatible: step.incompatible_reason(),
        sql: step.sql(backend(engine)),
    });
    let newer = record.others(steps).map(|name| PlannedStep {
        name: name.to_owned(),
        state: StepState::Newer,
        incompatible: None,
        sql: None,
    });
    known.chain(newer).collect()
}
