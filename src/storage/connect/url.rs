//! Parses the URL of a database server: one or more hosts, and driver options.

use std::str::FromStr;

use sea_orm::sqlx::{self, ConnectOptions, mysql::MySqlConnectOptions, postgres::PgConnectOptions};

use super::Engine;

/// Why a database URL is invalid. No message contains a value of the URL: values may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The scheme names no supported engine.
    #[error("it must be sqlite://FILE, postgres://… or mysql://…")]
    Scheme,
    /// User, password, host and port cannot be parsed.
    #[error(
        "its part before the path cannot be read: percent-encode special characters of user name and password, such as %23 for #, %40 for @ and %2F for /"
    )]
    Authority,
    /// The driver refuses an option's value, or a value is not percent-encoded.
    #[error("the value of {0} cannot be used")]
    Value(String),
    /// The option is unknown.
    #[error("unknown option {0}")]
    Option(String),
}

/// The URL options of the PostgreSQL driver.
const POSTGRES_OPTIONS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// The URL options of the MySQL driver.
const MYSQL_OPTIONS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslca",
    "ssl-ca",
    "charset",
    "collation",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "socket",
    "timezone",
    "time-zone",
];

/// libpq's option that selects hosts by their session state.
const TARGET: &str = "target_session_attrs";

/// The hosts of a URL, in the order of connection attempts.
#[derive(Clone)]
pub(in crate::storage) struct ServerUrl {
    pub(super) hosts: Vec<Host>,
    /// Whether a host must accept writes.
    pub(super) needs_writes: bool,
}

/// The connect options of one host.
#[derive(Clone)]
pub(super) enum Host {
    Postgres(PgConnectOptions),
    MySql(MySqlConnectOptions),
}

impl ServerUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`UrlError`] names the invalid part.
    pub(in crate::storage) fn read(url: &str) -> Result<Self, UrlError> {
        let engine = Engine::from_url(url).ok_or(UrlError::Scheme)?;
        let (known, scheme) = match engine {
            Engine::Postgres => (POSTGRES_OPTIONS, "postgres"),
            Engine::MySql => (MYSQL_OPTIONS, "mysql"),
            Engine::Sqlite => return Err(UrlError::Scheme),
        };
        let (_, rest) = url.split_once("://").ok_or(UrlError::Authority)?;
        if rest.contains('#') {
            return Err(UrlError::Authority);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let mut target = None;
        let mut options = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if name == TARGET {
                target = Some(needs_writes(&value)?);
            } else if known.contains(&&*name) || name.starts_with("options[") {
                check_value(engine, &name, &value)?;
                options.append_pair(&name, &value);
            } else {
                return Err(UrlError::Option(name.into_owned()));
            }
        }
        let options = options.finish();
        let read = |host: &str| {
            let url = format!("{scheme}://{user}{host}/{path}?{options}");
            Host::read(engine, &url).ok_or(UrlError::Authority)
        };
        let hosts: Vec<_> = hosts.split(',').map(read).collect::<Result<_, _>>()?;
        let needs_writes = target.unwrap_or(hosts.len() > 1);
        Ok(Self { hosts, needs_writes })
    }
}

impl ServerUrl {
    /// The hosts, the database and the user, for messages.
    pub(super) fn describe(&self) -> String {
        let place = |host: &Host| {
            let (address, port) = host.place();
            format!("{address}:{port}")
        };
        let hosts: Vec<_> = self.hosts.iter().map(place).collect();
        let first = self.hosts.first();
        let database = first.and_then(Host::database).unwrap_or_default();
        let user = first.map(Host::user).unwrap_or_default();
        format!("at {} (database `{database}`, user `{user}`)", hosts.join(", "))
    }
}

impl Host {
    fn read(engine: Engine, url: &str) -> Option<Self> {
        // The driver accepts any text as a host.
        let parsed = url::Url::parse(url).ok()?;
        if parsed.host_str().is_some_and(|host| host.contains(char::is_whitespace)) {
            return None;
        }
        Some(match engine {
            Engine::Postgres => {
                Self::Postgres(PgConnectOptions::from_str(url).ok()?.disable_statement_logging())
            }
            Engine::MySql | Engine::Sqlite => {
                let options = MySqlConnectOptions::from_str(url).ok()?;
                Self::MySql(options.charset("utf8mb4").disable_statement_logging())
            }
        })
    }
}

impl Host {
    /// The name of the database.
    pub(super) fn database(&self) -> Option<String> {
        match self {
            Self::Postgres(own) => {
                Some(own.get_database().unwrap_or(own.get_username()).to_owned())
            }
            Self::MySql(own) => own.get_database().map(str::to_owned),
        }
    }

