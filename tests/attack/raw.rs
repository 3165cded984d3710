//! Clients that misuse the protocols: raw gRPC streams and raw sockets.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

/// Backoff of an attacker whose connection was closed.
const RETURN: Duration = Duration::from_secs(1);
/// Timeout for a response of a program under a single attack.
pub const ANSWER: Duration = Duration::from_secs(10);

/// Connects from one of 16 loopback addresses, with a small receive buffer.
pub async fn connect(to: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(number % 16).unwrap_or_default();
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1 + last)), 0))?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(to).await
}

/// Runs `count` attackers for a time. An attacker whose connection ends comes back.
pub async fn swarm<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    count: usize,
    length: Duration,
    attack: impl Fn(usize) -> F + Clone + Send + 'static,
) {
    let end = Instant::now() + length;
    let mut attackers = JoinSet::new();
    for number in 0..count {
        let attack = attack.clone();
        attackers.spawn(timeout_at(end, async move {
            loop {
                let _ = attack(number).await;
                sleep(RETURN).await;
            }
        }));
    }
    while let Some(ended) = attackers.join_next().await {
        // A task that panics would be an attack that did not happen.
        let _: Result<(), _> = ended.unwrap();
    }
}

/// Opens an HTTP/2 connection. `window` is the initial window of each stream, in bytes.
pub async fn http2(
    to: SocketAddr,
    number: usize,
    window: u32,
) -> std::io::Result<SendRequest<Bytes>> {
    let stream = connect(to, number).await?;
    stream.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).enable_push(false);
    let handshake = builder.handshake(stream).await;
    let (requests, connection) = handshake.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    requests.ready().await.map_err(std::io::Error::other)
}

/// The request head of a call.
pub fn head(method: &str, encoding: Option<&str>, token: Option<&str>) -> Request<()> {
    let path = format!("http://x/m4.userdetails.v1.UserDetailsService/{method}");
    let mut request = Request::post(path);
    request = request.header("content-type", "application/grpc").header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(()).unwrap()
}

/// A message with its gRPC prefix, which may announce more bytes than `bytes` has.
pub fn message(is_compressed: bool, announced: usize, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(5 + bytes.len());
    message.put_u8(is_compressed.into());
    message.put_u32(u32::try_from(announced).unwrap());
    message.put_slice(bytes);
    message.freeze()
}

/// The gRPC status from the head or the trailers of a response, which must arrive in time.
pub async fn status(answer: ResponseFuture, longest: Duration) -> Result<i32, h2::Error> {
    let read = async {
        let (head, mut body) = answer.await?.into_parts();
        if let Some(status) = status_in(&head.headers) {
            return Ok(status);
        }
        while let Some(bytes) = body.data().await {
            let length = bytes?.len();
            body.flow_control().release_capacity(length)?;
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        Ok(status_in(&trailers).expect("an answer has a status"))
    };
    timeout(longest, read).await.expect("an answer comes in time")
}

fn status_in(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Makes one call on a connection and returns its status.
pub async fn call(
    requests: &SendRequest<Bytes>,
    head: Request<()>,
    message: Bytes,
    longest: Duration,
) -> Result<i32, h2::Error> {
    let mut requests = requests.clone().ready().await?;
    let (answer, mut body) = requests.send_request(head, false)?;
    // The server may answer before it reads the message.
    let _ = body.send_data(message, true);
    status(answer, longest).await
}
