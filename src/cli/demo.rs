//! `demo`: the whole service on a temporary database, and the vendor's sample call.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use http::{Method, StatusCode};
use tokio_util::sync::CancellationToken;

use super::{
    error::CliError, hash::explain_query, http_client, print, with_telemetry::with_telemetry,
};
use crate::{
    app::{Application, DEMO_KEY, Environment, RunError},
    config::Config,
    domain::{error::chain, hash::SecretKeys, master_key::MasterKeys},
    fields::FIELDS,
    grpc::certificates::Certificates,
    legacy_call::query_parameter,
    proto::{
        GetUserDetailsRequest, UserDetails, user_details_service_client::UserDetailsServiceClient,
    },
    storage::{DEMO_ACCOUNTS, sqlite_url},
};

/// Timeout for the start of the service.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The log filter while the demo serves.
const CALLS_LOGGED: &str = "warn,m4_user_details::grpc::layers=info,m4_user_details::gateway=info";

/// The vendor's sample call as printed, then with a corrected user id, then with a corrected hash.
const CALLS: [(&str, &str); 3] = [
    (
        "The vendor's sample call, as printed",
        "/billing/api/user_details_update?u=admin&user_id=3&hidden=1&hash=80ea571b1932bfecb937013966849154cb995e05",
    ),
    (
        "The user that the printed hash is for",
        "/billing/api/user_details_update?u=admin&user_id=5&hidden=1&hash=80ea571b1932bfecb937013966849154cb995e05",
    ),
    (
        "The printed user, with the right hash",
        "/billing/api/user_details_update?u=admin&user_id=3&hidden=1&hash=09574460be862d62efd300117fcee3328a10b48a",
    ),
];

/// Try it: serve demo data from a temporary database, and make the vendor's sample call.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// End after the calls instead of serving until Ctrl-C.
    #[arg(long)]
    once: bool,
    /// `0`: listen on free ports instead of the configured ones.
    #[arg(long, value_name = "0", value_parser = ["0"])]
    port: Option<String>,
}

impl Demo {
    /// The configuration keys that this command's flags set.
    pub(super) fn flags(&self) -> Vec<(&'static str, String)> {
        let free = "127.0.0.1:0".to_owned();
        match self.port {
            Some(_) => ["grpc.listen", "http.listen", "admin.listen"]
                .map(|key| (key, free.clone()))
                .to_vec(),
            None => Vec::new(),
        }
    }

    pub(super) async fn run(self, mut config: Config) -> Result<(), CliError> {
        let failed = |error: std::io::Error| CliError::Failed(format!("temporary folder: {error}"));
        let folder = tempfile::Builder::new().prefix("m4-demo-").tempdir().map_err(failed)?;
        config.database.url = sqlite_url(&folder.path().join("demo.db"));
        // The demo ignores the configuration of a real service.
        config.internal = None;
        (config.proxies, config.proxy_protocol) = Default::default();
        config.certificates = Certificates::default();
        (config.grpc_tls, config.http_tls) = (None, None);
        config.keys = SecretKeys::new([DEMO_KEY.into()]);
        let masters = MasterKeys::random();
        config.master_keys = masters.map_err(|error| CliError::Failed(error.to_string()))?;
        with_telemetry(&config, async |levels, stop| {
            let application = Application::service(&config, true, Environment::default()).await;
            let application = application.map_err(|error| in_use(error, self.port.is_some()))?;
            let http = application
                .http_address()
                .map_err(|error| CliError::Failed(format!("no address: {error}")))?;
            let Some(grpc) = application.grpc_address() else {
                return Err(CliError::Failed("no address".to_owned()));
            };
            let ending = CancellationToken::new();
            let running = tokio::spawn(application.run(ending.clone()));
            let played = tokio::select! {
                () = stop.cancelled() => Ok(()),
                played = play(http, grpc, &config.keys) => played,
            };
            if played.is_ok() && !self.once {
                print::text("\nServing until Ctrl-C. Each call is logged on standard error.\n");
                if std::env::var_os("M4_LOG").is_none() {
                    let logged = levels.set(CALLS_LOGGED);
                    logged.map_err(|error| CliError::Failed(error.to_string()))?;
                }
                stop.cancelled().await;
            }
            ending.cancel();
            let ended = running.await;
            ended.map_err(|panicked| CliError::Failed(panicked.to_string()))??;
            played
        })
        .await
    }
}

