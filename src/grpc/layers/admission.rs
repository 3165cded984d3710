//! Admission: refuses non-gRPC requests, and calls over the limit.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    HeaderValue, Method, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use tower::Service;

use super::{
    answer::Answer,
    call_limits::CallLimits,
    exchange::{BoxFuture, Request, Response, refuse},
    method::Route,
    trace::Begun,
};
use crate::domain::error::Error;

/// Refuses non-gRPC requests, and calls over the limit.
#[derive(Clone)]
pub(in crate::grpc) struct Admit<S> {
    pub(super) inner: S,
    pub(super) limits: Arc<CallLimits>,
}

impl<S> Service<Request> for Admit<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> BoxFuture<Response> {
        if let Some(response) = not_grpc(&request) {
            return Box::pin(async { Ok(response) });
        }
        let route = request.extensions().get::<Begun>().map_or(Route::Unknown, |begun| begun.route);
        if let Route::Unknown = route {
            return Box::pin(async { Ok(refuse(Error::UnknownMethod)) });
        }
        let Some(permit) = self.limits.admit(route, &request) else {
            return Box::pin(async { Ok(refuse(Error::Overloaded)) });
        };
        let call = self.inner.call(request);
        Box::pin(async move {
            let mut response = call.await?;
            // Subscriptions have their own limit.
            if !route.method().is_some_and(|method| method.is_stream) {
                response.body_mut().keep(permit);
            }
            Ok(response)
        })
    }
}

/// The response to a non-gRPC request; `None` for a gRPC request.
fn not_grpc(request: &Request) -> Option<Response> {
    let mut response = Response::new(Answer::Empty);
    if *request.method() != Method::POST {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Some(response);
    }
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_grpc =
        content_type.and_then(|value| value.strip_prefix(b"application/grpc")).is_some_and(
            // Not `application/grpc-web`, which has other frames. A suffix like `+proto` is fine.
            |rest| matches!(rest, [] | [b'+' | b';' | b' ', ..]),
        );
    if is_grpc {
        return None;
    }
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Some(response)
}
