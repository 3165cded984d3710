//! The tower layers around every RPC, from the outside in:
//!
//! | layer | purpose |
//! | --- | --- |
//! | [`trace`] | finds the method, and begins a span in the caller's trace |
//! | [`observe`] | records metrics and the log line until the response is sent |
//! | [`deadline`] | ends the call at the caller's or the service's deadline, whichever is sooner |
//! | [`admission`] | refuses non-gRPC requests, and calls over the limits |
//! | [`authentication`] | authenticates the caller |
//! | [`message`] | reads the message and collects the response, within the byte budgets |
//!
//! All layers but the last read only headers. The body of a refused call is not read.

pub(crate) mod admission;
pub(super) mod answer;
pub(super) mod authentication;
pub(super) mod deadline;
pub(super) mod decompress;
pub(crate) mod elements;
pub(crate) mod message;
pub(super) mod method;
pub(super) mod observe;
pub(super) mod trace;
pub(crate) mod workers;

use std::{convert::Infallible, pin::Pin, sync::Arc};

use tonic::{body::Body, service::Routes};
use tower::ServiceBuilder;

pub(super) use self::{
    admission::Admission, answer::Answer, authentication::Authenticator, workers::Workers,
};
use super::call::CallOptions;
use crate::domain::error::Error;

/// A request between the layers.
pub(super) type Request = http::Request<Body>;
/// A response between the layers.
pub(super) type Response = http::Response<Answer>;
/// The future of a layer's service.
pub(super) type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, Infallible>> + Send>>;

/// The layers around the services.
pub(super) type Stack = trace::Trace<
    observe::Observe<
        deadline::Deadline<
            admission::Admit<authentication::Authenticate<message::Messages<Routes>>>,
        >,
    >,
>;

/// Wraps the services in the layers.
pub(super) fn stack(
    routes: Routes,
    authenticator: Arc<Authenticator>,
    admission: Arc<Admission>,
    workers: Arc<Workers>,
    options: &CallOptions,
) -> Stack {
    let (longest, max_message) = (options.deadline, options.largest_message);
    ServiceBuilder::new()
        .layer(trace::TraceLayer)
        .layer(observe::ObserveLayer)
        .layer(deadline::DeadlineLayer { longest })
        .layer(admission::AdmissionLayer { admission })
        .layer(authentication::AuthenticationLayer { authenticator })
        .layer(message::MessageLayer { max_message, workers })
        .service(routes)
}

/// The response for an error.
pub(super) fn refuse(error: Error) -> Response {
    super::errors::to_status(error).into_http()
}

/// A layer whose service is built from its own fields and the inner service.
macro_rules! layer {
    ($(#[$doc:meta])* $layer:ident { $($field:ident: $type:ty),* } => $service:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub(in crate::grpc) struct $layer {
            $(pub(in crate::grpc) $field: $type),*
        }

        impl<S> tower::Layer<S> for $layer {
            type Service = $service<S>;

            fn layer(&self, inner: S) -> $service<S> {
                $service { inner, $($field: self.$field.clone()),* }
            }
        }

        #[doc = concat!("The service of [`", stringify!($layer), "`].")]
        #[derive(Clone)]
        pub(in crate::grpc) struct $service<S> {
            inner: S,
            $($field: $type),*
        }
    };
}
use layer;
