//! `token`: the service tokens in the database.

use std::fmt::Write;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use clap::{Args, Subcommand};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::ExposeSecret;

use super::{administrator::administrator, error::CliError, print};
use crate::{
    config::Config,
    domain::{
        call_context::CallContext,
        clock::{Clock, SystemClock},
        identity::Identity,
        scope::Scope,
        token::{MOST_ACTIVE, RANDOM_BYTES, ServiceToken, TokenStore},
    },
    fields::FIELDS,
    storage::SqlStore,
};

/// Create, list and revoke service tokens. A running service follows within two seconds.
#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a token and print it: it cannot be shown again.
    Create(Create),
    /// List all tokens without their secrets: tab-separated, oldest first.
    List,
    /// Revoke the token with an id, or all tokens with a name.
    Revoke {
        /// The id of a token, or a name.
        #[arg(value_name = "ID|NAME")]
        id_or_name: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// The service's name, for the change log.
    #[arg(long)]
    name: String,
    /// Scopes: `read`, `update`, `settings`, `admin`.
    #[arg(long = "scope", required = true, value_delimiter = ',', value_name = "SCOPE,…")]
    scopes: Vec<String>,
    /// The only fields that it may change: fields such as `general.hidden`, or groups such as `address`.
    #[arg(long = "field", value_delimiter = ',', value_name = "FIELD,…")]
    fields: Vec<String>,
    /// Days until expiry. Without this, the token never expires.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500), value_name = "DAYS")]
    expires_in: Option<u32>,
}

impl Token {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        let now = SystemClock.now().trunc_subsecs(6);
        let store = SqlStore::open_existing(config.database.clone()).await;
        let store = store.map_err(|error| CliError::Run(error.into()))?;
        let outcome = match self.action {
            Action::Create(create) => create.run(&store, now).await,
            Action::List => list(&store, now).await,
            Action::Revoke { id_or_name } => revoke(&store, &id_or_name, now).await,
        };
        store.close().await;
        print::text(&outcome?);
        Ok(())
    }
}

impl Create {
    async fn run(self, store: &SqlStore, now: DateTime<Utc>) -> Result<String, CliError> {
        let usage = |problem: &str| CliError::Usage(problem.to_owned());
        if !Identity::is_name(&self.name) {
            return Err(usage("--name must be 1 to 255 characters without control characters"));
        }
        let scopes = self.scopes.iter().map(|word| Scope::from_word(word));
        let scopes = scopes.collect::<Option<_>>();
        let scopes =
            scopes.ok_or_else(|| usage("--scope must be read, update, settings or admin"))?;
        for path in &self.fields {
            if path == "*" || !FIELDS.iter().any(|field| field.is_within(path)) {
                return Err(CliError::Usage(format!(
                    "--field {path:?} is neither field nor group"
                )));
            }
        }
        let fields = (!self.fields.is_empty()).then(|| self.fields.join(" "));
        let mut random = [0; RANDOM_BYTES];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| CliError::Failed("the system has no random numbers".to_owned()))?;
        let ends = self.expires_in.map(|days| now + TimeDelta::days(days.into()));
        if store.active_tokens(&CallContext::default(), now).await?.len() >= MOST_ACTIVE {
            return Err(CliError::Failed(format!("there are {MOST_ACTIVE} active tokens already")));
        }
        let (text, token) = ServiceToken::new(random, self.name, scopes, fields, now, ends);
        store.create_token(&administrator(), token).await?;
        Ok(format!("{}\n", text.expose_secret()))
    }
}

async fn list(store: &SqlStore, now: DateTime<Utc>) -> Result<String, CliError> {
    let mut text = "id\tname\tscopes\tfields\tcreated\texpires\tlast used\tstate\n".to_owned();
    for token in store.tokens().await? {
        let state = match token.revoke_time {
            Some(_) => "revoked",
            None if token.is_active(now) => "active",
            None => "expired",
        };
        let fields = token.fields.as_deref().unwrap_or("*");
        let (created, expires) =
            (print::time_or_none(Some(token.create_time)), print::time_or_none(token.expire_time));
        let used = print::time_or_none(token.last_used_time);
        let ServiceToken { id, name, scopes, .. } = &token;
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "{id}\t{name}\t{scopes}\t{fields}\t{created}\t{expires}\t{used}\t{state}"
        );
    }
    Ok(text)
}

async fn revoke(
    store: &SqlStore,
    id_or_name: &str,
    now: DateTime<Utc>,
) -> Result<String, CliError> {
    match store.revoke_tokens(&administrator(), id_or_name, now).await? {
        0 => Err(CliError::Failed(format!("there is no token {id_or_name:?} to revoke"))),
        1 => Ok("1 token is revoked\n".to_owned()),
        many => Ok(format!("{many} tokens are revoked\n")),
    }
}
