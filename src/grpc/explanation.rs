//! Explains the checks of a legacy call, in the contract's terms.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::settings;
use crate::{
    domain::{
        error::{Error, Refusal},
        explain::{Explained, Verdict},
        legacy_key::MatchedKey,
        settings::Settings,
        update::Updated,
    },
    fields::Field,
    legacy_call::{
        explain::{Named, Read},
        outcome::Outcome,
    },
    proto::{
        InvalidLegacyParameter, LegacyCheck, LegacyHash, LegacyHashRecipe, LegacyHashVerdict,
        LegacyParameter, LegacyParameterUse,
    },
};

/// A check, and the reason why it decides the response.
pub(super) type Finding = (LegacyCheck, String);

/// Name and allowed values of each invalid parameter.
pub(super) type Invalid = BTreeMap<Field, (&'static str, String)>;

/// The finding for a call that the gateway itself refuses.
pub(super) fn of_door(refused: &Outcome) -> Finding {
    let http = refused.http.as_u16();
    // The gateway's checks are numbered by their HTTP status.
    let check = LegacyCheck::try_from(i32::from(http)).unwrap_or_default();
    let why = match check {
        LegacyCheck::NoSuchApi => "the path is not a legacy API path",
        LegacyCheck::MethodNotAllowed => "the method is not GET, HEAD or POST",
        LegacyCheck::TooLarge => "the body is larger than http.body_limit",
        _ => "the gateway refuses the request",
    };
    (check, why.to_owned())
}

/// The finding for a call that would store every value.
pub(super) fn of_update(updated: &Updated) -> Finding {
    let why = format!("everything would be stored; fields that differ: {}", updated.changes.len());
    (LegacyCheck::Passed, why)
}

/// The finding for invalid values.
pub(super) fn of_values(invalid: &Invalid) -> Finding {
    let check = if invalid.contains_key(&Field::responsible_manager_id) {
        LegacyCheck::ManagerInvalid
    } else {
        LegacyCheck::InvalidDetails
    };
    let names: Vec<_> = invalid.values().map(|(name, _)| *name).collect();
    if names.is_empty() {
        return (check, "nothing would be stored".to_owned());
    }
    (check, format!("invalid values: {}", names.join(", ")))
}

/// Faults of the request that may explain any check, as a suffix of the explanation.
pub(super) fn notes(read: &Read) -> String {
    let mut notes = String::new();
    if read.parameters.iter().any(|parameter| parameter.name.starts_with("amp;")) {
        notes.push_str("; the parameters are separated by `&amp;`: send a plain `&` instead");
    }
    if let Some(unreadable) = &read.unreadable {
        notes.push_str("; ");
        notes.push_str(&unreadable.to_string());
    }
    notes
}

/// The finding for a service error; `exists` says whether the user is stored.
///
/// # Errors
/// Returns an error that belongs to no check.
pub(super) fn of_error(
    error: Error,
    settings: &Settings,
    hash: &Explained,
    exists: bool,
    invalid: &Invalid,
) -> Result<Finding, Error> {
    let (check, why) = match error {
        Error::AddressNotAllowed => (
            LegacyCheck::AddressNotAllowed,
            "the client's address is not given, or not in the setting allowed_networks",
        ),
        Error::KeyNotAllowed(binding) => {
            return Ok((
                LegacyCheck::KeyNotAllowed,
                format!("{binding}; the key is {:?}", hash.key_name()),
            ));
        }
        Error::ApiDisabled if settings.allow_api => {
            (LegacyCheck::ApiDisabled, "there is no secret key")
        }
        Error::ApiDisabled => (LegacyCheck::ApiDisabled, "the setting allow_api is off"),
        Error::Brownout(window) => {
            return Ok((LegacyCheck::ApiDisabled, format!("the brownout {window}")));
        }
        Error::AddressBlocked { retry_after } => {
            let rest = retry_after.map(|rest| format!(", for {} more seconds", rest.as_secs()));
            let why = format!("the client's address is blocked{}", rest.unwrap_or_default());
            return Ok((LegacyCheck::AddressBlocked, why));
        }
        Error::UsernameBlocked => (
            LegacyCheck::IncorrectHash,
            "the hash is right, but u is blocked, and the block does not spare this client",
        ),
        Error::GetDisabled => (LegacyCheck::GetDisabled, "the setting allow_get_api is off"),
        Error::IncorrectHash => (
            LegacyCheck::IncorrectHash,
            match verdict(hash, settings) {
                LegacyHashVerdict::Missing => {
                    "there is no hash; or u, user_id or hash is no UTF-8 text, or they have over 8 KiB together"
                }
                LegacyHashVerdict::NoSha1 => "the hash is no SHA-1: 40 hexadecimal digits",
                LegacyHashVerdict::NotAccepted => {
                    "the hash is right by a recipe that the setting hash_recipes does not name"
                }
                LegacyHashVerdict::OtherUserId => "the hash was made for another user_id",
                _ => "the hash was made of another u, another user_id or another secret key",
            },
        ),
        Error::ActorRefused(Refusal::Unknown) => {
            (LegacyCheck::ActingAccount, "there is no account with the username u")
        }
        Error::ActorRefused(Refusal::PlainUser) => {
            (LegacyCheck::ActingAccount, "the acting account is a plain user")
        }
        Error::ActorRefused(Refusal::Blocked) => {
            (LegacyCheck::ActingAccount, "the acting account is blocked")
        }
        Error::ActorRefused(Refusal::Itself) => {
            (LegacyCheck::Itself, "user_id is the acting account itself")
        }
        Error::NotAuthorized => (
            LegacyCheck::NotAuthorized,
            "the acting manager's group lacks the right users at level edit",
        ),
        Error::UserNotFound(_) if exists => (
            LegacyCheck::UserNotFound,
            "the acting manager shows only assigned users, and is not the responsible manager of this user",
        ),
        Error::UserNotFound(_) => {
            (LegacyCheck::UserNotFound, "user_id is missing, no number, or no plain user's")
        }
        Error::Invalid(_) => return Ok(of_values(invalid)),
        error @ (Error::AccessDenied
        | Error::NotPermitted(_)
        | Error::EtagMismatch
        | Error::EarlierEpoch
        | Error::RequestIdReused
        | Error::InBatch { .. }
        | Error::ChangedSince
        | Error::KeyNotFound
        | Error::BlockNotFound
        | Error::FailedPrecondition(_)
        | Error::ChangeNotFound
        | Error::ChangeNotSupported
        | Error::InvalidRequest { .. }
        | Error::UnknownMethod
        | Error::UnknownEncoding
        | Error::AnswerNotRead
        | Error::Unauthenticated
        | Error::Overloaded
        | Error::Unavailable(_)
        | Error::DeadlineExceeded
        | Error::Internal(_)) => return Err(error),
    };
    Ok((check, why.to_owned()))
}

/// Converts a parameter to proto.
pub(super) fn parameter(named: Named) -> LegacyParameter {
    let fate = match (named.known, named.overridden) {
        (false, _) => LegacyParameterUse::Unknown,
        (true, true) => LegacyParameterUse::Overridden,
        (true, false) => LegacyParameterUse::Read,
    };
    LegacyParameter {
        name: named.name,
        in_body: named.in_body,
        r#use: fate.into(),
        field: named.field.map(Field::path).unwrap_or_default().to_owned(),
    }
}

/// Converts an invalid parameter to proto.
pub(super) fn invalid(
    (field, (name, allowed)): (Field, (&'static str, String)),
) -> InvalidLegacyParameter {
    InvalidLegacyParameter { name: name.to_owned(), field: field.path().to_owned(), allowed }
}

/// Converts an explained hash to proto, with the correct hashes only if `include_hash`.
pub(super) fn hash(hash: Explained, settings: &Settings, include_hash: bool) -> LegacyHash {
    let mut told = LegacyHash { verdict: verdict(&hash, settings).into(), ..LegacyHash::default() };
    match hash.verdict {
        Verdict::Right { recipe, key } => {
            told.recipe = settings::recipe(recipe).into();
            told.previous_key = matches!(key, MatchedKey::Previous);
            told.key = key.name().to_owned();
        }
        Verdict::OtherUserId(user_id) => told.made_for_user_id = user_id,
        Verdict::NoSecretKey | Verdict::Missing | Verdict::NoSha1 | Verdict::Wrong => {}
    }
    let recipes = hash.recipes.into_iter().map(|hashed| {
        let right = hashed.hash.filter(|_| include_hash);
        LegacyHashRecipe {
            recipe: settings::recipe(hashed.recipe).into(),
            accepted: settings.hash_recipes.contains(&hashed.recipe),
            hashed: hashed.before_key + "<secret key>",
            hash: right.map(|hash| hash.expose_secret().to_owned()).unwrap_or_default(),
        }
    });
    told.recipes = recipes.collect();
    told
}

fn verdict(hash: &Explained, settings: &Settings) -> LegacyHashVerdict {
    match &hash.verdict {
        Verdict::NoSecretKey => LegacyHashVerdict::NoSecretKey,
        Verdict::Missing => LegacyHashVerdict::Missing,
        Verdict::NoSha1 => LegacyHashVerdict::NoSha1,
        Verdict::Right { recipe, key } if key.accepts(*recipe, &settings.hash_recipes) => {
            LegacyHashVerdict::Right
        }
        Verdict::Right { .. } => LegacyHashVerdict::NotAccepted,
        Verdict::OtherUserId(_) => LegacyHashVerdict::OtherUserId,
        Verdict::Wrong => LegacyHashVerdict::Wrong,
    }
}
