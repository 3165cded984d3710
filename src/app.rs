//! The composition root: puts the parts together, runs them, and ends them in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chrono::TimeDelta;
use futures_util::FutureExt;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin,
    config::{Config, Upstream},
    domain::{
        clock::{Clock, SystemClock},
        error::{Cause, chain},
        hash::SecretKeys,
        holders::Holders,
        service::Service,
    },
    grpc::{call::CallOptions, server::Services},
    jwt::Jwts,
    legacy::{self, Door},
    listen::{self, Age},
    proto::Channel,
    storage::{OpenError, SqlStore},
    tls::{ClientTls, ServerTls},
    upstream,
};

/// The secret key of the demo data.
pub const DEMO_KEY: &str = "secret";

/// How long the database rests after it could not be prepared.
const PREPARE_REST: Duration = Duration::from_secs(1);
/// How often what is kept no longer is deleted.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How long the database may take to let its connections go.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// How long connections may take to end after the last answer.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why the program cannot be run, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}: choose another address with {key}, or port 0 for a free port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The environment variable that sets it.
        key: &'static str,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// A part of the program failed.
    #[error("a part of the program failed")]
    Failed(#[source] Cause),
    /// Calls were still under way at the drain deadline.
    #[error("calls were still under way at the drain deadline")]
    NotDrained,
}

/// The service with both doors, or a door of its own; its listeners are bound.
pub struct Application {
    http: (TcpListener, axum::Router),
    /// What operators look at, unless it is switched off.
    admin: Option<(TcpListener, axum::Router)>,
    core: Option<Core>,
    tls: Tls,
    drain: Duration,
    /// Tells every part to end.
    ending: CancellationToken,
}

/// TLS, where it is spoken; its files are followed.
struct Tls {
    http: Option<ServerTls>,
    grpc: Option<ServerTls>,
    upstream: Option<ClientTls>,
}

/// What a door of its own does not have.
struct Core {
    listener: TcpListener,
    services: Services,
    store: SqlStore,
    jwts: Option<Arc<Jwts>>,
    demo: bool,
    keep_log: Option<TimeDelta>,
    age: Age,
}

impl Application {
    /// The service with both doors; with `demo`, on the demo data.
    ///
    /// # Errors
    /// [`RunError::Configuration`], [`RunError::Listen`], [`RunError::Database`].
    pub async fn service(config: &Config, demo: bool) -> Result<Self, RunError> {
        let mut authentication = config
            .authentication(demo)
            .map_err(|error| RunError::Configuration(error.to_string()))?;
        if authentication.open {
            if config.insecure {
                tracing::warn!(
                    "anybody who reaches {} may do everything: --insecure",
                    config.grpc_listen
                );
            } else {
                tracing::info!(
                    "callers on this machine need no token while there is none: demo data on a loopback address"
                );
            }
        }
        let store = SqlStore::new(config.database.clone())?;
        let keys = if demo && config.keys.is_empty() {
            SecretKeys::new([DEMO_KEY.into()])
        } else {
            config.keys.clone()
        };
        let shared = Arc::new(store.clone());
        let holders = Holders::new(Arc::clone(&shared) as _, Arc::new(SystemClock));
        authentication.holders = Some(Arc::new(holders));
        let mut jwts = None;
        if let Some(provider) = &config.jwt {
            jwts = Some(Jwts::new(provider).await.map_err(RunError::Configuration)?);
        }
        authentication.jwts.clone_from(&jwts);
        let service = Service::new(shared, Arc::new(SystemClock), keys);
        let service = service.believing_settings(config.settings_age).keeping_log(config.keep_log);
        let service = Arc::new(service);
        let ending = CancellationToken::new();
        let options = CallOptions {
            deadline: config.limits.deadline,
            heartbeat: config.heartbeat,
            largest_body: config.limits.body,
            largest_message: config.message_limit,
            stop: ending.clone(),
        };
        let services =
            Services::new(service, authentication, options).await.map_err(RunError::Failed)?;
        let listener = bind(config.grpc_listen, "M4_GRPC_LISTEN")?;
        let http = bind(config.http_listen, "M4_HTTP_LISTEN")?;
        let door = door(config, services.in_process())?;
        let admin = listen_admin(config, &door)?;
        let router = door.router();
        let keep_log = config.keep_log;
        let age = config.age;
        let core = Some(Core { listener, services, store, jwts, demo, keep_log, age });
        let tls =
            Tls { http: config.http_tls.clone(), grpc: config.grpc_tls.clone(), upstream: None };
        Ok(Self { http: (http, router), admin, core, tls, drain: config.drain, ending })
    }

    /// A door of its own, to the service at `upstream`.
    ///
    /// # Errors
    /// [`RunError::Configuration`], [`RunError::Listen`].
    pub async fn door_only(config: &Config, upstream: &Upstream) -> Result<Self, RunError> {
        let door = door(config, upstream::channel(upstream))?;
        let (host, port) = upstream.address();
        let door = door.calling(host, port);
        let http = bind(config.http_listen, "M4_HTTP_LISTEN")?;
        let admin = listen_admin(config, &door)?;
        let router = door.router();
        let tls = Tls { http: config.http_tls.clone(), grpc: None, upstream: upstream.tls.clone() };
        let ending = CancellationToken::new();
        Ok(Self { http: (http, router), admin, core: None, tls, drain: config.drain, ending })
    }

