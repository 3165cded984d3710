//! The composition root: builds the parts, runs them, and stops them in order.

mod budgets;
mod configured;

mod drain;
mod environment;
mod error;
mod legacy_clients;
mod listeners;
mod prepare;
mod sweep;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    drain::{drain, finish, flatten},
    legacy_clients::{BlockWrites, ClientCounts},
    prepare::prepare,
    sweep::Sweep,
};
pub use self::{environment::Environment, error::RunError};
pub use crate::domain::hash::DEMO_KEY;
use crate::{
    budget::MemoryBudget,
    config::{Config, SecretFile, Upstream},
    domain::{
        hash::SecretKeys, legacy_access::ClientKeys, service::Service, token_cache::TokenCache,
        watch::WatchBudget,
    },
    gateway::{self, Readiness},
    grpc::{call::CallOptions, services::Services},
    jwt::Jwts,
    server::Listener,
    storage::SqlStore,
    tls::{ClientTls, Reloading},
    upstream,
};

/// The byte budget of requests to the admin listener.
pub(crate) const ADMIN_MEMORY: usize = 4 * 1024 * 1024;

/// The service with its gateway, or a standalone gateway. Its listeners are bound.
pub struct Application {
    http: (Listener, axum::Router),
    /// Metrics and probes; `None` if disabled.
    admin: Option<(Listener, axum::Router)>,
    readiness: Arc<Readiness>,
    /// The byte budget of messages and bodies.
    budget: Arc<MemoryBudget>,
    core: Option<Core>,
    /// TLS to the upstream of a standalone gateway.
    upstream: Option<ClientTls>,
    secrets: Vec<Reloading<SecretFile>>,
    drain: Duration,
    /// Cancelled to stop every part.
    ending: CancellationToken,
}

/// The parts that a standalone gateway lacks.
struct Core {
    listener: Listener,
    services: Services,
    store: SqlStore,
    jwts: Option<Arc<Jwts>>,
    demo: bool,
    sweep: Sweep,
    clients: ClientCounts,
    blocks: BlockWrites,
}

impl Application {
    /// Builds the service with gRPC and HTTP. `demo` loads the demo data.
    ///
    /// # Errors
    /// [`RunError::Configuration`], [`RunError::Listen`], [`RunError::Database`].
    pub async fn service(
        config: &Config,
        demo: bool,
        environment: Environment,
    ) -> Result<Self, RunError> {
        let Environment { clock, sweep_interval, clients_interval, jwks_min_interval } =
            environment;
        let mut authentication = config
            .authentication(demo)
            .map_err(|error| RunError::Configuration(error.to_string()))?;
        if authentication.open {
            if config.insecure {
                tracing::warn!(
                    "authentication is off on {} (--insecure): every caller has all rights",
                    config.grpc_listen
                );
            } else {
                tracing::info!(
                    "demo data on a loopback address: authentication is off until the first token is created"
                );
            }
        }
        configured::warn_of_short_secrets(&config.short_secrets());
        let store = SqlStore::new(config.database.clone())?;
        let keys = if demo && config.keys.is_empty() {
            SecretKeys::new([DEMO_KEY.into()])
        } else {
            config.keys.clone()
        };
        let shared = Arc::new(store.clone());
        let token_cache = TokenCache::new(Arc::clone(&shared) as _, Arc::clone(&clock));
        authentication.token_cache = Some(Arc::new(token_cache));
        let mut jwts = None;
        if let Some(provider) = &config.jwt {
            let read = Jwts::new(provider, jwks_min_interval).await;
            jwts = Some(read.map_err(RunError::Configuration)?);
        }
        authentication.jwts.clone_from(&jwts);
        let client_keys =
            ClientKeys { store: Arc::clone(&shared) as _, masters: config.master_keys.clone() };
        let service = Service::new(Arc::clone(&shared) as _, Arc::clone(&clock), keys);
        let service = service.with_settings_ttl(config.settings_age).with_client_keys(client_keys);
        let service = Arc::new(service.with_blocks(shared));
        let clients = ClientCounts {
            clients: Arc::clone(&service.clients),
            store: store.clone(),
            clock: Arc::clone(&clock),
            interval: clients_interval,
        };
        let blocks = BlockWrites(Arc::clone(&service));
        let ending = CancellationToken::new();
        let options = CallOptions {
            deadline: config.limits.deadline,
            heartbeat: config.heartbeat,
            largest_body: config.limits.body,
            largest_message: config.message_limit,
            max_calls: config.database.max_in_flight,
            message_memory: config.message_memory,
            stop: ending.clone(),
        };
        let services =
            Services::new(service, authentication, options).await.map_err(RunError::Failed)?;
        let limits = listeners::limits(config, 2);
        let budget = services.budget();
        let listener = listeners::grpc(config, limits)?;
        let http = listeners::http(config, limits)?;
        let door = configured::gateway(config, services.in_process());
        let admin = listeners::admin(config, &door)?;
        let readiness = door.readiness();
        let router = door.router();
        let keep_log = config.keep_log;
        let sweep = Sweep { store: store.clone(), clock, keep_log, interval: sweep_interval };
        let core = Some(Core { listener, services, store, jwts, demo, sweep, clients, blocks });
        let drain = config.drain;
        let http = (http, router);
        let secrets = config.secret_files.clone();
        Ok(Self { http, admin, readiness, budget, core, upstream: None, secrets, drain, ending })
    }

