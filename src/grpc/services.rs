//! Assembles the gRPC services, for the listener and for the in-process gateway.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    codec::CompressionEncoding::{Gzip, Zstd},
    server::NamedService,
    service::Routes,
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::{ServiceBuilder, ServiceExt};

use super::{
    administration::AdministrationLog,
    auth::{Authentication, InProcessDoor},
    call::CallOptions,
    gateway_health::GatewayHealth,
    http2::{HEADER_LIST_BYTES, MAX_STREAMS, SEND_BUFFER_BYTES, WINDOW_BYTES},
    layers::{
        Stack,
        authentication::Authenticator,
        call_limits::{CallLimits, ConnectionShare},
        message::MAX_PUBLIC_MESSAGE_BYTES,
        method::Route,
        stack,
    },
    legacy_service::LegacyCalls,
    metrics,
    settings::SettingsSwitches,
    streams::StreamExecutor,
    user_details::UserDetails,
    workers::Workers,
};
use crate::{
    budget::MemoryBudget,
    domain::{
        error::{Cause, chain},
        readiness::{Fault, NotReady},
        service::Service,
    },
    proto::{
        self, Channel, administration_service_server::AdministrationServiceServer,
        legacy_service_server::LegacyServiceServer, settings_service_server::SettingsServiceServer,
        user_details_service_server::UserDetailsServiceServer,
    },
    server::{self, Activity, Listener, Peer, PrefaceTimeout, Stream},
};

/// Interval between readiness probes of the storage.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Probe interval until the first success.
const STARTUP_PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// Timeout of a readiness probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The gRPC services and their health reporter.
#[derive(Clone)]
pub struct Services {
    stack: Stack,
    budget: Arc<MemoryBudget>,
    /// Send timeout of a small response.
    send_timeout: Duration,
    health: HealthReporter,
    service: Arc<Service>,
}

impl Services {
    /// Builds the services.
    ///
    /// # Errors
    /// If the compiled protos cannot be decoded, which is a defect.
    pub async fn new(
        service: Arc<Service>,
        authentication: Authentication,
        options: CallOptions,
    ) -> Result<Self, Cause> {
        let largest = options.largest_message;
        let authentication = Arc::new(authentication);
        let workers = Workers::new();
        let users = UserDetailsServiceServer::new(UserDetails {
            service: Arc::clone(&service),
            authentication: Arc::clone(&authentication),
            options: options.clone(),
            workers: Arc::clone(&workers),
        });
        let settings =
            SettingsServiceServer::new(SettingsSwitches { service: Arc::clone(&service) });
        let legacy = LegacyServiceServer::new(LegacyCalls {
            service: Arc::clone(&service),
            largest_body: options.largest_body,
            largest_message: largest,
        });
        let administration = AdministrationServiceServer::new(AdministrationLog {
            service: Arc::clone(&service),
            largest_message: largest,
        });
        let reporter = HealthReporter::new();
        let health = HealthService::from_health_reporter(reporter.clone());
        let health = HealthServer::new(GatewayHealth {
            health,
            authentication: Arc::clone(&authentication),
        });
        // Some clients support only v1, others only v1alpha. Clients print the details of a status
        // with the messages of `google.rpc`.
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
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
        macro_rules! public {
            ($server:expr) => {
                $server
                    .send_compressed(Gzip)
                    .send_compressed(Zstd)
                    .max_decoding_message_size(MAX_PUBLIC_MESSAGE_BYTES)
            };
        }
        let routes = Routes::new(compressed!(users))
            .add_service(compressed!(settings))
            .add_service(compressed!(legacy))
            .add_service(compressed!(administration))
            .add_service(public!(health))
            .add_service(public!(reflection().build_v1()?))
            .add_service(public!(reflection().build_v1alpha()?))
            .prepare();
        let authenticator =
            Arc::new(Authenticator { authentication, service: Arc::clone(&service) });
        let limits = CallLimits::new(options.max_calls);
        let stack = stack(routes, authenticator, limits, workers, &options);
        let budget = MemoryBudget::new(options.message_memory);
        let send_timeout = options.deadline;
        let services = Self { stack, budget, send_timeout, health: reporter, service };
        services.report(false).await;
        metrics::ready(Some(Fault::NotPrepared));
        metrics::expect_shed();
        Ok(services)
    }

