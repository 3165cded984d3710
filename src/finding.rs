//! Findings of a check of the configuration and the database.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Ok,
    /// The service runs, but an operator should act.
    Warning,
    /// The service does not run, or could lose updates.
    Error,
}

impl Severity {
    /// The word in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The result of one check. Contains no secret and no value of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// How bad the finding is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing is to do, or if `found` already says it.
    pub remedy: String,
}

impl Finding {
    /// A finding without anything to do.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, found, "")
    }

    /// A finding that does not stop the service.
    pub fn warning(
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, Severity::Warning, found, remedy)
    }

    /// A finding that stops the service, or could lose updates.
    pub fn error(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, Severity::Error, found, remedy)
    }

    fn new(
        check: &'static str,
        severity: Severity,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { check, severity, found: found.into(), remedy: remedy.into() }
    }
}