    /// Builds a standalone gateway for the service at `upstream`.
    ///
    /// # Errors
    /// [`RunError::Configuration`], [`RunError::Listen`].
    pub async fn door_only(config: &Config, upstream: &Upstream) -> Result<Self, RunError> {
        configured::warn_of_short_secrets(&config.short_gateway_secrets());
        let door = configured::gateway(config, upstream::channel(upstream));
        let (host, port) = upstream.address();
        let door = door.calling(host, port);
        let http = listeners::http(config, listeners::limits(config, 1))?;
        let admin = listeners::admin(config, &door)?;
        let readiness = door.readiness();
        let router = door.router();
        let (upstream, drain) = (upstream.tls.clone(), config.drain);
        let ending = CancellationToken::new();
        let budget = MemoryBudget::new(config.message_memory);
        let http = (http, router);
        let secrets = config.secret_files.clone();
        Ok(Self { http, admin, readiness, budget, core: None, upstream, secrets, drain, ending })
    }

    /// The gRPC address; `None` for a standalone gateway.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.core.as_ref().and_then(|core| core.listener.socket.local_addr().ok())
    }

    /// The readiness of the service and its gateway.
    pub(crate) fn readiness(&self) -> Arc<Readiness> {
        Arc::clone(&self.readiness)
    }

    /// The byte budget of subscriptions; `None` for a standalone gateway.
    pub fn watch_budget(&self) -> Option<Arc<WatchBudget>> {
        self.core.as_ref().map(|core| Arc::clone(core.store.watch_budget()))
    }

    /// The HTTP address.
    ///
    /// # Errors
    /// If the operating system cannot report the address.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.http.0.socket.local_addr()
    }

    /// The address of metrics and probes; `None` if disabled.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|(listener, _)| listener.socket.local_addr().ok())
    }

    /// Serves until `stop` is cancelled, then drains running calls within the drain deadline.
    ///
    /// # Errors
    /// [`RunError::Database`], [`RunError::Failed`], [`RunError::NotDrained`].
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let mut parts = JoinSet::new();
        budgets::observe(&self.budget, self.core.as_ref().map(|core| core.store.watch_budget()));
        let (listener, router) = self.http;
        let budget = self.budget;
        let ending = self.ending;
        let calls = TaskTracker::new();
        let grpc_tls = self.core.as_ref().and_then(|core| core.listener.tls.as_ref());
        for tls in [&listener.tls, &grpc_tls.cloned()].into_iter().flatten() {
            parts.spawn(tls.clone().follow(ending.clone()).map(Ok));
        }
        for file in self.secrets {
            parts.spawn(file.follow(ending.clone()).map(Ok));
        }
        if let Some(tls) = self.upstream {
            parts.spawn(tls.follow(ending.clone()).map(Ok));
        }
        let http = gateway::serve::serve(listener, router, budget, ending.clone(), calls.clone());
        parts.spawn(http.map(Ok));
        if let Some((listener, router)) = self.admin {
            let (ends, calls) = (ending.clone(), calls.clone());
            // A separate budget keeps probes working when messages exhaust theirs.
            let budget = MemoryBudget::new(ADMIN_MEMORY);
            parts.spawn(gateway::serve::serve(listener, router, budget, ends, calls).map(Ok));
        }
        let mut rest = None;
        if let Some(core) = self.core {
            let (services, ends, calls) = (core.services, ending.clone(), calls.clone());
            parts.spawn(services.clone().watch_health(ending.clone()).map(Ok));
            parts.spawn(services.serve(core.listener, ends, calls).map(Ok));
            if let Some(jwts) = core.jwts {
                let ends = ending.clone();
                parts.spawn(async move {
                    jwts.keep(ends).await;
                    Ok(())
                });
            }
            parts.spawn(prepare(core.store.clone(), core.demo, ending.clone()));
            parts.spawn(core.sweep.run(ending.clone()).map(Ok));
            parts.spawn(core.clients.clone().run(ending.clone()).map(Ok));
            parts.spawn(core.blocks.clone().run(ending.clone()).map(Ok));
            parts.spawn(core.store.clone().measure(ending.clone()).map(Ok));
            rest = Some((core.store, core.clients, core.blocks));
        }
        let mut outcome = Ok(());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = parts.join_next() => {
                    outcome = flatten(ended);
                    if outcome.is_err() {
                        break;
                    }
                }
            }
        }
        tracing::info!("stopping");
        ending.cancel();
        calls.close();
        let deadline = Instant::now() + self.drain;
        // Reserve a tenth of the time for the storage.
        let drained = timeout(self.drain * 9 / 10, drain(&mut parts, &calls)).await;
        if drained.is_err() {
            let calls = calls.len();
            tracing::warn!(calls, "connections were cut off at the drain deadline");
        }
        // Slow clients do not make the stop fail. Unfinished updates do: see `NotDrained`.
        outcome = outcome.and(drained.unwrap_or(Ok(())));
        // Closes the remaining connections.
        parts.shutdown().await;
        if let Some((store, clients, blocks)) = rest {
            outcome = outcome.and(finish(store, &clients, &blocks, deadline).await);
        }
        outcome
    }
}
