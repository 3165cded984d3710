//! Identifies callers by their client certificates.

use std::{collections::HashMap, sync::Arc};

use tonic::Extensions;

use crate::{domain::identity::Identity, server::Peer, tls::SubjectAltName};

/// Holders of client certificates, by subject alternative name: a URI or a DNS name.
#[derive(Clone, Debug, Default)]
pub struct Certificates(HashMap<SubjectAltName, Holder>);

#[derive(Clone, Debug)]
enum Holder {
    /// A caller of the typed API.
    Identity(Arc<Identity>),
    /// A standalone gateway.
    Gateway,
}

impl Certificates {
    /// Adds a caller of the typed API. Returns whether the name was free.
    pub fn add_identity(&mut self, name: &str, identity: Arc<Identity>) -> bool {
        self.0.insert(SubjectAltName::of(name), Holder::Identity(identity)).is_none()
    }

    /// Adds a standalone gateway. Returns whether the name was free.
    pub fn add_door(&mut self, name: &str) -> bool {
        self.0.insert(SubjectAltName::of(name), Holder::Gateway).is_none()
    }

    /// Whether there are no holders.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The caller that presented a known certificate.
    pub(super) fn identity(&self, extensions: &Extensions) -> Option<Arc<Identity>> {
        self.holders(extensions).find_map(|holder| match holder {
            Holder::Identity(identity) => Some(Arc::clone(identity)),
            Holder::Gateway => None,
        })
    }

    /// Whether the caller presented a gateway's certificate.
    pub(super) fn is_door(&self, extensions: &Extensions) -> bool {
        self.holders(extensions).any(|holder| matches!(holder, Holder::Gateway))
    }

    fn holders<'a>(&'a self, extensions: &'a Extensions) -> impl Iterator<Item = &'a Holder> {
        let names = extensions.get::<Peer>().into_iter().flat_map(|peer| &*peer.names);
        names.filter_map(|name| self.0.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_by_its_type() {
        let (host, uri) = ("crm.internal", "spiffe://crm");
        let mut certificates = Certificates::default();
        for name in [host, uri] {
            assert!(certificates.add_identity(name, Identity::open()));
        }
        assert!(certificates.add_door("door.internal"));
        for (name, is_known) in [
            (SubjectAltName::Dns(host.to_owned()), true),
            (SubjectAltName::Uri(host.to_owned()), false),
            (SubjectAltName::Uri(uri.to_owned()), true),
            (SubjectAltName::Dns(uri.to_owned()), false),
            (SubjectAltName::Uri("door.internal".to_owned()), false),
        ] {
            let mut extensions = Extensions::new();
            let address = ([127, 0, 0, 1], 1).into();
            extensions.insert(Peer { address, names: [name.clone()].into() });
            assert_eq!(certificates.identity(&extensions).is_some(), is_known, "{name:?}");
            assert!(!certificates.is_door(&extensions), "{name:?}");
        }
    }
}
