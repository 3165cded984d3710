//! Checks that a server meets the service's requirements.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement};

use super::{
    engine::learn_product,
    error::{OpenError, Unfit},
};

/// A server that meets the requirements.
#[derive(Clone, Debug, Default)]
pub(in crate::storage) struct Fitness {
    /// The product and the version.
    pub(in crate::storage) server: String,
    /// Settings that can lose updates in a rare case, each as a sentence.
    pub(in crate::storage) weaknesses: Vec<String>,
}

impl Fitness {
    /// Logs the weaknesses.
    pub(super) fn log(&self) {
        for weakness in &self.weaknesses {
            tracing::warn!("{weakness}");
        }
    }
}

/// Checks a server that has accepted a connection.
///
/// # Errors
/// [`OpenError::Unfit`]; [`OpenError::Prepare`] if the server does not answer.
pub(super) async fn check_server(connection: &DatabaseConnection) -> Result<Fitness, OpenError> {
    match connection.get_database_backend() {
        DbBackend::Postgres => postgres(connection).await,
        _ => mysql(connection).await,
    }
}

async fn postgres(connection: &DatabaseConnection) -> Result<Fitness, OpenError> {
    let version: String = text(connection, "SELECT version()").await?;
    if let Some(other) = other_product(&version, "PostgreSQL ") {
        return Err(Unfit::Product(other).into());
    }
    let setting = async |name: &str| -> Result<String, OpenError> {
        text(connection, &format!("SELECT current_setting('{name}')")).await
    };
    let number: u32 = setting("server_version_num").await?.parse().unwrap_or_default();
    let found = setting("server_version").await?;
    let server = format!("PostgreSQL {found}");
    if number < 130_000 {
        return Err(Unfit::Version { product: "PostgreSQL", found, least: "13" }.into());
    }
    let encoding = setting("server_encoding").await?;
    if encoding != "UTF8" {
        return Err(Unfit::Encoding(encoding).into());
    }
    let found = setting("fsync").await?;
    if found != "on" {
        return Err(Unfit::Durability { setting: "fsync", found, needed: "on" }.into());
    }
    let mut weaknesses = Vec::new();
    if setting("full_page_writes").await? != "on" {
        weaknesses.push(
            "full_page_writes is off: data survives a power loss only if the file system writes \
             pages atomically"
                .to_owned(),
        );
    }
    Ok(Fitness { server, weaknesses })
}

async fn mysql(connection: &DatabaseConnection) -> Result<Fitness, OpenError> {
    let version: String = text(connection, "SELECT VERSION()").await?;
    let comment: String = text(connection, "SELECT @@version_comment").await?;
    learn_product(&version);
    if let Some(other) = other_product(&format!("{version} {comment}"), "") {
        return Err(Unfit::Product(other).into());
    }
    let (product, least, oldest) = if version.contains("MariaDB") {
        ("MariaDB", "10.6", (10, 6))
    } else {
        ("MySQL", "8.0", (8, 0))
    };
    if major_and_minor(&version) < oldest {
        return Err(Unfit::Version { product, found: version, least }.into());
    }
    let server = format!("{product} {version}");
    let value = async |name: &str| -> Result<String, OpenError> {
        text(connection, &format!("SELECT CAST(@@{name} AS CHAR)")).await
    };
    // On Galera, other nodes have the transactions of a failed node.
    let provider = value("wsrep_provider").await.unwrap_or_default();
    let is_galera = !["", "none"].contains(&&*provider);
    let mut needed =
        vec![("innodb_flush_log_at_trx_commit", value("innodb_flush_log_at_trx_commit").await?)];
    if ["1", "ON"].contains(&&*value("log_bin").await?) {
        needed.push(("sync_binlog", value("sync_binlog").await?));
    }
    let mut weaknesses = Vec::new();
    for (setting, found) in needed {
        if found == "1" {
            continue;
        }
        if !is_galera {
            return Err(Unfit::Durability { setting, found, needed: "1" }.into());
        }
        weaknesses.push(format!(
            "{setting} is {found}: if all nodes of the cluster fail at once, acknowledged updates \
             can be lost"
        ));
    }
    // Earlier versions created tables with the server's default engine.
    let other: Vec<QueryResult> =
        connection.query_all_raw(Statement::from_string(DbBackend::MySql, OTHER_ENGINES)).await?;
    match other.first() {
        None => Ok(Fitness { server, weaknesses }),
        Some(row) => {
            let (table, engine) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            Err(Unfit::StorageEngine { table, engine }.into())
        }
    }
}

