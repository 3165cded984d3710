//! `settings`: the switches of the legacy call in the database.

use std::str::FromStr;

use clap::{Args, Subcommand};

use super::{administrator::administrator, error::CliError, print};
use crate::{
    config::Config,
    domain::{
        call_context::CallContext,
        clock::{Clock, SystemClock},
        error::Error,
        hash::Recipe,
        settings::Settings as Switches,
        store::Store,
    },
    networks::Networks,
    retirement::{Link, NotRetirement, PointInTime},
    storage::SqlStore,
};

/// Read or change the settings of the legacy call. A running service follows within two seconds.
#[derive(Debug, Args)]
pub(super) struct Settings {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all settings.
    Get,
    /// Change settings: `allow_api=on|off`, `allow_get_api=on|off`, `hash_recipes=u,user_id[+user_id]`,
    /// `allowed_networks=192.0.2.0/24,2001:db8::7` (empty: everywhere),
    /// `deprecation=2027-01-01T00:00:00Z`, `sunset=2027-07-01T00:00:00Z`,
    /// `retirement_link=https://billing.example/migrate` (empty: none),
    /// `brownouts=2027-02-01T09:00:00Z/2027-02-01T10:00:00Z,...` (empty: none),
    /// `failed_hashes_per_address=600` and `failed_hashes_per_username=600` (a minute; 0: no limit),
    /// `block_seconds=300`.
    Set {
        /// A setting and its new value.
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
        let settings = settings.map_err(|error| match error {
            Error::InvalidRequest { .. } => CliError::Usage(error.to_string()),
            error => error.into(),
        })?;
        let word = |flag| if flag { "on" } else { "off" };
        let text =
            |point: Option<PointInTime>| point.map_or_else(String::new, |point| point.to_string());
        let retirement = &settings.retirement;
        print::text(&format!(
            "allow_api={}\nallow_get_api={}\nhash_recipes={}\nallowed_networks={}\ndeprecation={}\n\
             sunset={}\nretirement_link={}\nbrownouts={}\nfailed_hashes_per_address={}\n\
             failed_hashes_per_username={}\nblock_seconds={}\n",
            word(settings.allow_api),
            word(settings.allow_get_api),
            Recipe::joined(&settings.hash_recipes),
            settings.allowed_networks,
            text(retirement.deprecation),
            text(retirement.sunset),
            retirement.link.as_ref().map(Link::as_str).unwrap_or_default(),
            retirement.brownouts,
            settings.hash_limits.per_address,
            settings.hash_limits.per_username,
            settings.hash_limits.block_seconds,
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
        ("deprecation", _) => set(text, value, |settings, to| settings.retirement.deprecation = to),
        ("sunset", _) => set(text, value, |settings, to| settings.retirement.sunset = to),
        ("retirement_link", _) => set(text, value, |settings, to| settings.retirement.link = to),
        ("brownouts", _) => match value.parse() {
            Ok(brownouts) => {
                Ok(Box::new(move |settings| settings.retirement.brownouts = brownouts))
            }
            Err(problem) => wrong(&NotRetirement::to_string(&problem)),
        },
        ("failed_hashes_per_address", _) => {
            number(text, value, |settings, to| settings.hash_limits.per_address = to)
        }
        ("failed_hashes_per_username", _) => {
            number(text, value, |settings, to| settings.hash_limits.per_username = to)
        }
        ("block_seconds", _) => {
            number(text, value, |settings, to| settings.hash_limits.block_seconds = to)
        }
        _ => wrong(
            "must be allow_api, allow_get_api, hash_recipes, allowed_networks, deprecation, sunset, \
             retirement_link, brownouts, failed_hashes_per_address, failed_hashes_per_username or \
             block_seconds",
        ),
    }
}

/// The change to a number. The settings check its range.
fn number(
    text: &str,
    value: &str,
    change: impl FnOnce(&mut Switches, u32) + Send + 'static,
) -> Result<Change, CliError> {
    let number: u32 =
        value.parse().map_err(|_| CliError::Usage(format!("{text:?}: must be a number")))?;
    Ok(Box::new(move |settings| change(settings, number)))
}

/// The change to a value, or to none if the text is empty.
fn set<T: FromStr<Err = NotRetirement> + Send + 'static>(
    text: &str,
    value: &str,
    change: impl FnOnce(&mut Switches, Option<T>) + Send + 'static,
) -> Result<Change, CliError> {
    let to = Some(value).filter(|value| !value.is_empty()).map(str::parse::<T>).transpose();
    let to = to.map_err(|problem| CliError::Usage(format!("{text:?}: {problem}")))?;
    Ok(Box::new(move |settings| change(settings, to)))
}
