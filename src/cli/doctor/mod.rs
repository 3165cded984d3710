//! `doctor`: checks the configuration and the database, and says what to do.

mod certificates;
mod configuration;
mod keys;
mod listeners;

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use super::{error::CliError, print};
use crate::{
    config::{Config, ConfigErrors},
    finding::{Finding, Severity},
    storage::{Examination, examine},
};

/// Check the configuration, the database, keys, certificates and listeners. Changes nothing. One
/// line for each check: `ok`, `warning` or `error`, the check, what was found, what to do.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        self.report(&checks(config).await)
    }

    /// Unlike other commands, reports an invalid configuration as findings.
    pub(super) fn report_errors(&self, errors: &ConfigErrors) -> Result<(), CliError> {
        self.report(&configuration::errors(errors))
    }

    fn report(&self, findings: &[Finding]) -> Result<(), CliError> {
        let text = |finding| if self.json { object(finding) } else { line(finding) };
        print::coloured(&findings.iter().map(text).collect::<String>());
        match findings.iter().filter(|finding| finding.severity == Severity::Error).count() {
            0 => Ok(()),
            1 => Err(CliError::Failed("1 error was found".to_owned())),
            many => Err(CliError::Failed(format!("{many} errors were found"))),
        }
    }
}

async fn checks(config: &Config) -> Vec<Finding> {
    let Examination { findings: database, client_keys } = examine(&config.database).await;
    let mut findings = configuration::examine(config);
    findings.extend(database);
    findings.extend(keys::examine(config, client_keys));
    findings.extend(certificates::examine(config));
    findings.extend(listeners::examine(config));
    findings
}

fn line(finding: &Finding) -> String {
    let Finding { check, severity, found, remedy } = finding;
    let style = match severity {
        Severity::Ok => print::SUCCESS,
        Severity::Warning => print::WARNING,
        Severity::Error => print::ERROR,
    };
    let mut line = format!("{style}{:<7}{style:#}  {check}: {found}", severity.as_str());
    if !remedy.is_empty() {
        // Writing into a string does not fail.
        let _ = write!(line, " - {remedy}");
    }
    line + "\n"
}

fn object(finding: &Finding) -> String {
    let Finding { check, severity, found, remedy } = finding;
    let object =
        json!({"check": check, "severity": severity.as_str(), "found": found, "remedy": remedy});
    format!("{object}\n")
}
