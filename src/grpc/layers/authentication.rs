//! Authenticates callers by headers and client certificates.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, HeaderMap};
use tower::Service;

use super::{
    exchange::{BoxFuture, Request, Response, refuse},
    method::Route,
    retirement,
    trace::Begun,
};
use crate::{
    credentials::UNFIT_FIELDS,
    domain::{
        error::Error, legacy_access::LegacyAccess, scope::FieldSet, service::Service as UseCases,
    },
    grpc::{
        auth::{Authentication, Caller, Claimed, LegacyCaller, text},
        metrics,
    },
};

/// Authenticates callers of the API, and the gateway's legacy clients.
pub(in crate::grpc) struct Authenticator {
    pub(in crate::grpc) authentication: Arc<Authentication>,
    pub(in crate::grpc) service: Arc<UseCases>,
}

impl Authenticator {
    /// The caller of a method; `None` for public routes. Checks the hash of a legacy client, by
    /// settings that it also stores in `legacy`.
    async fn caller(
        &self,
        route: Route,
        headers: &HeaderMap,
        extensions: &Extensions,
        legacy: &mut Option<Arc<LegacyAccess>>,
    ) -> Result<Option<Caller>, Error> {
        let Some(method) = route.method() else { return Ok(None) };
        let call = Begun::context(extensions)?;
        let claimed = self.authentication.caller(call, headers, extensions).await?;
        let caller = match claimed {
            Claimed::Internal(identity) => {
                call.record.set_identity(&identity);
                Caller::Internal(identity)
            }
            Claimed::Legacy(credentials) => {
                credentials.address.parse().into_iter().for_each(|ip| call.record.set_client(ip));
                if !method.is_legacy {
                    return Err(Error::Unauthenticated);
                }
                let access = legacy.insert(self.service.access(call).await?);
                let matched = self.service.authenticate(access, &credentials);
                let matched = matched.inspect_err(|error| {
                    metrics::hash_failed(error);
                    if matches!(error, Error::IncorrectHash | Error::UsernameBlocked) {
                        self.service.clients.failed(&credentials);
                    }
                })?;
                call.record.set_key(&matched.key);
                let unfit = text(headers, UNFIT_FIELDS)?;
                // A key in the wrong hands is in the report, too.
                let counting = self.service.count(&credentials, &matched, FieldSet::default());
                let caller = LegacyCaller::new(credentials.clone(), matched.clone(), unfit)?;
                counting.not_yet();
                Caller::Legacy(Box::new(caller))
            }
        };
        Ok(Some(caller))
    }
}

/// Refuses unauthenticated callers. Stores the [`Caller`] as a request extension. Announces the
/// retirement in every answer to a legacy client.
#[derive(Clone)]
pub(in crate::grpc) struct Authenticate<S> {
    pub(super) inner: S,
    pub(super) authenticator: Arc<Authenticator>,
}

impl<S> Service<Request> for Authenticate<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> BoxFuture<Response> {
        let (authenticator, mut inner) = (Arc::clone(&self.authenticator), self.inner.clone());
        let route = request.extensions().get::<Begun>().map_or(Route::Unknown, |begun| begun.route);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let (headers, extensions, mut legacy) = (&parts.headers, &parts.extensions, None);
            let caller = authenticator.caller(route, headers, extensions, &mut legacy).await;
            let mut response = match caller {
                Ok(caller) => {
                    if let Some(caller) = caller {
                        parts.extensions.insert(caller);
                    }
                    inner.call(Request::from_parts(parts, body)).await?
                }
                Err(error) => refuse(error),
            };
            if let Some(access) = legacy {
                retirement::announce(&access.settings.retirement, response.headers_mut());
            }
            Ok(response)
        })
    }
}
