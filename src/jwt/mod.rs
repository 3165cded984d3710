//! JWTs of an identity provider, which authenticate callers of the typed API. The provider's keys
//! verify `RS256`, `ES256` and `EdDSA` signatures.

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
    identity::Identity,
    scope::{FieldSet, Scope},
};
use source::Jwks;
pub use source::Source;

/// The accepted algorithms, all asymmetric: only the provider can sign.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// The tolerated clock skew, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// The prefix of this service's scopes.
const SCOPE_PREFIX: &str = "m4:";

/// The claim with the fields and groups that the caller may change.
const FIELDS_CLAIM: &str = "m4_fields";

/// The identity provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The location of the provider's keys.
    pub source: Source,
    /// The required value of `iss`.
    pub issuer: String,
    /// The required value in `aud`.
    pub audience: String,
}

/// Verifies JWTs.
#[derive(Debug)]
pub struct Jwts {
    jwks: Jwks,
    validation: Validation,
}

impl Jwts {
    /// A verifier for a provider's JWTs. Reads the keys of a file; [`Self::keep`] reads all keys.
    /// `min_interval` is the minimum time between two reads; the default depends on the source.
    ///
    /// # Errors
    /// The file of keys or authorities cannot be used. The error names the configuration key.
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

    /// Reads the keys again until `stop`.
    pub async fn keep(&self, stop: CancellationToken) {
        self.jwks.keep(stop).await;
    }

    /// The holder of a JWT: its subject, with its scopes.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], or [`Error::Unavailable`] if no keys were ever read.
    pub async fn holder(&self, jwt: &str) -> Result<Identity, Error> {
        let header = decode_header(jwt).map_err(|_| Error::Unauthenticated)?;
        // `crit` lists extensions that a verifier must understand; none are supported.
        if !ALGORITHMS.contains(&header.alg) || header.crit.is_some() {
            return Err(Error::Unauthenticated);
        }
        let key = self.jwks.key(header.kid.as_deref(), header.alg).await?;
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let claims = decode::<Map<String, Value>>(jwt, &key, &validation);
        identity(&claims.map_err(|_| Error::Unauthenticated)?.claims)
    }
}

/// The identity in the claims. A claim of the wrong type makes the JWT invalid.
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
