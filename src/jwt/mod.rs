//! JWTs of an identity provider, by which callers of the typed API prove who they are: `RS256`, `ES256` and `EdDSA`, checked
//! against the provider's keys.

mod client;
mod keys;
mod ring;
mod source;

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::domain::{
    error::Error,
    identity::{FieldSet, Identity, Scope},
};
use source::Jwks;
pub use source::Source;

/// The algorithms that are accepted: signatures that only the provider can make.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// By how many seconds clocks may differ.
const LEEWAY_SECONDS: u64 = 30;

/// How a scope begins that is meant for this service.
const SCOPE_PREFIX: &str = "m4:";

/// The claim that names the fields and groups that may be changed.
const FIELDS_CLAIM: &str = "m4_fields";

/// Whose JWTs are accepted.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Where its keys are.
    pub source: Source,
    /// What `iss` must say.
    pub issuer: String,
    /// What must be among `aud`.
    pub audience: String,
}

/// Tells who holds a JWT.
#[derive(Debug)]
pub struct Jwts {
    jwks: Jwks,
    validation: Validation,
}

impl Jwts {
    /// The JWTs of a provider, whose keys are read while [`Self::keep`] runs. Those in a file are read before it returns.
    /// `min_interval` is the minimum time between two reads; by default it depends on the source.
    ///
    /// # Errors
    /// What is wrong with which key of the configuration, where the file with the keys or with authorities cannot be used.
    pub async fn new(
        provider: &Provider,
        min_interval: Option<Duration>,
    ) -> Result<Arc<Self>, String> {
        ring::install();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&provider.issuer]);
        validation.set_audience(&[&provider.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let jwks = Jwks::new(&provider.source, min_interval).await?;
        Ok(Arc::new(Self { jwks, validation }))
    }

    /// Reads the keys again when they may have changed, until `stop`.
    pub async fn keep(&self, stop: CancellationToken) {
        self.jwks.keep(stop).await;
    }

    /// The holder of a JWT: its subject, with its scopes.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], and [`Error::Unavailable`] while the provider's keys have never been had.
    pub async fn holder(&self, jwt: &str) -> Result<Identity, Error> {
        let header = decode_header(jwt).map_err(|_| Error::Unauthenticated)?;
        // Extensions that a verifier must understand: there are none that this one does.
        if !ALGORITHMS.contains(&header.alg) || header.crit.is_some() {
            return Err(Error::Unauthenticated);
        }
        let key = self.jwks.key(header.kid.as_deref(), header.alg).await?;
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let claims = decode::<Map<String, Value>>(jwt, &key, &validation);
        identity(&claims.map_err(|_| Error::Unauthenticated)?.claims)
    }
}

/// The identity that claims tell of. A claim that is of another kind than it should be is no claim of ours.
fn identity(claims: &Map<String, Value>) -> Result<Identity, Error> {
    let words = |name| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(words)) => Ok(Some(words.split_ascii_whitespace())),
        Some(_) => Err(Error::Unauthenticated),
    };
    let name = claims.get("sub").and_then(Value::as_str).filter(|name| Identity::is_name(name));
    let name = name.ok_or(Error::Unauthenticated)?.to_owned();
    let scopes = words("scope")?.into_iter().flatten();
    let scopes = scopes.filter_map(|word| word.strip_prefix(SCOPE_PREFIX));
    let scopes = scopes.filter_map(Scope::from_word).collect();
    Ok(Identity::new(name, scopes, words(FIELDS_CLAIM)?.map(FieldSet::of_paths)))
}
