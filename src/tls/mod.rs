//! TLS on the listeners and from the gateway to its upstream. Configuration keys name the files of
//! certificates and private keys. Changed files are read again.

mod client;
mod expiry;
mod file;
mod listener;
mod reloading;

pub use client::ClientFiles;
pub(crate) use client::healthcheck_client_config;
pub(crate) use expiry::Expiry;
pub use file::{File, FileError};
pub(crate) use listener::names;
pub use listener::{ClientCertificates, Protocol, ServerFiles, SubjectAltName};
pub use reloading::{Reloading, Source};

/// TLS of a listener.
pub type ServerTls = Reloading<ServerFiles>;
/// TLS from the gateway to its upstream.
pub type ClientTls = Reloading<ClientFiles>;
