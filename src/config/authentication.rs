//! Which callers a configuration admits, and how well its secrets protect it.

use std::net::SocketAddr;

use super::Config;
use crate::{grpc::auth::Authentication, secrets::Secrets};

/// Secrets with fewer characters count as short.
pub const SHORTEST_SECRET: usize = 16;

/// Other machines could reach the service without authentication.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Unauthenticated {
    /// Over gRPC.
    #[error(
        "{0} is not a loopback address and no authentication is configured: everyone who can reach \
         it could call the service. Set grpc.require_token (M4_GRPC_REQUIRE_TOKEN) and create \
         tokens with `token create`, or set grpc.token (M4_GRPC_TOKEN or M4_GRPC_TOKEN_FILE), \
         jwt.jwks (M4_JWT_JWKS) or grpc.certificates_file, or start with --insecure"
    )]
    Grpc(SocketAddr),
    /// With the secret key of the demo data.
    #[error(
        "{0} is not a loopback address and the secret key of the demo data is public. Set \
         api.secret_key (M4_API_SECRET_KEY or M4_API_SECRET_KEY_FILE), or start with --insecure"
    )]
    Demo(SocketAddr),
}

impl Config {
    /// Configuration keys of short secrets in use on non-loopback addresses.
    pub fn short_secrets(&self) -> Vec<&'static str> {
        let tokens = self.internal.as_ref().map(|internal| &internal.tokens);
        let (grpc, http) =
            (!self.grpc_listen.ip().is_loopback(), !self.http_listen.ip().is_loopback());
        let short = [
            ("api.secret_key", (grpc || http) && self.keys.have_shorter_than(SHORTEST_SECRET)),
            ("grpc.token", grpc && are_short(tokens)),
            ("door.token", grpc && are_short(self.door_tokens.as_ref())),
        ];
        short.into_iter().filter_map(|(key, is_short)| is_short.then_some(key)).collect()
    }

    /// Like [`Self::short_secrets`], for a standalone gateway, whose service is remote.
    pub fn short_gateway_secrets(&self) -> Vec<&'static str> {
        let are_short = are_short(self.door_tokens.as_ref());
        are_short.then_some("door.token").into_iter().collect()
    }

    /// The authentication settings, without service tokens and JWTs. If no method is configured,
    /// `insecure` admits every caller, and so does demo data on a loopback address.
    ///
    /// # Errors
    /// If other machines could reach the service without authentication.
    pub fn authentication(&self, demo: bool) -> Result<Authentication, Unauthenticated> {
        let loopback = self.grpc_listen.ip().is_loopback();
        let closed = self.internal.is_some()
            || self.jwt.is_some()
            || self.require_token
            || !self.certificates.is_empty();
        if !closed && !loopback && !self.insecure {
            return Err(Unauthenticated::Grpc(self.grpc_listen));
        }
        for file in &self.secret_files {
            file.source()
                .admit_demo_key(self.insecure || (loopback && self.http_listen.ip().is_loopback()));
        }
        let has_demo_key = self.keys.have_demo_key() || (demo && self.keys.is_empty());
        // A standalone gateway on another machine forwards hashes over gRPC.
        let addresses = [self.http_listen, self.grpc_listen];
        let reached = addresses.into_iter().find(|address| !address.ip().is_loopback());
        if let Some(reached) = reached.filter(|_| has_demo_key && !self.insecure) {
            return Err(Unauthenticated::Demo(reached));
        }
        let open = !closed && (self.insecure || (demo && loopback));
        Ok(Authentication {
            internal: self.internal.clone(),
            door: self.door_tokens.clone(),
            certificates: self.certificates.clone(),
            open,
            ..Authentication::default()
        })
    }
}

fn are_short(secrets: Option<&Secrets>) -> bool {
    secrets.is_some_and(|secrets| secrets.have_shorter_than(SHORTEST_SECRET))
}
