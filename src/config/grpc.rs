//! The section `grpc`.

use std::{net::SocketAddr, path::PathBuf};

use secrecy::SecretString;

use super::{
    checks::Checks,
    secret_file,
    section::section,
    tls::{ClientCertificate, ListenerTls},
    value::Number,
};
use crate::{grpc::auth::InternalToken, tls::Protocol};

section! {
    /// The gRPC listener and its callers.
    Grpc("grpc.") {
        /// Listen address of gRPC.
        listen: SocketAddr = "127.0.0.1:50051",
        /// Bearer token of internal callers.
        token: Option<SecretString> = "",
        /// File with one token per line, instead of `grpc.token`. All are accepted. Read again when it
        /// changes.
        token_file: Option<PathBuf> = "",
        /// Name of the token's holder in the change log.
        token_name: String = "internal",
        /// Whether the token's holder may act in its own name, with an admin's rights.
        token_own_name: bool = "false",
        /// Require authentication even if no method is configured: the database holds the tokens of
        /// `token create`.
        require_token: bool = "false",
        /// PEM file: certificate of the gRPC listener, with its intermediate certificates. Enables
        /// TLS.
        tls_certificate: Option<PathBuf> = "",
        /// PEM file: private key of `grpc.tls_certificate`.
        tls_key: Option<PathBuf> = "",
        /// PEM file: authorities of accepted client certificates.
        tls_client_ca: Option<PathBuf> = "",
        /// With `grpc.tls_client_ca`: whether a client certificate is `required` or `optional`.
        tls_client_certificate: ClientCertificate = "required",
        /// TOML file with the holders of client certificates.
        certificates_file: Option<PathBuf> = "",
        /// Maximum size of a request or response message after decompression, in bytes.
        message_limit: Number<{ 2 << 20 }, { 64 << 20 }> = "4194304",
        /// Age after which a connection of the gRPC or HTTP listener takes no new calls, in seconds,
        /// ± 10 %. 0 disables the limit.
        connection_age_seconds: Number<0, 86_400> = "1800",
        /// Time for calls in flight on a connection of that age, in seconds.
        connection_grace_seconds: Number<1, 3600> = "60",
        /// Silence on a connection before a keepalive ping, in seconds. The client has a third of
        /// that time to respond.
        keepalive_seconds: Number<1, 3600> = "60",
    }
}

impl Grpc {
    /// The static token of internal callers.
    pub(super) fn internal(&self, checks: &mut Checks<'_>) -> Option<InternalToken> {
        if self.token.is_none() && self.token_file.is_none() {
            return None;
        }
        let file = ("grpc.token_file", self.token_file.as_deref());
        let tokens =
            checks.secrets(&[("grpc.token", self.token.as_ref())], file, secret_file::token);
        Some(InternalToken::new(self.token_name.clone(), tokens, self.token_own_name))
    }

    pub(super) fn tls(&self) -> ListenerTls<'_> {
        ListenerTls {
            certificate: ("grpc.tls_certificate", self.tls_certificate.as_deref()),
            key: ("grpc.tls_key", self.tls_key.as_deref()),
            client_ca: ("grpc.tls_client_ca", self.tls_client_ca.as_deref()),
            client_certificate: self.tls_client_certificate,
            protocol: Protocol::Http2,
        }
    }
}
