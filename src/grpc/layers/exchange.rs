//! What passes between the layers.

use std::{convert::Infallible, pin::Pin};

use tonic::body::Body;

use super::answer::Answer;
use crate::{domain::error::Error, grpc::errors};

/// A request between the layers.
pub(in crate::grpc) type Request = http::Request<Body>;
/// A response between the layers.
pub(in crate::grpc) type Response = http::Response<Answer>;
/// The future of a layer's service.
pub(in crate::grpc) type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, Infallible>> + Send>>;

/// The response for an error.
pub(super) fn refuse(error: Error) -> Response {
    errors::to_status(error).into_http()
}
