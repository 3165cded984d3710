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

mod admission;
mod answer;
pub(super) mod authentication;
pub(crate) mod call_limits;
mod deadline;
mod decompress;
pub(crate) mod elements;
mod exchange;
pub(crate) mod message;
pub(super) mod method;
pub(super) mod observe;
pub(super) mod observed_call;
mod request_message;
mod retirement;
pub(super) mod trace;

use std::sync::Arc;

use tonic::service::Routes;

use self::{
    admission::Admit,
    authentication::{Authenticate, Authenticator},
    call_limits::CallLimits,
    deadline::Deadline,
    message::Messages,
    observe::Observe,
    trace::Trace,
};
use super::{call::CallOptions, workers::Workers};

/// The layers around the services.
pub(super) type Stack = Trace<Observe<Deadline<Admit<Authenticate<Messages<Routes>>>>>>;

/// Wraps the services in the layers.
pub(super) fn stack(
    routes: Routes,
    authenticator: Arc<Authenticator>,
    limits: Arc<CallLimits>,
    workers: Arc<Workers>,
    options: &CallOptions,
) -> Stack {
    let inner = Messages { inner: routes, max_message: options.largest_message, workers };
    let inner = Authenticate { inner, authenticator };
    let inner = Admit { inner, limits };
    let inner = Deadline { inner, longest: options.deadline };
    Trace { inner: Observe { inner } }
}
