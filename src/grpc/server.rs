//! The gRPC services put together, for the listener and for the door in the same process.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    codec::CompressionEncoding::{Gzip, Zstd},
    server::NamedService,
    service::Routes,
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::{ServiceBuilder, ServiceExt};

use super::{
    auth::{Authentication, InProcessDoor},
    call::CallOptions,
    legacy::LegacyCalls,
    metered,
    settings::SettingsSwitches,
    unserved::Unserved,
    user_details::UserDetails,
};
use crate::{
    domain::{error::Cause, service::Service},
    listen::{self, Age, Peer, Stream},
    proto::{
        self, Channel, legacy_service_server::LegacyServiceServer,
        settings_service_server::SettingsServiceServer,
        user_details_service_server::UserDetailsServiceServer,
    },
    tls::ServerTls,
};

/// How often the storage is asked whether it still answers.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is asked until it answers for the first time.
const HASTY_INTERVAL: Duration = Duration::from_millis(20);
/// How long it may take to answer.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// How many calls may be under way on one connection.
const STREAMS: u32 = 256;

/// The services, and the reporter of their health.
#[derive(Clone)]
pub struct Services {
    routes: Routes,
    health: HealthReporter,
    service: Arc<Service>,
}

impl Services {
    /// The services on the use cases.
    ///
    /// # Errors
    /// Where the compiled protos cannot be read back: a defect.
    pub async fn new(
        service: Arc<Service>,
        authentication: Authentication,
        options: CallOptions,
    ) -> Result<Self, Cause> {
        let largest = options.largest_message;
        let authentication = Arc::new(authentication);
        let users = UserDetailsServiceServer::new(UserDetails {
            service: Arc::clone(&service),
            authentication: Arc::clone(&authentication),
            options: options.clone(),
        });
        let settings = SettingsServiceServer::new(SettingsSwitches {
            service: Arc::clone(&service),
            authentication: Arc::clone(&authentication),
            deadline: options.deadline,
        });
        let legacy = LegacyServiceServer::new(LegacyCalls {
            service: Arc::clone(&service),
            authentication,
            deadline: options.deadline,
            largest_body: options.largest_body,
        });
        let (reporter, health) = tonic_health::server::health_reporter();
        // Some clients ask v1 only, some v1alpha only.
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        macro_rules! compressed {
            ($server:expr) => {
                $server
                    .accept_compressed(Gzip)
                    .accept_compressed(Zstd)
                    .send_compressed(Gzip)
                    .send_compressed(Zstd)
                    .max_decoding_message_size(largest)
                    .max_encoding_message_size(largest)
            };
        }
        let routes = Routes::new(compressed!(users))
            .add_service(compressed!(settings))
            .add_service(compressed!(legacy))
            .add_service(compressed!(health))
            .add_service(compressed!(reflection().build_v1()?))
            .add_service(compressed!(reflection().build_v1alpha()?))
            .prepare();
        let services = Self { routes, health: reporter, service };
        services.report(false).await;
        metered::ready(false);
        metered::expect_shed();
        Ok(services)
    }

    /// The way to the services for the door in this process.
    pub fn in_process(&self) -> Channel {
        let mark = |mut request: http::Request<tonic::body::Body>| {
            request.extensions_mut().insert(InProcessDoor);
            request
        };
        let service = ServiceBuilder::new().map_request(mark).service(self.routes.clone());
        Channel::new(service.map_err(|never| match never {}))
    }

    /// Answers calls on a listener until `stop`, then finishes those under way, which `calls` counts.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<ServerTls>,
        age: Age,
        stop: CancellationToken,
        calls: TaskTracker,
    ) {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(age.keepalive)
            .keep_alive_timeout(age.keepalive / 3);
        let routes = self.routes;
        let protocol = move |stream: Stream, peer: Peer| {
            let (routes, calls) = (routes.clone(), calls.clone());
            let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                let unserved = Unserved::may_be(&request);
                request.extensions_mut().insert(peer.clone());
                let answer = routes.clone().oneshot(request.map(tonic::body::Body::new));
                let answered = async { Ok::<_, Infallible>(unserved.answered(answer.await?)) };
                calls.track_future(answered)
            });
            http.serve_connection(stream, service)
        };
        listen::serve(listener, tls, age, stop, protocol).await;
    }

    /// Reports as healthy while the storage answers, until `stop`. Then those who watch are told, and let go.
    pub async fn watch_health(mut self, stop: CancellationToken) {
        let mut serving = false;
        let mut served = false;
        loop {
            let answers = matches!(timeout(PROBE_PATIENCE, self.service.ready()).await, Ok(Ok(())));
            if answers != serving {
                serving = answers;
                tracing::info!(serving, "health");
                metered::ready(serving);
                self.report(serving).await;
            }
            served |= serving;
            let interval = if served { PROBE_INTERVAL } else { HASTY_INTERVAL };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(interval) => {}
            }
        }
        self.report(false).await;
        // A stream of `Watch` ends with the status it watches; no other end would let the drain end.
        for name in Self::watched() {
            self.health.clear_service_status(name).await;
        }
        self.report(false).await;
    }

    async fn report(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in Self::watched() {
            self.health.set_service_status(name, status).await;
        }
    }

    /// The names under which health is asked for.
    fn watched() -> [&'static str; 4] {
        [
            "",
            UserDetailsServiceServer::<UserDetails>::NAME,
            SettingsServiceServer::<SettingsSwitches>::NAME,
            LegacyServiceServer::<LegacyCalls>::NAME,
        ]
    }
}
