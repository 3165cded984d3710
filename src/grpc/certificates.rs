//! Who a client's certificate proves a caller to be.

use std::{collections::HashMap, sync::Arc};

use tonic::Extensions;

use crate::{domain::identity::Identity, listen::Peer};

/// Whose client certificates are, by one of their subject alternative names: a URI or the name of a host.
#[derive(Clone, Debug, Default)]
pub struct Certificates(HashMap<String, Holder>);

#[derive(Clone, Debug)]
enum Holder {
    /// A caller of the typed API.
    Identity(Arc<Identity>),
    /// A door in a process of its own.
    Door,
}

impl Certificates {
    /// Adds a caller of the typed API. Answers whether the name was free.
    pub fn add_identity(&mut self, name: String, identity: Arc<Identity>) -> bool {
        self.0.insert(name, Holder::Identity(identity)).is_none()
    }

    /// Adds a door in a process of its own. Answers whether the name was free.
    pub fn add_door(&mut self, name: String) -> bool {
        self.0.insert(name, Holder::Door).is_none()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The caller whose certificate was shown.
    pub(super) fn identity(&self, extensions: &Extensions) -> Option<Arc<Identity>> {
        self.holders(extensions).find_map(|holder| match holder {
            Holder::Identity(identity) => Some(Arc::clone(identity)),
            Holder::Door => None,
        })
    }

    /// Whether the certificate of a door was shown.
    pub(super) fn is_door(&self, extensions: &Extensions) -> bool {
        self.holders(extensions).any(|holder| matches!(holder, Holder::Door))
    }

    fn holders<'a>(&'a self, extensions: &'a Extensions) -> impl Iterator<Item = &'a Holder> {
        let names = extensions.get::<Peer>().into_iter().flat_map(|peer| &*peer.names);
        names.filter_map(|name| self.0.get(name))
    }
}
