//! Why the application fails.

use std::net::SocketAddr;

use crate::{domain::error::Cause, storage::OpenError};

/// Why the application cannot start, or stopped with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// A listener cannot bind its address.
    #[error(
        "cannot listen on {address}: choose another address with {key}, or port 0 for a free port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The environment variable that sets the address.
        key: &'static str,
        /// The I/O error.
        #[source]
        error: std::io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// A part of the program failed.
    #[error("a part of the program failed")]
    Failed(#[source] Cause),
    /// Updates were unfinished at the drain deadline.
    #[error("updates were still being stored at the drain deadline")]
    NotDrained,
}