    /// The byte budget of the process.
    pub fn budget(&self) -> Arc<MemoryBudget> {
        Arc::clone(&self.budget)
    }

    /// A channel for the gateway in this process.
    pub fn in_process(&self) -> Channel {
        let mark = |mut request: http::Request<tonic::body::Body>| {
            request.extensions_mut().insert(InProcessDoor);
            request
        };
        let service = ServiceBuilder::new().map_request(mark).service(self.stack.clone());
        let service = service.map_response(|response| response.map(tonic::body::Body::new));
        Channel::new(service.map_err(|never| match never {}))
    }

    /// Serves calls until `stop`, then finishes the calls in flight, which `calls` counts.
    pub async fn serve(self, listener: Listener, stop: CancellationToken, calls: TaskTracker) {
        let (age, timeouts) = (listener.limits.age, listener.limits.timeouts);
        let mut http = http2::Builder::new(StreamExecutor);
        http.timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(age.keepalive)
            .keep_alive_timeout(age.keepalive / 3);
        let (stack, budget, send_timeout) = (self.stack, self.budget, self.send_timeout);
        let protocol = move |stream: TokioIo<Stream>, peer: Peer, activity: Arc<Activity>| {
            let (stack, calls) = (stack.clone(), calls.clone());
            let begun = Arc::clone(&activity);
            let stream = PrefaceTimeout::new(stream.into_inner(), begun, timeouts.head);
            let share = ConnectionShare::new(&budget);
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let yields = Route::is_public_stream(request.uri().path());
                let (mut request, activity) = activity.call(request, yields);
                request.extensions_mut().insert(peer.clone());
                request.extensions_mut().insert(Arc::clone(&share));
                let call = stack.clone().oneshot(request.map(tonic::body::Body::new));
                let under_way = calls.token();
                async move {
                    let mut response = call.await?;
                    let ended = response.extensions_mut().remove();
                    response.body_mut().send_within(send_timeout, under_way, ended);
                    Ok::<_, Infallible>(activity.answered(response))
                }
            });
            http.serve_connection(TokioIo::new(stream), service)
        };
        server::serve(listener, stop, protocol).await;
    }

    /// Reports health until `stop`: serving while updates can be stored. Then ends health watches.
    pub async fn watch_health(mut self, stop: CancellationToken) {
        let mut known = Some(Fault::NotPrepared);
        let mut served = false;
        loop {
            let found = tokio::select! {
                () = stop.cancelled() => break,
                found = self.probe() => found,
            };
            let fault = found.as_ref().err().map(|not_ready| not_ready.fault);
            if fault != known {
                match &found {
                    Ok(()) => tracing::info!(serving = true, "health"),
                    Err(error) => {
                        let cause = error.fault.label();
                        tracing::error!(cause, error = chain(error), "not ready");
                    }
                }
                metrics::ready(fault);
                if fault.is_some() != known.is_some() {
                    self.report(fault.is_none()).await;
                }
                known = fault;
            }
            served |= fault.is_none();
            let interval = if served { PROBE_INTERVAL } else { STARTUP_PROBE_INTERVAL };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(interval) => {}
            }
        }
        self.report(false).await;
        // A health watch ends only when its status is cleared: open watches would block the drain.
        for name in Self::watched() {
            self.health.clear_service_status(name).await;
        }
        self.report(false).await;
    }

    /// Checks whether an update could be stored now.
    async fn probe(&self) -> Result<(), NotReady> {
        let no_answer = |_| Err(NotReady { fault: Fault::NoAnswer, cause: "timeout".into() });
        timeout(PROBE_TIMEOUT, self.service.store.ready()).await.unwrap_or_else(no_answer)
    }

    async fn report(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in Self::watched() {
            self.health.set_service_status(name, status).await;
        }
    }

    /// The names of the services in health checks.
    fn watched() -> [&'static str; 5] {
        [
            "",
            UserDetailsServiceServer::<UserDetails>::NAME,
            SettingsServiceServer::<SettingsSwitches>::NAME,
            LegacyServiceServer::<LegacyCalls>::NAME,
            AdministrationServiceServer::<AdministrationLog>::NAME,
        ]
    }
}
