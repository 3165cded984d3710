//! TLS of a listener.

use super::{
    checks::{Checks, PathOf, file},
    value::Parse,
};
use crate::tls::{ClientCertificates, Protocol, ServerFiles, ServerTls};

/// Whether clients must have a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientCertificate {
    Required,
    Optional,
}

impl Parse for ClientCertificate {
    fn parse(text: String) -> Result<Self, String> {
        match &*text {
            "required" => Ok(Self::Required),
            "optional" => Ok(Self::Optional),
            _ => Err("must be required or optional".to_owned()),
        }
    }
}

/// The TLS keys of a listener.
pub(super) struct ListenerTls<'a> {
    pub(super) certificate: PathOf<'a>,
    pub(super) key: PathOf<'a>,
    pub(super) client_ca: PathOf<'a>,
    pub(super) client_certificate: ClientCertificate,
    pub(super) protocol: Protocol,
}

impl ListenerTls<'_> {
    /// Reads the files. `None` without TLS.
    pub(super) fn read(self, checks: &mut Checks<'_>) -> Option<ServerTls> {
        let own = checks.pair(self.certificate, self.key);
        let authorities = file(self.client_ca);
        if authorities.is_some() && own.is_none() {
            checks.wrong(self.client_ca.0, format_args!("needs {}", self.certificate.0));
        }
        let required = self.client_certificate == ClientCertificate::Required;
        let clients = authorities.map(|authorities| ClientCertificates { authorities, required });
        let (certificate, key) = own?;
        checks.reloading(ServerFiles { certificate, key, clients, protocol: self.protocol })
    }
}
