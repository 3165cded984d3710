//! The section `connections`.

use super::{section::section, value::Number};

section! {
    /// The client connections of the gRPC and HTTP listeners.
    Connections("connections.") {
        /// Maximum number of client connections of each listener, gRPC and HTTP. Lower if the
        /// process has too few file descriptors.
        max: Number<16, 100_000> = "1024",
        /// Maximum number of connections of a client address (IPv6: of a /64 network). 0 disables
        /// the limit. `http.trusted_proxies` have no such limit.
        max_per_address: Number<0, 100_000> = "256",
    }
}
