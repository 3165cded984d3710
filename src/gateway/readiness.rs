//! Whether the gateway can answer calls: the service is serving and accepts the gateway.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use secrecy::ExposeSecret;
use tonic::{
    Code,
    metadata::{Ascii, MetadataValue},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    credentials::{CHECK_GATEWAY, DOOR_IDENTITY},
    proto::Channel,
    secrets::Secrets,
};

/// The first and the longest pause between checks at the start.
const CHECK_BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// The timeout of a health check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The metadata that authenticates the gateway. The configuration admits only tokens that can be
/// sent.
pub(super) fn identity(tokens: &Secrets) -> Option<MetadataValue<Ascii>> {
    let token = tokens.current()?;
    let mut identity: MetadataValue<_> =
        format!("Bearer {}", token.expose_secret()).parse().ok()?;
    identity.set_sensitive(true);
    Some(identity)
}

/// The readiness of a gateway.
pub(crate) struct Readiness {
    channel: Channel,
    tokens: Option<Secrets>,
    /// Whether the service refused the gateway last time: only the first refusal is logged.
    refused: AtomicBool,
}

impl Readiness {
    pub(super) fn new(channel: Channel, tokens: Option<Secrets>) -> Self {
        Self { channel, tokens, refused: AtomicBool::new(false) }
    }

    /// Waits until the service is serving and accepts the gateway.
    pub(crate) async fn wait(&self) {
        let [mut pause, longest] = CHECK_BACKOFF;
        while !self.is_ready().await {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Calls the service's health check.
    pub(super) async fn is_ready(&self) -> bool {
        let mut request = tonic::Request::new(HealthCheckRequest { service: String::new() });
        let metadata = request.metadata_mut();
        metadata.insert(CHECK_GATEWAY, MetadataValue::from_static("true"));
        if let Some(identity) = self.tokens.as_ref().and_then(identity) {
            metadata.insert(DOOR_IDENTITY, identity);
        }
        let mut client = HealthClient::new(self.channel.clone());
        let answer = tokio::time::timeout(CHECK_TIMEOUT, client.check(request)).await;
        match answer {
            Ok(Ok(answer)) => {
                self.refused.store(false, Ordering::Relaxed);
                answer.get_ref().status() == ServingStatus::Serving
            }
            Ok(Err(status)) if status.code() == Code::Unauthenticated => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        "the service refuses this gateway: set door.token (M4_DOOR_TOKEN) to the \
                         token of the service, or show a certificate that the service lists"
                    );
                }
                false
            }
            _ => false,
        }
    }
}
