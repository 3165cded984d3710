//! The section `http`.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    section::section,
    tls::{ClientCertificate, ListenerTls},
    value::{Number, Parse},
};
use crate::{gateway::Answers, tls::Protocol};

section! {
    /// The listener of the legacy call.
    Http("http.") {
        /// Listen address of the legacy call.
        listen: SocketAddr = "127.0.0.1:8080",
        /// Media type of legacy responses: `xml` for `text/xml`, `html` for `text/html` (old .NET
        /// clients).
        answers: Answers = "xml",
        /// Maximum size of a body, in bytes.
        body_limit: Number<1024, { 1 << 20 }> = "262144",
        /// PEM file: certificate of the HTTP listener, with its intermediate certificates. Enables
        /// TLS.
        tls_certificate: Option<PathBuf> = "",
        /// PEM file: private key of `http.tls_certificate`.
        tls_key: Option<PathBuf> = "",
        /// PEM file: authorities of accepted client certificates.
        tls_client_ca: Option<PathBuf> = "",
        /// With `http.tls_client_ca`: whether a client certificate is `required` or `optional`.
        tls_client_certificate: ClientCertificate = "required",
    }
}

impl Http {
    pub(super) fn tls(&self) -> ListenerTls<'_> {
        ListenerTls {
            certificate: ("http.tls_certificate", self.tls_certificate.as_deref()),
            key: ("http.tls_key", self.tls_key.as_deref()),
            client_ca: ("http.tls_client_ca", self.tls_client_ca.as_deref()),
            client_certificate: self.tls_client_certificate,
            protocol: Protocol::Http1,
        }
    }
}

impl Parse for Answers {
    fn parse(text: String) -> Result<Self, String> {
        match &*text {
            "xml" => Ok(Self::Xml),
            "html" => Ok(Self::Html),
            _ => Err("must be xml or html".to_owned()),
        }
    }
}
