//! What a hash is made of, and what a wrong one may have been made of instead. For those who have the secret key.

use std::fmt::Write;

use super::hash::{Recipe, SecretKeys};

/// How many user ids are tried to find out for which one a wrong hash was made.
const TRIED_IDS: u32 = 10_000;

/// Explains the hash of a call, and what is wrong with the one that was sent.
pub fn hash(keys: &SecretKeys, username: &str, user_id: &str, sent: Option<&str>) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = explain(&mut text, keys, username, user_id, sent);
    text
}

fn explain(
    text: &mut String,
    keys: &SecretKeys,
    username: &str,
    user_id: &str,
    sent: Option<&str>,
) -> std::fmt::Result {
    let Some(current) = keys.current() else {
        return writeln!(text, "no secret key is configured");
    };
    for recipe in Recipe::ALL {
        let hash = hex::encode(recipe.hash(username, user_id, current));
        let parts = match recipe {
            Recipe::UsernameUserId => format!("{username:?} + {user_id:?} + <secret key>"),
            Recipe::UserId => format!("{user_id:?} + <secret key>"),
        };
        writeln!(text, "recipe {}: sha1({parts}) = {hash}", recipe.as_str())?;
    }
    let Some(sent) = sent else { return Ok(()) };
    let accepted = |recipe, user_id: &str| keys.accept(&[recipe], username, user_id, sent);
    if let Some(recipe) = Recipe::ALL.into_iter().find(|recipe| accepted(*recipe, user_id)) {
        return writeln!(text, "the hash that was sent is right by the recipe {}", recipe.as_str());
    }
    if sent.len() != 40 || !sent.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return writeln!(text, "the hash that was sent is no SHA-1: 40 hexadecimal digits");
    }
    writeln!(text, "the hash that was sent is wrong for this call")?;
    let other = (0..TRIED_IDS)
        .map(|id| id.to_string())
        .find(|id| Recipe::ALL.into_iter().any(|recipe| accepted(recipe, id)));
    match other {
        Some(id) => writeln!(text, "it was made for user_id={id}, with the same u and secret key"),
        None => writeln!(text, "it was made of another u, another user_id or another secret key"),
    }
}
