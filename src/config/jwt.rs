//! The section `jwt`.

use std::path::PathBuf;

use super::{checks::Checks, section::section};
use crate::jwt::{Provider, Source};

section! {
    /// The identity provider whose JWTs are accepted.
    Jwt("jwt.") {
        /// JWKS of the identity provider: a file, or an `http://` or `https://` URL.
        jwks: Option<String> = "",
        /// PEM file: authorities of the certificate of an `https://` JWKS URL, instead of the public
        /// authorities.
        tls_ca: Option<PathBuf> = "",
        /// Required value of `iss` in a JWT.
        issuer: Option<String> = "",
        /// Required value in `aud` of a JWT.
        audience: Option<String> = "",
    }
}

impl Jwt {
    /// The provider: all keys but `tls_ca` are set, or none.
    pub(super) fn provider(self, checks: &mut Checks<'_>) -> Option<Provider> {
        let is_set = |value: &Option<String>| value.is_some();
        let required = [
            ("jwt.jwks", is_set(&self.jwks)),
            ("jwt.issuer", is_set(&self.issuer)),
            ("jwt.audience", is_set(&self.audience)),
        ];
        if self.tls_ca.is_none() && required.iter().all(|(_, is_set)| !is_set) {
            return None;
        }
        for (key, _) in required.into_iter().filter(|(_, is_set)| !is_set) {
            checks.wrong(key, "must be set if another key of jwt is set");
        }
        let jwks = self.jwks?;
        let source = match jwks.split_once("://") {
            None => Some(Source::File(jwks.into())),
            Some(("http" | "https", _)) => {
                jwks.parse().ok().map(|url| Source::Url(url, self.tls_ca))
            }
            Some(_) => None,
        };
        if source.is_none() {
            checks.wrong("jwt.jwks", "must be a file, or an http:// or https:// URL");
        }
        Some(Provider { source: source?, issuer: self.issuer?, audience: self.audience? })
    }
}
