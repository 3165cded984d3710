//! The configuration: readable, and protected against strangers.

use crate::{
    config::{Config, ConfigErrors, SHORTEST_SECRET},
    finding::Finding,
};

const CONFIGURATION: &str = "configuration";
const AUTHENTICATION: &str = "authentication";

/// One finding for each error.
pub(super) fn errors(errors: &ConfigErrors) -> Vec<Finding> {
    let finding = |error: &str| Finding::error(CONFIGURATION, error, "");
    errors.each().map(finding).collect()
}

/// Examines a readable configuration.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(CONFIGURATION, "readable; `config` shows it")];
    findings.push(match config.authentication(false) {
        Err(error) => Finding::error(AUTHENTICATION, error.to_string(), ""),
        Ok(authentication) if authentication.open => Finding::warning(
            AUTHENTICATION,
            "off (insecure): every caller has all rights",
            "configure tokens, JWTs or client certificates, and remove `insecure`",
        ),
        Ok(_) => Finding::ok(AUTHENTICATION, "callers of other machines must authenticate"),
    });
    findings.extend(config.short_secrets().into_iter().map(|key| {
        let found = format!("{key} has fewer than {SHORTEST_SECRET} characters");
        let remedy = "take a longer secret: the service listens on a non-loopback address";
        Finding::warning("secrets", found, remedy)
    }));
    findings
}
