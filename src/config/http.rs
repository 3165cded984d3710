//! The section `http`.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    section::section,
    tls::{ClientCertificate, ListenerTls},
    value::{Number, Parse},
};
use crate::{
    gateway::{Answers, ForwardedHeader, TrustedProxies},
    networks::{Networks, NotNetworks},
    tls::Protocol,
};

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
        /// Networks of the proxies in front of the HTTP listener, separated by commas. Only their
        /// header tells the client's address.
        trusted_proxies: Networks = "",
        /// The header in which they write the address: `forwarded`, `x-forwarded-for`, or `either`.
        /// With `either`, a client whose two headers contradict each other has no address.
        forwarded_header: ForwardedHeader = "either",
        /// Whether connections begin with a header of the PROXY protocol, version 1 or 2: `off` or
        /// `required`. If `http.trusted_proxies` is set, only those addresses may connect.
        proxy_protocol: Required = "off",
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
    pub(super) fn proxies(&self) -> TrustedProxies {
        TrustedProxies { networks: self.trusted_proxies.clone(), header: self.forwarded_header }
    }

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

/// A protocol that is required or switched off.
pub(super) struct Required(pub(super) bool);

impl Parse for Required {
    fn parse(text: String) -> Result<Self, String> {
        match &*text {
            "off" => Ok(Self(false)),
            "required" => Ok(Self(true)),
            _ => Err("must be off or required".to_owned()),
        }
    }
}

impl Parse for ForwardedHeader {
    fn parse(text: String) -> Result<Self, String> {
        match &*text {
            "either" => Ok(Self::Either),
            "forwarded" => Ok(Self::Forwarded),
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            _ => Err("must be forwarded, x-forwarded-for or either".to_owned()),
        }
    }
}

impl Parse for Networks {
    fn parse(text: String) -> Result<Self, String> {
        text.parse().map_err(|problem: NotNetworks| problem.to_string())
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
