//! `legacy report`: the clients that make legacy calls.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::{
    cli::{error::CliError, print},
    domain::{
        call_context::CallContext,
        legacy_client_store::{ClientQuery, LegacyClient, LegacyClientStore},
        listing::ROWS_PER_READ,
    },
    storage::SqlStore,
};

/// Prints the clients that were seen since a time.
pub(super) async fn report(
    store: &SqlStore,
    json: bool,
    since: Option<DateTime<Utc>>,
) -> Result<(), CliError> {
    if !json {
        print::text(
            "key\taddress\tu\tlast seen\tfirst seen\tcalls\trefused\tGET\twrong hashes\trecipe\tfields\n",
        );
    }
    let mut query = ClientQuery { since, after: None, limit: ROWS_PER_READ };
    loop {
        let page = store.legacy_clients(&CallContext::default(), &query).await?;
        let lines = page.iter().map(|client| if json { object(client) } else { line(client) });
        print::text(&lines.collect::<String>());
        match page.last() {
            Some(last) if page.len() as u64 == ROWS_PER_READ => {
                query.after = Some((last.last.timestamp_micros(), last.id.digest()));
            }
            _ => return Ok(()),
        }
    }
}

fn line(client: &LegacyClient) -> String {
    let mut line = String::new();
    let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let LegacyClient { id, calls, refused, gets, failed_hashes, recipe, .. } = client;
    // Writing into a string does not fail.
    let _ = writeln!(
        line,
        "{}\t{}\t{}\t{}\t{}\t{calls}\t{refused}\t{gets}\t{failed_hashes}\t{recipe}\t{}",
        id.key,
        or(&id.network),
        or(&id.username),
        print::time(client.last),
        print::time(client.first),
        or(&client.fields.join(",")),
    );
    line
}

fn object(client: &LegacyClient) -> String {
    let object = json!({
        "key": client.id.key,
        "network": client.id.network,
        "username": client.id.username,
        "first_time": print::time(client.first),
        "last_time": print::time(client.last),
        "calls": client.calls,
        "refused": client.refused,
        "gets": client.gets,
        "failed_hashes": client.failed_hashes,
        "recipe": client.recipe,
        "fields": client.fields,
    });
    format!("{object}\n")
}
