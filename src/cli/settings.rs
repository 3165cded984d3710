//! `settings`: the switches of the legacy call in the database.

use clap::{Args, Subcommand};

use super::{administrator::administrator, error::CliError, print};
use crate::{
    config::Config,
    domain::{
        call_context::CallContext,
        clock::{Clock, SystemClock},
        hash::Recipe,
        settings::Settings as Switches,
        store::Store,
    },
    networks::Networks,
    storage::SqlStore,
};

/// Read or change the switches of the legacy call. A running service follows within two seconds.
#[derive(Debug, Args)]
pub(super) struct Settings {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all of them.
    Get,
    /// Change some: `allow_api=on|off`, `allow_get_api=on|off`, `hash_recipes=u,user_id[+user_id]`,
    /// `allowed_networks=192.0.2.0/24,2001:db8::7` (empty: everywhere).
    Set {
        #[arg(required = true, value_name = "NAME=VALUE")]
        settings: Vec<String>,
    },
}

impl Settings {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        let changes: Vec<Change> = match &self.action {
            Action::Get => Vec::new(),
            Action::Set { settings } => {
                settings.iter().map(|text| parse(text)).collect::<Result<_, _>>()?
            }
        };
        let store = SqlStore::open_existing(config.database.clone()).await;
        let store = store.map_err(|error| CliError::Run(error.into()))?;
        let apply = move |mut settings: Switches| {
            for change in changes {
                change(&mut settings);
            }
            settings
        };
        let (call, now) = (CallContext::default(), SystemClock.now());
        let settings = match self.action {
            Action::Get => store.settings(&call).await,
            Action::Set { .. } => {
                store.update_settings(&call, (&administrator(), now), Box::new(apply)).await
            }
        };
        store.close().await;
        let settings = settings?;
        let word = |flag| if flag { "on" } else { "off" };
        print::text(&format!(
            "allow_api={}\nallow_get_api={}\nhash_recipes={}\nallowed_networks={}\n",
            word(settings.allow_api),
            word(settings.allow_get_api),
            Recipe::joined(&settings.hash_recipes),
            settings.allowed_networks,
        ));
        Ok(())
    }
}

type Change = Box<dyn FnOnce(&mut Switches) + Send>;

fn parse(text: &str) -> Result<Change, CliError> {
    let wrong = |allowed: &str| Err(CliError::Usage(format!("{text:?}: {allowed}")));
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let flag = match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    };
    match (name, flag) {
        ("allow_api", Some(flag)) => Ok(Box::new(move |settings| settings.allow_api = flag)),
        ("allow_get_api", Some(flag)) => {
            Ok(Box::new(move |settings| settings.allow_get_api = flag))
        }
        ("allow_api" | "allow_get_api", None) => wrong("must be on or off"),
        ("hash_recipes", _) => match Recipe::from_joined(value) {
            Some(recipes) => Ok(Box::new(move |settings| settings.hash_recipes = recipes)),
            None => wrong("must be u,user_id or user_id or both, joined by +"),
        },
        ("allowed_networks", _) => match value.parse::<Networks>() {
            Ok(networks) => Ok(Box::new(move |settings| settings.allowed_networks = networks)),
            Err(problem) => wrong(&problem.to_string()),
        },
        _ => wrong("must be allow_api, allow_get_api, hash_recipes or allowed_networks"),
    }
}
