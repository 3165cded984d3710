//! The measured paths of an update or a read.

use serde::Serialize;

/// A measured path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Path {
    /// The statements without the service; on SQLite one commit per update.
    Limit,
    /// On SQLite: 32 updates in each commit.
    LimitOf32,
    /// An empty gRPC call: the cost of the protocol.
    Ping,
    /// `UpdateUserDetails`; callers share four connections.
    Rpc,
    /// `UpdateUserDetails` with one connection per caller.
    RpcApart,
    /// The legacy call, in the service's process.
    Gateway,
    /// The legacy call through a standalone gateway.
    StandaloneGateway,
    /// `GetUserDetails`.
    Get,
}

impl Path {
    /// All paths, in run order.
    pub(crate) const ALL: [Self; 8] = [
        Self::Limit,
        Self::LimitOf32,
        Self::Ping,
        Self::Rpc,
        Self::RpcApart,
        Self::Gateway,
        Self::StandaloneGateway,
        Self::Get,
    ];

    /// Whether the path goes through the service.
    pub(crate) fn is_served(self) -> bool {
        !matches!(self, Self::Limit | Self::LimitOf32)
    }
}
