use std::{convert::Infallible, future::Future};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
};

use super::{super::MakesRoom, *};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Longer than any test takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An HTTP/1 listener. Each response needs a permit of `responses`.
struct Server {
    address: SocketAddr,
    /// One permit per received request.
    requests: Arc<Semaphore>,
    responses: Arc<Semaphore>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

fn limits(max: usize) -> ConnectionLimits {
    let age =
        Age { longest: Duration::ZERO, grace: Duration::from_millis(50), keepalive: Duration::MAX };
    let linger = Duration::from_millis(50);
    let timeouts = Timeouts { linger, ..Timeouts::default() };
    let makes_room = MakesRoom::LongestWaiting;
    ConnectionLimits { max, max_per_address: 0, makes_room, age, timeouts }
}

impl Server {
    async fn start(limits: ConnectionLimits) -> Self {
        Self::behind(Proxies::default(), limits).await
    }

    async fn behind(proxies: Proxies, limits: ConnectionLimits) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let [requests, responses] = [(); 2].map(|()| Arc::new(Semaphore::new(0)));
        let stop = CancellationToken::new();
        let listener = Listener { name: "test", socket, tls: None, limits, proxies };
        let permits = [Arc::clone(&requests), Arc::clone(&responses)];
        let protocol = move |stream: TokioIo<Stream>, _: Peer, activity: Arc<Activity>| {
            let permits = permits.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let (request, call) = activity.call(request, false);
                let [requests, responses] = permits.clone();
                async move {
                    let _ = request.into_body().collect().await;
                    requests.add_permits(1);
                    responses.acquire().await.unwrap().forget();
                    let response = Response::new(Full::new(Bytes::from_static(b"done")));
                    Ok::<_, Infallible>(call.answered(response))
                }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(TIMEOUT);
            http.serve_connection(stream, service)
        };
        let serving = tokio::spawn(serve(listener, stop.clone(), protocol));
        Self { address, requests, responses, stop, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request and waits until the server has received it.
    async fn call(&self, client: &mut TcpStream) {
        client.write_all(REQUEST).await.unwrap();
        within(self.requests.acquire()).await.unwrap().forget();
    }

    /// A connection after its first response.
    async fn used(&self) -> TcpStream {
        let mut client = self.connect().await;
        self.call(&mut client).await;
        self.responses.add_permits(1);
        assert!(read_response(&mut client).await);
        client
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, future).await.expect("it takes too long")
}

/// Whether a response comes before the connection's end.
async fn read_response(client: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    while !read.ends_with(b"done") {
        match within(client.read_u8()).await {
            Ok(byte) => read.push(byte),
            Err(_) => return false,
        }
    }
    true
}

async fn is_closed(client: &mut TcpStream) -> bool {
    !matches!(within(client.read(&mut [0])).await, Ok(1..))
}

#[tokio::test]
async fn idle_connections_and_incomplete_heads_make_room() {
    let server = Server::start(limits(2)).await;
    let mut kept_alive = server.used().await;
    let mut slow = server.used().await;
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut third = server.used().await;
    assert!(is_closed(&mut kept_alive).await);
    let _fourth = server.used().await;
    assert!(is_closed(&mut slow).await);
    // The other connections continue.
    server.responses.add_permits(1);
    third.write_all(REQUEST).await.unwrap();
    assert!(read_response(&mut third).await);
}

#[tokio::test]
async fn a_call_under_way_keeps_its_connection_and_a_new_one_is_closed() {
    let server = Server::start(limits(1)).await;
    let mut active = server.used().await;
    server.call(&mut active).await;
    assert!(is_closed(&mut server.connect().await).await);
    server.responses.add_permits(1);
    assert!(read_response(&mut active).await);
    // The active connection is idle now.
    let _new = server.used().await;
    assert!(is_closed(&mut active).await);
}

#[tokio::test]
async fn an_old_connection_ends_and_its_call_has_the_grace_period() {
    let mut limits = limits(8);
    limits.age.longest = Duration::from_secs(1);
    limits.age.grace = TIMEOUT;
    let server = Server::start(limits).await;
    let mut idle = server.used().await;
    let mut active = server.used().await;
    server.call(&mut active).await;
    assert!(is_closed(&mut idle).await);
    server.responses.add_permits(1);
    assert!(read_response(&mut active).await);
    assert!(is_closed(&mut active).await);
}

#[tokio::test]
async fn a_stop_waits_for_calls_until_the_listener_is_dropped() {
    let server = Server::start(limits(8)).await;
    let [mut idle, mut first, mut second] =
        [server.used().await, server.used().await, server.used().await];
    server.call(&mut first).await;
    server.call(&mut second).await;
    server.stop.cancel();
    assert!(is_closed(&mut idle).await);
    // A semaphore is fair: the first call gets the permit.
    server.responses.add_permits(1);
    assert!(read_response(&mut first).await);
    server.serving.abort();
    assert!(is_closed(&mut second).await);
}

#[tokio::test]
async fn a_client_that_pipelines_and_does_not_read_is_closed() {
    let mut limits = limits(8);
    limits.timeouts.write = Duration::from_millis(50);
    let server = Server::start(limits).await;
    server.responses.add_permits(Semaphore::MAX_PERMITS / 2);
    let mut client = server.connect().await;
    let requests = REQUEST.repeat(1000);
    // Fails as soon as the service has closed the connection.
    let sending = async { while client.write_all(&requests).await.is_ok() {} };
    within(sending).await;
}

#[tokio::test]
async fn a_connection_begins_with_its_proxy_header() {
    let proxies = |trusted: &str| Proxies { trusted: trusted.parse().unwrap(), write_header: true };
    let mut short = limits(8);
    short.timeouts.head = Duration::from_millis(50);
    for (trusted, header, is_served) in [
        ("", "PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n", true),
        ("127.0.0.0/8", "PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n", true),
        ("10.0.0.0/8", "PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n", false),
        ("", "", false),
        // The header does not end in time.
        ("", "PROXY TCP4 ", false),
    ] {
        let server = Server::behind(proxies(trusted), short).await;
        server.responses.add_permits(1);
        let mut client = server.connect().await;
        client.write_all(header.as_bytes()).await.unwrap();
        if header.is_empty() || header.ends_with('\n') {
            // Fails if the service has closed the connection.
            let _ = client.write_all(REQUEST).await;
        }
        assert_eq!(read_response(&mut client).await, is_served, "{trusted:?} {header:?}");
    }
}