    /// The name of the user.
    fn user(&self) -> &str {
        match self {
            Self::Postgres(own) => own.get_username(),
            Self::MySql(own) => own.get_username(),
        }
    }

    /// The socket path, host name or IP address.
    pub(super) fn address(&self) -> String {
        let (socket, host) = match self {
            Self::Postgres(own) => (own.get_socket(), own.get_host()),
            Self::MySql(own) => (own.get_socket(), own.get_host()),
        };
        socket.map_or(host.to_owned(), |socket| socket.to_string_lossy().into_owned())
    }

    /// The address and the port.
    pub(super) fn place(&self) -> (String, u16) {
        let port = match self {
            Self::Postgres(own) => own.get_port(),
            Self::MySql(own) => own.get_port(),
        };
        (self.address(), port)
    }

    /// The port, unless it is the default port.
    pub(super) fn unusual_port(&self) -> Option<u16> {
        let (socket, port, usual) = match self {
            Self::Postgres(own) => (own.get_socket(), own.get_port(), 5432),
            Self::MySql(own) => (own.get_socket(), own.get_port(), 3306),
        };
        (socket.is_none() && port != usual).then_some(port)
    }
}

/// Parses libpq's `target_session_attrs`: whether hosts must accept writes. Others are invalid.
fn needs_writes(target: &str) -> Result<bool, UrlError> {
    match target {
        "any" => Ok(false),
        "read-write" | "primary" => Ok(true),
        _ => Err(UrlError::Value(TARGET.to_owned())),
    }
}

/// Checks that the driver accepts the value of an option.
fn check_value(engine: Engine, name: &str, value: &str) -> Result<(), UrlError> {
    let query =
        url::form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish();
    let taken: Result<(), sqlx::Error> = match engine {
        Engine::Postgres => PgConnectOptions::from_str(&format!("postgres://h/?{query}")).map(drop),
        Engine::MySql | Engine::Sqlite => {
            MySqlConnectOptions::from_str(&format!("mysql://h/?{query}")).map(drop)
        }
    };
    taken.map_err(|_| UrlError::Value(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Vec<(String, u16)> {
        let host = |host: &Host| match host {
            Host::Postgres(options) => (options.get_host().to_owned(), options.get_port()),
            Host::MySql(options) => (options.get_host().to_owned(), options.get_port()),
        };
        ServerUrl::read(url).unwrap().hosts.iter().map(host).collect()
    }

    #[test]
    fn hosts_are_tried_in_their_order_each_with_its_port() {
        let pair = |host: &str, port| (host.to_owned(), port);
        assert_eq!(hosts("postgres://u:p@a/d"), [pair("a", 5432)]);
        assert_eq!(hosts("postgres://u:p@a,b:5433/d"), [pair("a", 5432), pair("b", 5433)]);
        assert_eq!(hosts("mariadb://a:1,[::1]:2/d"), [pair("a", 1), pair("[::1]", 2)]);
    }

    #[test]
    fn several_hosts_must_accept_writes_unless_it_is_said_otherwise() {
        let needs = |url| ServerUrl::read(url).unwrap().needs_writes;
        assert!(!needs("postgres://a/d"));
        assert!(needs("postgres://a,b/d"));
        assert!(needs("mysql://a/d?target_session_attrs=read-write"));
        assert!(!needs("postgres://a,b/d?target_session_attrs=any&sslmode=disable"));
    }

    #[test]
    fn the_part_that_is_wrong_is_named_without_its_value() {
        for (url, expected) in [
            ("http://h/d", UrlError::Scheme),
            ("postgres:h", UrlError::Authority),
            ("postgres://u:pa#ss@h/d", UrlError::Authority),
            ("postgres://u:pa/ss@h/d", UrlError::Authority),
            ("postgres://u:p@h:port/d", UrlError::Authority),
            ("postgres://h o/d", UrlError::Authority),
            ("mysql://h/d?foo=bar", UrlError::Option("foo".to_owned())),
            ("postgres://h/d?sslmode=bogus", UrlError::Value("sslmode".to_owned())),
            ("mysql://h/d?ssl-mode=bogus", UrlError::Value("ssl-mode".to_owned())),
            ("postgres://a,b/d?target_session_attrs=standby", UrlError::Value(TARGET.to_owned())),
            ("mysql://h/d?socketTimeout=hush", UrlError::Option("socketTimeout".to_owned())),
        ] {
            let error = ServerUrl::read(url).err();
            assert_eq!(error.as_ref(), Some(&expected), "{url}");
            assert!(!expected.to_string().contains("hush"));
        }
    }
}
