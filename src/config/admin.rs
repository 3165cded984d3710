//! The section `admin`.

use std::net::SocketAddr;

use super::{section::section, value::Parse};

section! {
    /// The admin listener.
    Admin("admin.") {
        /// Listen address of metrics and probes; `off` disables the listener.
        listen: AdminAddress = "127.0.0.1:9090",
    }
}

/// A listen address; `None` if the listener is disabled.
pub(super) struct AdminAddress(pub(super) Option<SocketAddr>);

impl Parse for AdminAddress {
    fn parse(text: String) -> Result<Self, String> {
        if text == "off" { Ok(Self(None)) } else { Option::parse(text).map(Self) }
    }
}
