//! The expiry of the configured certificates.

use crate::{
    config::Config,
    domain::clock::{Clock, SystemClock},
    finding::Finding,
    tls::Expiry,
};

const CERTIFICATES: &str = "certificates";

/// Examines each file of certificates.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let now = SystemClock.now();
    let files = config.certificate_files();
    if files.is_empty() {
        return vec![Finding::ok(CERTIFICATES, "none: the listeners have no TLS")];
    }
    let finding = |file: &crate::tls::File| {
        let key = file.key;
        let remedy = "replace the file: a running service reads it again";
        match file.expiry(now) {
            Ok(Expiry::Expired(end)) => {
                let found = format!("{key} is expired since {}", end.date_naive());
                Finding::error(CERTIFICATES, found, remedy)
            }
            Ok(Expiry::Soon(end)) => {
                let found = format!("{key} expires on {}", end.date_naive());
                Finding::warning(CERTIFICATES, found, remedy)
            }
            Ok(Expiry::Later(end)) => {
                Finding::ok(CERTIFICATES, format!("{key} is valid until {}", end.date_naive()))
            }
            Err(error) => Finding::error(CERTIFICATES, error.to_string(), remedy),
        }
    };
    files.into_iter().map(finding).collect()
}