/// The service's tables that do not use `InnoDB`.
const OTHER_ENGINES: &str = "SELECT table_name, engine FROM information_schema.tables \
     WHERE table_schema = DATABASE() AND engine <> 'InnoDB' AND table_name IN \
     ('accounts', 'administration_log', 'change_log', 'change_log_sweeps', 'database_epochs', 'legacy_blocks', 'legacy_clients', 'legacy_keys', 'requests', \
     'service_tokens', 'settings', 'token_keys')";

/// Parses major and minor of a version such as `10.11.6-MariaDB`. Some servers prefix `5.5.5-`.
fn major_and_minor(version: &str) -> (u32, u32) {
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = version
        .split(|other: char| !other.is_ascii_digit())
        .map(|number| number.parse().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// The name of a product that only speaks the protocol. Genuine versions start with `own`.
fn other_product(version: &str, own: &str) -> Option<String> {
    const OTHERS: [&str; 13] = [
        "CockroachDB",
        "YugabyteDB",
        "-YB-",
        "Redshift",
        "Greenplum",
        "CrateDB",
        "Materialize",
        "QuestDB",
        "TiDB",
        "Vitess",
        "OceanBase",
        "StarRocks",
        "SingleStore",
    ];
    let lower = version.to_lowercase();
    let known = OTHERS.iter().find(|name| lower.contains(&name.to_lowercase()));
    match known {
        Some(&"-YB-") => Some("YugabyteDB".to_owned()),
        Some(name) => Some((*name).to_owned()),
        None if version.starts_with(own) => None,
        None => version.split(' ').next().map(str::to_owned),
    }
}

async fn text(connection: &DatabaseConnection, query: &str) -> Result<String, OpenError> {
    let query = Statement::from_string(connection.get_database_backend(), query);
    let row: Option<QueryResult> = connection.query_one_raw(query).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("no row".to_owned()))?;
    Ok(row.try_get_by_index(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_only_speak_the_protocol_are_told_by_their_version() {
        for (version, own, expected) in [
            ("PostgreSQL 15.20 (Debian 15.20-0+deb12u1) on x86_64", "PostgreSQL ", None),
            ("CockroachDB CCL v23.1.11 (x86_64)", "PostgreSQL ", Some("CockroachDB")),
            ("PostgreSQL 11.2-YB-2.19.0.0-b0 on x86_64", "PostgreSQL ", Some("YugabyteDB")),
            ("H2 2.2.224", "PostgreSQL ", Some("H2")),
            ("10.11.19-MariaDB-0+deb12u1 Debian 12", "", None),
            ("8.0.36 MySQL Community Server - GPL", "", None),
            ("8.0.11-TiDB-v7.5.0 TiDB Server (Apache License 2.0)", "", Some("TiDB")),
            ("8.0.30-Vitess Version: 18.0.0", "", Some("Vitess")),
        ] {
            assert_eq!(other_product(version, own).as_deref(), expected, "{version}");
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, expected) in [
            ("10.11.19-MariaDB-0+deb12u1", (10, 11)),
            ("5.5.5-10.4.32-MariaDB", (10, 4)),
            ("8.0.36", (8, 0)),
            ("11", (11, 0)),
        ] {
            assert_eq!(major_and_minor(version), expected);
        }
    }
}