/// Adds the way out if a port is in use.
fn in_use(error: RunError, has_free_ports: bool) -> CliError {
    match error {
        RunError::Listen { .. } if !has_free_ports => {
            CliError::Failed(format!("{}; or run `demo --port 0`", chain(&error)))
        }
        error => error.into(),
    }
}

/// Sends the calls and prints their effects.
async fn play(http: SocketAddr, grpc: SocketAddr, keys: &SecretKeys) -> Result<(), CliError> {
    wait_until_ready(http).await?;
    print::text(&format!(
        "m4-user-details on a temporary SQLite database with demo data; secret key `{DEMO_KEY}`.\n\
         legacy call: http://{http}   gRPC: {grpc}\n\naccounts:\n"
    ));
    for (id, username, kind, remark) in DEMO_ACCOUNTS {
        print::text(format!("{id:>3}  {username:<9} {kind:<8} {remark}").trim_end());
        print::text("\n");
    }
    for (number, (title, target)) in (1..).zip(CALLS) {
        print::text(&format!("\n{number}. {title}\nPOST http://{http}{target}\n"));
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let id = query_parameter(query, "user_id").and_then(|id| id.parse().ok());
        let id = id.unwrap_or_default();
        let before = read(grpc, id).await?;
        let (_, xml) = http_client::send(http, None, b"", (Method::POST, target)).await?;
        print::text(&xml);
        if xml.contains("Incorrect hash") {
            print::text(&explain_query(keys, query));
        }
        let after = read(grpc, id).await?;
        print::text(&format!("read back over gRPC: {}\n", difference(before, after)));
    }
    let (_, target) = CALLS[1];
    print::text(&format!(
        "\nTry it yourself:\n\
         curl -X POST 'http://{http}{target}'\n\
         grpcurl -plaintext {grpc} describe m4.userdetails.v1.UserDetailsService\n\
         grpcurl -plaintext -d '{{\"user_id\": 5}}' {grpc} m4.userdetails.v1.UserDetailsService/GetUserDetails\n\
         grpcurl -plaintext -d '{{\"user_id\": 5, \"user_details\": {{\"address\": {{\"city\": \"York\"}}}}}}' {grpc} \
         m4.userdetails.v1.UserDetailsService/UpdateUserDetails\n"
    ));
    Ok(())
}

async fn wait_until_ready(http: SocketAddr) -> Result<(), CliError> {
    let ready = async {
        while !matches!(
            http_client::send(http, None, b"", (Method::GET, "/readyz")).await,
            Ok((StatusCode::OK, _))
        ) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ready = tokio::time::timeout(START_TIMEOUT, ready).await;
    ready.map_err(|_| CliError::Failed("the service does not become ready".to_owned()))
}

async fn read(grpc: SocketAddr, user_id: i64) -> Result<UserDetails, CliError> {
    let failed = |error: &dyn std::error::Error| CliError::Failed(format!("{grpc}: {error}"));
    let client = UserDetailsServiceClient::connect(format!("http://{grpc}")).await;
    let mut client = client.map_err(|error| failed(&error))?;
    let request = GetUserDetailsRequest { user_id, acting_username: "admin".to_owned() };
    let answer = client.get_user_details(request).await.map_err(|error| failed(&error))?;
    Ok(answer.into_inner().user_details.unwrap_or_default())
}

/// The changed fields, with their old and new values.
fn difference(mut before: UserDetails, mut after: UserDetails) -> String {
    let etags = (before.etag.clone(), after.etag.clone());
    let changes = FIELDS.into_iter().filter_map(|field| {
        let (old, new) = (before.take(field), after.take(field));
        (old != new).then(|| format!("{}: {} -> {}", field.path(), show(old), show(new)))
    });
    let changes: Vec<_> = changes.collect();
    if changes.is_empty() {
        return format!("nothing changed, etag {}", etags.1);
    }
    format!("{}, etag {} -> {}", changes.join(", "), etags.0, etags.1)
}

fn show(leaf: Option<crate::proto::Leaf>) -> String {
    use crate::proto::Leaf;
    match leaf {
        None => "none".to_owned(),
        Some(Leaf::Int64(number)) => number.to_string(),
        Some(Leaf::Int32(number)) => number.to_string(),
        Some(Leaf::Bool(flag)) => flag.to_string(),
        Some(Leaf::Text(text)) => format!("{text:?}"),
        Some(Leaf::Date(date)) => format!("{date:?}"),
    }
}
