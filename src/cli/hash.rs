//! `hash`: computes the hash of a legacy call, and explains the hash in a URL.

use std::{fmt::Write, fs};

use clap::Args;
use secrecy::ExposeSecret;

use super::{error::CliError, print};
use crate::{
    config::Config,
    credentials::LegacyCredentials,
    domain::{
        clock::{Clock, SystemClock},
        explain::{self, Explained, Verdict},
        hash::SecretKeys,
        key_ring::KeyRing,
        legacy_key::MatchedKey,
    },
    legacy_call::{query_parameter, target},
};

/// Compute and explain the hash of a legacy call. Needs the secret key, from the configuration.
#[derive(Debug, Args)]
pub(super) struct Hash {
    /// The URL of a call, or its query string.
    #[arg(conflicts_with_all = ["u", "user_id"], required_unless_present_any = ["u", "user_id"])]
    url: Option<String>,
    /// The parameter `u`: the acting username.
    #[arg(long)]
    u: Option<String>,
    /// The parameter `user_id`.
    #[arg(long)]
    user_id: Option<String>,
}

impl Hash {
    pub(super) fn run(self, config: &Config) -> Result<(), CliError> {
        if config.keys.is_empty() {
            let problem = format!(
                "no secret key is configured: set M4_API_SECRET_KEY or M4_API_SECRET_KEY_FILE\n{}",
                NOT_CHECKED.trim_end()
            );
            return Err(CliError::Usage(problem));
        }
        let explained = if let Some(url) = self.url {
            let target = target(&url)
                .map_err(|error| CliError::Usage(format!("the URL cannot be sent: {error}")))?;
            of_query(&config.keys, target.query())
        } else {
            let (username, user_id) =
                (self.u.unwrap_or_default(), self.user_id.unwrap_or_default());
            explained(&config.keys, [username, user_id, String::new()])
        };
        let not_checked = match explained.verdict {
            Verdict::Missing | Verdict::NoSecretKey => "",
            _ => NOT_CHECKED,
        };
        let (file, source) = match key_file(config) {
            Some(line) => (line, ""),
            None => (String::new(), FROM_VALUE),
        };
        print::text(&(file + &text(&explained) + not_checked + source));
        match explained.verdict {
            Verdict::Right { .. } | Verdict::Missing | Verdict::NoSecretKey => Ok(()),
            Verdict::NoSha1 | Verdict::OtherUserId(_) | Verdict::Wrong => {
                Err(CliError::Failed("the hash is wrong".to_owned()))
            }
        }
    }
}

/// What only a running service checks.
const NOT_CHECKED: &str = "not checked: client keys, accepted recipes, networks and blocks: ask \
                           ExplainLegacyCall\n";

/// The source of a secret key without a file.
const FROM_VALUE: &str = "secret key: the value of M4_API_SECRET_KEY, or that in the configuration \
                          file: a running service may have another\n";

/// A line about the file of the secret key, to compare with the log of a running service: it reads a
/// changed file again. `None` without a file.
fn key_file(config: &Config) -> Option<String> {
    let files = config.secret_files.iter().map(|followed| followed.source().file());
    let file = files.into_iter().find(|file| file.key == "api.secret_key_file")?;
    let changed = fs::metadata(&file.path).and_then(|found| found.modified());
    let changed =
        changed.map_or("at an unknown time".to_owned(), |changed| print::time(changed.into()));
    let (path, read) = (file.path.display(), print::time(SystemClock.now()));
    Some(format!("secret key: {path}, changed {changed}, read {read}\n"))
}

/// The explanation of the hash in a query string.
pub(super) fn explain_query(keys: &SecretKeys, query: &str) -> String {
    text(&of_query(keys, query))
}

fn of_query(keys: &SecretKeys, query: &str) -> Explained {
    let parameters = ["u", "user_id", "hash"];
    explained(keys, parameters.map(|name| query_parameter(query, name).unwrap_or_default()))
}

fn explained(keys: &SecretKeys, [username, user_id, hash]: [String; 3]) -> Explained {
    let (method, address) = (String::new(), String::new());
    let credentials = LegacyCredentials { username, user_id, hash, method, address };
    explain::hash(keys, &KeyRing::default(), &credentials)
}

fn text(explained: &Explained) -> String {
    let mut text = String::new();
    for hashed in &explained.recipes {
        let (recipe, before) = (hashed.recipe.as_str(), &hashed.before_key);
        let hash = hashed.hash.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
        // Writing into a string does not fail.
        let _ = writeln!(text, "recipe {recipe}: sha1({before:?} + <secret key>) = {hash}");
    }
    text + &match &explained.verdict {
        Verdict::NoSecretKey | Verdict::Missing => String::new(),
        Verdict::NoSha1 => "the hash that was sent is no SHA-1: 40 hexadecimal digits\n".to_owned(),
        Verdict::Right { recipe, key } => {
            let is_previous = matches!(key, MatchedKey::Previous);
            let key = if is_previous { ", made with a key that is being retired" } else { "" };
            format!("the hash that was sent is right by the recipe {}{key}\n", recipe.as_str())
        }
        Verdict::OtherUserId(id) => format!(
            "the hash that was sent is wrong for this call\n\
             it was made for user_id={id}, with the same u and secret key\n"
        ),
        Verdict::Wrong => "the hash that was sent is wrong for this call\n\
             it was made of another u, another user_id or another secret key\n"
            .to_owned(),
    }
}
