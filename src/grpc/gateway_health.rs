//! The health service. A standalone gateway also checks here that its credentials are accepted.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tonic_health::{
    pb::{HealthCheckRequest, HealthCheckResponse, health_server::Health},
    server::HealthService,
};

use super::{auth::Authentication, errors, layers::trace::Begun};
use crate::{credentials::CHECK_GATEWAY, domain::error::Error};

/// Health of the service. With the metadata [`CHECK_GATEWAY`] it also authenticates the gateway.
pub(super) struct GatewayHealth {
    pub(super) health: HealthService,
    pub(super) authentication: Arc<Authentication>,
}

#[tonic::async_trait]
impl Health for GatewayHealth {
    type WatchStream = <HealthService as Health>::WatchStream;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let (metadata, extensions) = (request.metadata(), request.extensions());
        if metadata.contains_key(CHECK_GATEWAY) {
            let accepted = async {
                let call = Begun::context(extensions)?;
                self.authentication.is_door(call, metadata.as_ref(), extensions).await
            };
            if !accepted.await.map_err(|error| errors::status(&error))? {
                return Err(errors::status(&Error::Unauthenticated));
            }
        }
        self.health.check(request).await
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.health.watch(request).await
    }
}
