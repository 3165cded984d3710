//! `hash`: computes the hash of a legacy call, and explains the one that a URL has.

use clap::Args;

use super::{CliError, print};
use crate::{config::Config, domain::explain, legacy::query_parameter};

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
            let problem =
                "no secret key is configured: set M4_API_SECRET_KEY or M4_API_SECRET_KEY_FILE";
            return Err(CliError::Usage(problem.to_owned()));
        }
        let query = self.url.map(|url| match url.split_once('?') {
            Some((_, query)) => query.split('#').next().unwrap_or_default().to_owned(),
            None => url,
        });
        let parameter = |name: &str, given: Option<String>| match &query {
            Some(query) => query_parameter(query, name),
            None => given,
        };
        let username = parameter("u", self.u).unwrap_or_default();
        let user_id = parameter("user_id", self.user_id).unwrap_or_default();
        let hash = parameter("hash", None);
        print::text(&explain::hash(&config.keys, &username, &user_id, hash.as_deref()));
        Ok(())
    }
}
