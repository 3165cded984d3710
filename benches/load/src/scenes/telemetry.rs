//! Telemetry compared with none: traces of one call in 100 and all metrics, exported and scraped.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{net::TcpListener, time::interval};

use super::turns::{self, Way};
use crate::{
    arguments::Arguments,
    callers::{self, Call},
    database::Database,
    measured::Figures,
    program::Program,
};

/// Number of callers.
const CALLERS: usize = 64;
/// Scrape interval.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// The results.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Telemetry {
    /// Without telemetry.
    pub(crate) off: Figures,
    /// With telemetry.
    pub(crate) on: Figures,
    /// Rate with telemetry ÷ rate without.
    pub(crate) ratio: f64,
}

/// Plays the scene. Both programs run all the time: an idle program costs almost nothing.
pub(crate) async fn play(database: &mut Database, arguments: &Arguments) -> Telemetry {
    let endpoint = format!("http://{}", sink().await);
    let without = Program::service_with(&database.url, &[("M4_ADMIN_LISTEN", "off")]).await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
        // Logs would be exported for every call.
        ("OTEL_LOGS_EXPORTER", "none"),
    ];
    let with = Program::service_with(&database.url, &variables).await;
    let admin = with.admin.expect("metrics are on");
    let ways = [
        Way {
            name: "telemetry off",
            calls: &[Call::Update(without.grpc())],
            programs: &[&without],
        },
        Way { name: "telemetry on", calls: &[Call::Update(with.grpc())], programs: &[&with] },
    ];
    let turns = tokio::select! {
        turns = turns::play(database, arguments, CALLERS, ways) => turns,
        never = scrape(admin) => never,
    };
    without.stop().await;
    with.stop().await;
    let [off, on] = turns.figures;
    Telemetry { off, on, ratio: turns.ratio }
}

/// Scrapes forever, like Prometheus.
async fn scrape(address: SocketAddr) -> ! {
    let mut ticks = interval(SCRAPE_INTERVAL);
    loop {
        ticks.tick().await;
        assert_eq!(callers::get(address, "/metrics").await, 200);
    }
}

/// Accepts and discards OTLP/HTTP exports.
async fn sink() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let forget = async |request: Request<Incoming>| {
        let _ = request.into_body().collect().await;
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(forget));
            tokio::spawn(connection);
        }
    });
    address
}
