//! Environment variables.

use std::ffi::OsString;

use super::{
    section::{Key, VARIABLE_PREFIX},
    settings::keys,
    unknown,
};

/// The variable of the configuration file. It is not a key.
pub const FILE_VARIABLE: &str = "M4_CONFIG";

/// The values of keys. Reports unknown variables.
pub(super) fn read(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    errors: &mut Vec<String>,
) -> Vec<(&'static str, String)> {
    let named = environment.into_iter().filter(|(_, value)| !value.is_empty());
    let named = named.map(|(name, value)| (name.to_string_lossy().into_owned(), value));
    let own = |(name, _): &(String, _)| name.starts_with(VARIABLE_PREFIX) && name != FILE_VARIABLE;
    let variables: Vec<_> = named.filter(own).collect();
    let hosts = variables.iter().filter_map(|(name, _)| name.strip_suffix("_SERVICE_HOST"));
    let services: Vec<_> = hosts.collect();
    let mut values = Vec::new();
    for (name, value) in &variables {
        match (keys().find(|key| key.variable() == *name), value.to_str()) {
            (Some(key), Some(text)) => values.push((key.path, text.to_owned())),
            (Some(key), None) => errors.push(format!("{} ({name}) must be UTF-8", key.path)),
            (None, _) if services.iter().any(|service| describes(name, service)) => {}
            (None, _) => {
                let known = keys().map(Key::variable).chain([FILE_VARIABLE.to_owned()]);
                errors.push(unknown::error(name, "environment", known));
            }
        }
    }
    values
}

/// Whether Kubernetes sets this variable for a Service, such as `M4_USER_DETAILS_PORT` for
/// `m4-user-details`:
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn describes(name: &str, service: &str) -> bool {
    let rest = name.strip_prefix(service).and_then(|rest| rest.strip_prefix('_'));
    let first = rest.map(|rest| rest.split('_').next().unwrap_or_default());
    matches!(first, Some("SERVICE" | "PORT"))
}
