//! A relay of TCP between two processes, that can be stalled and cut.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What a relay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Passes bytes on.
    Open,
    /// Keeps connections and what they send, and passes nothing on: a network that swallows packets.
    Stalled,
    /// Breaks connections, and new ones as soon as they are there.
    Cut,
}

/// A relay; it ends with the test.
pub struct Relay {
    pub address: SocketAddr,
    line: watch::Sender<Line>,
}

impl Relay {
    /// Relays to `target`, such as `127.0.0.1:5432`.
    pub async fn to(target: impl ToString, line: Line) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, line) = watch::channel(line);
        let target = target.to_string();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (mut cut, line, target) = (line.clone(), line.clone(), target.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = async { cut.wait_for(|line| *line == Line::Cut).await.map(drop) } => {}
                        () = relay(near, &target, line) => {}
                    }
                });
            }
        });
        Self { address, line: sender }
    }

    /// Relays to the server of a database; with it, the database's URL through the relay.
    pub async fn to_database(url: &str, line: Line) -> (Self, String) {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_once('/').unwrap();
        let (user, server) = authority.rsplit_once('@').unwrap();
        let relay = Self::to(server, line).await;
        let url = format!("{scheme}://{user}@{}/{path}", relay.address);
        (relay, url)
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn relay(near: TcpStream, target: &str, line: watch::Receiver<Line>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = copy(near_read, far_write, line.clone()) => {}
        () = copy(far_read, near_write, line) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut line: watch::Receiver<Line>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let passes = line.wait_for(|line| *line == Line::Open).await.is_ok();
        if !passes || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