    /// Where gRPC is served; none for a door of its own.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.core.as_ref().and_then(|core| core.listener.local_addr().ok())
    }

    /// Where HTTP is served.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.http.0.local_addr()
    }

    /// Where metrics are; none where that is switched off.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Answers calls until `stop`, then finishes those under way within the drain deadline.
    ///
    /// # Errors
    /// [`RunError::Database`], [`RunError::Failed`], [`RunError::NotDrained`].
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let mut parts = JoinSet::new();
        let (listener, router) = self.http;
        let ending = self.ending;
        let calls = TaskTracker::new();
        let Tls { http: http_tls, grpc: grpc_tls, upstream } = self.tls;
        for tls in [&http_tls, &grpc_tls].into_iter().flatten() {
            parts.spawn(tls.clone().follow(ending.clone()).map(Ok));
        }
        if let Some(tls) = upstream {
            parts.spawn(tls.follow(ending.clone()).map(Ok));
        }
        let http = legacy::server::serve(listener, http_tls, router, ending.clone(), calls.clone());
        parts.spawn(http.map(Ok));
        if let Some((listener, router)) = self.admin {
            let (ends, calls) = (ending.clone(), calls.clone());
            let admin = legacy::server::serve(listener, None, router, ends, calls);
            parts.spawn(admin.map(Ok));
        }
        let mut rest = None;
        if let Some(core) = self.core {
            let (services, ends, calls) = (core.services, ending.clone(), calls.clone());
            parts.spawn(services.clone().watch_health(ending.clone()).map(Ok));
            parts.spawn(services.serve(core.listener, grpc_tls, core.age, ends, calls).map(Ok));
            if let Some(jwts) = core.jwts {
                let ends = ending.clone();
                parts.spawn(async move {
                    jwts.keep(ends).await;
                    Ok(())
                });
            }
            parts.spawn(prepare(core.store.clone(), core.demo, ending.clone()));
            parts.spawn(sweep(core.store.clone(), core.keep_log, ending.clone()).map(Ok));
            parts.spawn(core.store.clone().measure(ending.clone()).map(Ok));
            rest = Some(core.store);
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
        let drained = timeout(self.drain, async {
            let ended = async {
                while let Some(ended) = parts.join_next().await {
                    flatten(ended)?;
                }
                Ok::<_, RunError>(())
            };
            // A connection without a call does not end by itself if its client says nothing.
            let answered = async {
                loop {
                    calls.wait().await;
                    tokio::time::sleep(LAST_WORDS).await;
                    // One may have come before its client was told.
                    if calls.is_empty() {
                        break;
                    }
                }
            };
            tokio::select! {
                ended = ended => ended?,
                () = answered => {}
            }
            if let Some(store) = rest {
                store.finish().await;
                // One that says nothing any more does not take leave either.
                let _ = timeout(CLOSE_PATIENCE, store.close()).await;
            }
            Ok(())
        });
        outcome.and(drained.await.unwrap_or(Err(RunError::NotDrained)))
    }
}

fn flatten(ended: Result<Result<(), RunError>, tokio::task::JoinError>) -> Result<(), RunError> {
    ended.map_err(|panicked| RunError::Failed(panicked.into()))?
}

/// Prepares the database, as often as it takes while it does not answer.
async fn prepare(store: SqlStore, demo: bool, stop: CancellationToken) -> Result<(), RunError> {
    loop {
        let prepared = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            prepared = store.prepare(demo) => prepared,
        };
        match prepared {
            Ok(()) => {
                let durability = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    durability = store.durability() => durability,
                };
                if let Ok(settings) = durability {
                    tracing::info!(engine = ?store.engine(), durability = ?settings, "the database is prepared");
                }
                return Ok(());
            }
            Err(error @ OpenError::Prepare(_)) => {
                tracing::error!(error = chain(&error), "trying again");
            }
            Err(error @ (OpenError::Url | OpenError::NotDemo)) => return Err(error.into()),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PREPARE_REST) => {}
        }
    }
}

/// Has the storage delete what is kept no longer, every now and then until `stop`.
async fn sweep(store: SqlStore, keep_log: Option<TimeDelta>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
        }
        let swept = tokio::select! {
            () = stop.cancelled() => return,
            swept = store.sweep(SystemClock.now(), keep_log) => swept,
        };
        if let Err(error) = swept {
            tracing::warn!(error = chain(&error), "what is old could not be deleted");
        }
    }
}

fn door(config: &Config, channel: Channel) -> Result<Door, RunError> {
    let secured = config.http_tls.is_some();
    Door::new(channel, config.door_token.as_ref(), config.answers, config.limits)
        .map(|door| door.secured(secured))
        .map_err(|_| RunError::Configuration("door.token cannot stand in a header".to_owned()))
}

/// What operators look at, with the door's probes, unless it is switched off.
fn listen_admin(
    config: &Config,
    door: &Door,
) -> Result<Option<(TcpListener, axum::Router)>, RunError> {
    let Some(address) = config.admin_listen else { return Ok(None) };
    let listener = bind(address, "M4_ADMIN_LISTEN")?;
    Ok(Some((listener, admin::router(door.probes()))))
}

fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, RunError> {
    listen::bind(address).map_err(|error| RunError::Listen { address, key, error })
}
