//! `key`: the keys of legacy clients in the database.

use std::{fmt::Write, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use super::{administrator::administrator, error::CliError, print};
use crate::{
    config::Config,
    domain::{
        call_context::CallContext,
        clock::{Clock, SystemClock},
        hash::Recipe,
        legacy_access::ClientKeys,
        legacy_key::{Bindings, LegacyKey},
        service::client_keys::NewKey,
    },
    fields::FIELDS,
    networks::Networks,
    storage::SqlStore,
};

/// Make, list, revoke and rotate the keys of legacy clients. A running service follows within two
/// seconds. Needs a master key: `api.master_key_file`.
#[derive(Debug, Args)]
pub(super) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a key and print its secret: it cannot be shown again.
    Create(Create),
    /// List all keys without their secrets: tab-separated, oldest first.
    List,
    /// Revoke the key with an id, or all keys with a name.
    Revoke {
        /// The id of a key, or a name.
        #[arg(value_name = "ID|NAME")]
        id_or_name: String,
    },
    /// Create another key with the name and the bindings of a key, and print its secret. The old key
    /// works until it is revoked.
    Rotate {
        /// The id of an active key, or a name. A name means its newest active key.
        #[arg(value_name = "ID|NAME")]
        id_or_name: String,
    },
    /// Seal all secrets with the first master key of the file. Then the other master keys can be removed.
    Reseal,
}

#[derive(Debug, Args)]
struct Create {
    /// The client's name, for the change log.
    #[arg(long)]
    name: String,
    /// The only `u` of its calls.
    #[arg(long, value_name = "U")]
    username: Option<String>,
    /// The only networks or addresses of the client.
    #[arg(long = "network", value_delimiter = ',', value_name = "NETWORK,…")]
    networks: Vec<String>,
    /// The only fields that it may change: fields such as `general.hidden`, or groups such as `address`.
    #[arg(long = "field", value_delimiter = ',', value_name = "FIELD,…")]
    fields: Vec<String>,
    /// The recipes of its hashes, joined by `+`. Without this, the setting `hash_recipes` decides.
    #[arg(long, value_name = "RECIPE+…")]
    recipes: Option<String>,
    /// Days until expiry. Without this, the key never expires.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500), value_name = "DAYS")]
    expires_in: Option<u32>,
}

impl Key {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        let store = SqlStore::open_existing(config.database.clone()).await;
        let store = store.map_err(|error| CliError::Run(error.into()))?;
        let keys =
            ClientKeys { store: Arc::new(store.clone()), masters: config.master_keys.clone() };
        let outcome = self.action.run(&keys).await;
        store.close().await;
        print::text(&outcome?);
        Ok(())
    }
}

impl Action {
    async fn run(self, keys: &ClientKeys) -> Result<String, CliError> {
        let (call, by, clock) = (&CallContext::default(), &administrator(), &SystemClock);
        let made = match self {
            Self::Create(create) => keys.create(call, by, clock, create.key(clock.now())?).await,
            Self::Rotate { id_or_name } => keys.rotate(call, by, clock, &id_or_name).await,
            Self::List => return list(keys, clock.now()).await,
            Self::Revoke { id_or_name } => {
                let revoked = keys.store.revoke_legacy_keys(call, by, &id_or_name, clock.now());
                return match revoked.await? {
                    0 => Err(CliError::Failed(format!("there is no key {id_or_name:?} to revoke"))),
                    1 => Ok("1 key is revoked\n".to_owned()),
                    many => Ok(format!("{many} keys are revoked\n")),
                };
            }
            Self::Reseal => {
                let count = keys.reseal(call, by, clock).await?;
                return Ok(format!("{count} secrets are sealed again\n"));
            }
        };
        Ok(format!("{}\n", made?.0.expose_secret()))
    }
}

impl Create {
    fn key(self, now: DateTime<Utc>) -> Result<NewKey, CliError> {
        for path in &self.fields {
            if path == "*" || !FIELDS.iter().any(|field| field.is_within(path)) {
                let problem = format!("--field {path:?} is neither field nor group");
                return Err(CliError::Usage(problem));
            }
        }
        let networks = Networks::of(self.networks.iter().map(String::as_str));
        let networks =
            networks.map_err(|problem| CliError::Usage(format!("--network {problem}")))?;
        let recipes = self.recipes.map(|names| {
            let problem = "--recipes must be u,user_id or user_id or both, joined by +";
            Recipe::from_joined(&names).ok_or_else(|| CliError::Usage(problem.to_owned()))
        });
        let bindings = Bindings {
            username: self.username,
            networks,
            fields: (!self.fields.is_empty()).then(|| self.fields.join(" ")),
            recipes: recipes.transpose()?,
        };
        let expire_time = self.expires_in.map(|days| now + TimeDelta::days(days.into()));
        Ok(NewKey { name: self.name, bindings, expire_time })
    }
}

async fn list(keys: &ClientKeys, now: DateTime<Utc>) -> Result<String, CliError> {
    let mut text = "id\tname\tu\tnetworks\tfields\trecipes\tcreated\texpires\tstate\n".to_owned();
    for key in keys.all(&CallContext::default()).await? {
        let state = match key.revoke_time {
            Some(_) => "revoked",
            None if key.is_active(now) => "active",
            None => "expired",
        };
        let (created, expires) =
            (print::time_or_none(Some(key.create_time)), print::time_or_none(key.expire_time));
        let LegacyKey { id, name, bindings, .. } = key;
        let networks = bindings.networks.to_string();
        let any = |text: Option<String>| text.unwrap_or_else(|| "*".to_owned());
        let (username, fields) = (any(bindings.username), any(bindings.fields));
        let recipes = any(bindings.recipes.map(|recipes| Recipe::joined(&recipes)));
        let networks = any(Some(networks).filter(|networks| !networks.is_empty()));
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "{id}\t{name}\t{username}\t{networks}\t{fields}\t{recipes}\t{created}\t{expires}\t{state}"
        );
    }
    Ok(text)
}
