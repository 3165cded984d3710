//! Finds the method of a call, and begins its span in the caller's trace.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use http::Extensions;
use opentelemetry::{KeyValue, trace::SpanKind};
use tower::Service;

use super::{exchange::Request, method::Route};
use crate::{
    domain::{call_context::CallContext, error::Error},
    grpc::call::OTHER,
    telemetry::names,
    trace::Span,
};

/// Begins the span of a call.
#[derive(Clone)]
pub(in crate::grpc) struct Trace<S> {
    pub(super) inner: S,
}

/// The route and the context of a call, stored as a request extension.
#[derive(Clone)]
pub(in crate::grpc) struct Begun {
    pub(in crate::grpc) route: Route,
    pub(in crate::grpc) context: CallContext,
}

impl Begun {
    /// The context of a request.
    ///
    /// # Errors
    /// [`Error::Internal`] outside the layers, which is a defect.
    pub(in crate::grpc) fn context(extensions: &Extensions) -> Result<&CallContext, Error> {
        let begun = extensions.get::<Self>();
        begun.map(|begun| &begun.context).ok_or_else(|| Error::Internal("no call context".into()))
    }
}

impl<S: Service<Request, Error = Infallible>> Service<Request> for Trace<S> {
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> S::Future {
        let route = Route::of(request.uri().path());
        let context = CallContext { span: span(route, &request), ..CallContext::default() };
        request.extensions_mut().insert(Begun { route, context });
        self.inner.call(request)
    }
}

fn span(route: Route, request: &Request) -> Span {
    // Unknown method names are not recorded: a client could invent any number of names.
    let (name, method) = match route {
        Route::Api(method) => (method.name, method.name),
        Route::Infrastructure { .. } => return Span::default(),
        Route::Unknown => ("grpc", OTHER),
    };
    let span = Span::of_caller(request.headers()).child(SpanKind::Server, || name.into());
    span.set_attributes(|| {
        [KeyValue::new(names::RPC_SYSTEM_NAME, "grpc"), KeyValue::new(names::RPC_METHOD, method)]
    });
    span
}
