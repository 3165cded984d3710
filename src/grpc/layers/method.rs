//! The methods of the API, read from the compiled protos.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message;
use prost_types::FileDescriptorSet;

use super::elements::ElementLimits;
use crate::proto::DESCRIPTORS;

/// The method that the gateway calls with the credentials of a legacy client.
const LEGACY_METHOD: &str = "m4.userdetails.v1.UserDetailsService/UpdateUserDetails";

/// One method of the API.
#[derive(Debug)]
pub(in crate::grpc) struct Method {
    /// The full name: `package.Service/Method`.
    pub(in crate::grpc) name: &'static str,
    /// Whether the response is a stream.
    pub(in crate::grpc) is_stream: bool,
    /// Whether the method updates many users.
    pub(in crate::grpc) is_batch: bool,
    /// Whether the gateway may call the method for a legacy client.
    pub(in crate::grpc) is_legacy: bool,
    /// The element limits of the request.
    pub(in crate::grpc) elements: ElementLimits,
}

/// The target of a request path.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::grpc) enum Route {
    /// A method of the API.
    Api(&'static Method),
    /// A health check or reflection: public, neither logged nor measured.
    Infrastructure(Infrastructure),
    /// No method of this service.
    #[default]
    Unknown,
}

/// Services that need no authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::grpc) enum Infrastructure {
    /// A unary health check.
    Check,
    /// A stream of health changes.
    HealthWatch,
    /// A bidirectional stream of reflection.
    Reflection,
}

impl Route {
    /// The route of a request path.
    pub(in crate::grpc) fn of(path: &str) -> Self {
        if let Some(method) = METHODS.get(path) {
            return Self::Api(method);
        }
        match path.strip_prefix("/grpc.health.v1.Health/") {
            Some("Check") => Self::Infrastructure(Infrastructure::Check),
            Some(_) => Self::Infrastructure(Infrastructure::HealthWatch),
            None if path.starts_with("/grpc.reflection.") => {
                Self::Infrastructure(Infrastructure::Reflection)
            }
            None => Self::Unknown,
        }
    }

    /// Whether an unauthenticated client can keep a stream open.
    pub(in crate::grpc) fn is_public_stream(path: &str) -> bool {
        // The prefix spares calls of the API a second search for their method.
        let is_infrastructure = path.starts_with("/grpc.");
        is_infrastructure
            && matches!(
                Self::of(path),
                Self::Infrastructure(Infrastructure::HealthWatch | Infrastructure::Reflection)
            )
    }

    /// The method of an API route.
    pub(in crate::grpc) fn method(self) -> Option<&'static Method> {
        match self {
            Self::Api(method) => Some(method),
            Self::Infrastructure(_) | Self::Unknown => None,
        }
    }
}

/// Every method.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static Method> {
    METHODS.values()
}

/// The methods by path, for the lifetime of the process.
static METHODS: LazyLock<foldhash::HashMap<String, Method>> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let mut messages = HashMap::new();
    for file in &files.file {
        for message in &file.message_type {
            messages.insert(format!(".{}.{}", file.package(), message.name()), message);
        }
    }
    let mut methods = foldhash::HashMap::default();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                let name: &'static str = name.leak();
                let method = Method {
                    name,
                    is_stream: method.server_streaming(),
                    is_batch: method.name().starts_with("Batch"),
                    is_legacy: name == LEGACY_METHOD,
                    elements: ElementLimits::of(method.input_type(), &messages),
                };
                methods.insert(format!("/{name}"), method);
            }
        }
    }
    methods
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_api_has_its_route() {
        assert_eq!(METHODS.len(), 19);
        let watch = "/m4.userdetails.v1.UserDetailsService/WatchUserDetails";
        let streams: Vec<_> = METHODS.iter().filter(|(_, method)| method.is_stream).collect();
        assert_eq!(streams.len(), 1);
        assert_eq!(streams[0].0, watch);
        let legacy: Vec<_> = METHODS.values().filter(|method| method.is_legacy).collect();
        assert_eq!(legacy[0].name, LEGACY_METHOD);
        assert_eq!(legacy.len(), 1);
        let health = Route::of("/grpc.health.v1.Health/Check");
        assert!(matches!(health, Route::Infrastructure(Infrastructure::Check)));
        assert!(matches!(Route::of("/m4.userdetails.v1.UserDetailsService/"), Route::Unknown));
    }
}
