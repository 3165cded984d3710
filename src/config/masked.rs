//! Values and errors without secrets. Text that cannot be parsed is not shown.

use figment::{Error, error::Kind};
use url::Url;

/// Replaces a value that cannot be parsed.
const NOT_SHOWN: &str = "(not shown: it cannot be parsed)";

/// URL parameters that are shown; all other values are masked.
const SHOWN_PARAMETERS: [&str; 12] = [
    "application_name",
    "cache",
    "charset",
    "collation",
    "host",
    "immutable",
    "mode",
    "port",
    "ssl-ca",
    "ssl-mode",
    "sslmode",
    "sslrootcert",
];

/// Why a file cannot be read. Error texts may quote a secret from the file.
pub(super) fn shown(error: &Error) -> String {
    let place = error.path.join(".");
    let place = if place.is_empty() { String::new() } else { format!(" for {place}") };
    match &error.kind {
        Kind::Message(text) => {
            // The first line is the position; the other lines quote the file.
            let position = text.lines().next().filter(|line| is_position(line));
            position.unwrap_or("it is not valid TOML").to_owned()
        }
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
            format!("expected {expected}{place}")
        }
        Kind::InvalidLength(_, expected) => format!("expected {expected}{place}"),
        Kind::UnknownField(..) => format!("unknown field{place}"),
        Kind::MissingField(field) => format!("missing field `{field}`"),
        Kind::DuplicateField(field) => format!("duplicate field `{field}`"),
        _ => format!("it cannot be used{place}"),
    }
}

/// Whether a line is `TOML parse error at line 1, column 2`.
fn is_position(line: &str) -> bool {
    let Some(place) = line.strip_prefix("TOML parse error at line ") else { return false };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    place.split_once(", column ").is_some_and(|(line, column)| is_number(line) && is_number(column))
}

/// The value of a URL key. Text other than a URL may be a connection string with a password.
pub(super) fn url_without_secrets(text: &str) -> String {
    if text.is_empty() || text.contains("://") || text.starts_with("sqlite:") {
        without_secrets(text)
    } else {
        NOT_SHOWN.to_owned()
    }
}

/// Masks the password and the parameters of a URL. Text that looks like a URL with a user and
/// cannot be parsed is not shown.
pub(super) fn without_secrets(text: &str) -> String {
    if !text.contains("://") && !text.contains('@') {
        return text.to_owned();
    }
    // A file path has no escapes and no password.
    let is_file = text.starts_with("sqlite:");
    let Ok(url) = Url::parse(if is_file { "sqlite:" } else { text }) else {
        return NOT_SHOWN.to_owned();
    };
    if !is_file && !url.has_host() {
        return NOT_SHOWN.to_owned();
    }
    let (base, query) = match text.split_once('?') {
        // A question mark in a password starts the query in some parsers only.
        Some((base, query)) if is_file || url.query() == Some(query) => (base, Some(query)),
        None => (text, None),
        Some(_) => return NOT_SHOWN.to_owned(),
    };
    let base = match (url.password(), base.split_once("://")) {
        (None, _) => base.to_owned(),
        (Some(_), Some((scheme, rest))) => {
            let (user, host) = rest.rsplit_once('@').unwrap_or_default();
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}")
        }
        (Some(_), None) => return NOT_SHOWN.to_owned(),
    };
    let Some(query) = query else { return base };
    let parameter = |text: &str| match text.split_once('=') {
        Some((name, value)) if SHOWN_PARAMETERS.contains(&name) => format!("{name}={value}"),
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    };
    let query: Vec<_> = query.split('&').map(parameter).collect();
    format!("{base}?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use figment::{
        Figment,
        providers::{Format, Toml},
    };

    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        for (text, expected) in [
            ("info", "info"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("sqlite://m4 user-details.db", "sqlite://m4 user-details.db"),
            ("sqlite:///var/m4.db?mode=rw&key=hush", "sqlite:///var/m4.db?mode=rw&key=***"),
            ("postgres://m4@db/m4", "postgres://m4@db/m4"),
            ("postgres://m4:hush@db:5432/m4", "postgres://m4:***@db:5432/m4"),
            ("postgres://m4:hu@sh@db/m4", "postgres://m4:***@db/m4"),
            ("postgres://m4:hu:sh@[::1]/m4", "postgres://m4:***@[::1]/m4"),
            (
                "mysql://db/m4?PASSWORD=hush&sslmode=require",
                "mysql://db/m4?PASSWORD=***&sslmode=require",
            ),
            ("mysql://db/m4?p%61ssword=hush", "mysql://db/m4?p%61ssword=***"),
            ("mysql://m4:x@db/m4?hush@home", "mysql://m4:***@db/m4?***"),
            ("https://id.example/jwks?key=hush", "https://id.example/jwks?key=***"),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
        for text in [
            "postgres://m4:hush",
            "postgres://m4:hu/sh@db/m4",
            "m4:hush@db/m4",
            "postgres:m4:hush@db",
            "postgres//m4:hush@db",
            "postgres://m4:hush@",
            "http://m4:hush@ db/",
        ] {
            assert_eq!(without_secrets(text), NOT_SHOWN, "{text}");
            assert_eq!(url_without_secrets(text), NOT_SHOWN, "{text}");
        }
        for text in ["host=db user=m4 password=hush", "postgres:m4:hush", "hush"] {
            assert_eq!(url_without_secrets(text), NOT_SHOWN, "{text}");
        }
        for text in ["", "sqlite::memory:", "postgres://db/m4"] {
            assert_eq!(url_without_secrets(text), text);
        }
    }

    #[test]
    fn errors_of_files_quote_nothing() {
        for text in [
            "hush",
            "a = hush",
            "a = \"hush",
            "a = 'hush\n'",
            "a = \"\"\"\nhush\nhush",
            "a = \"\\hush\"",
            "hush = 1\nhush = 2",
            "[hush",
            "a = 1 hush",
            "a = 1979-13-01hush",
        ] {
            let error = Figment::from(Toml::string(text)).extract::<figment::value::Dict>();
            let shown = shown(&error.unwrap_err());
            assert!(!shown.contains("hush") && shown.contains("line"), "{text}: {shown}");
        }
        #[derive(Debug, serde::Deserialize)]
        struct Listed {
            #[expect(dead_code, reason = "it is never read")]
            list: Vec<u8>,
        }
        for text in ["list = 'hush'", "list = ['hush']", "list = [-7]", ""] {
            let error = Figment::from(Toml::string(text)).extract::<Listed>();
            let shown = shown(&error.unwrap_err());
            assert!(!shown.contains("hush") && !shown.contains("-7"), "{text}: {shown}");
            assert!(shown.contains("expected") || shown.contains("missing"), "{text}: {shown}");
        }
    }
}
