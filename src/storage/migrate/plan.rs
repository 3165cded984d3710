//! The steps of a database's schema: applied, pending, or of a newer version. Changes nothing.

use m4_user_details_migrations::{Record, steps};
use sea_orm::{DatabaseConnection, DbErr};
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
    /// The script of a pending step for the database's own client; `None` if the engine needs none.
    pub script: Option<String>,
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
    if is_new {
        return Ok(planned(engine, &Record::empty(), None).await?);
    }
    check(options).await?;
    let connection = read_only(options).await?;
    let plan = async {
        in_time(check_compatible(&connection, &steps())).await?;
        in_time(async {
            let record = Record::read(&connection).await?;
            planned(engine, &record, Some(&connection)).await
        })
        .await
    };
    let plan = plan.await;
    // A failed close does not change the result.
    let _ = timeout(ACQUIRE_TIMEOUT, connection.close()).await;
    plan
}

async fn planned(
    engine: Engine,
    record: &Record,
    connection: Option<&DatabaseConnection>,
) -> Result<Vec<PlannedStep>, DbErr> {
    let known = steps();
    let mut planned = Vec::with_capacity(known.len());
    for step in &known {
        let is_applied = record.has(step);
        let script =
            if is_applied { None } else { step.script(backend(engine), connection).await? };
        planned.push(PlannedStep {
            name: step.name().to_owned(),
            state: if is_applied { StepState::Applied } else { StepState::Pending },
            incompatible: step.incompatible_reason(),
            script,
        });
    }
    let newer = record.others(&known).map(|name| PlannedStep {
        name: name.to_owned(),
        state: StepState::Newer,
        incompatible: None,
        script: None,
    });
    planned.extend(newer);
    Ok(planned)
}
