//! A TCP relay between two processes, which can be stalled and cut.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The state of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Forwards bytes.
    Open,
    /// Keeps connections and their data, and forwards nothing: a network that drops packets.
    Stalled,
    /// Breaks connections, and new connections as soon as they open.
    Cut,
}

/// A relay that ends with the test.
pub struct Relay {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    line: watch::Sender<Line>,
    lost: watch::Sender<usize>,
    answers: Arc<AtomicUsize>,
}

impl Relay {
    /// Relays to `target`, such as `127.0.0.1:5432`.
    pub async fn to(target: impl ToString, line: Line) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, line) = watch::channel(line);
        let (lost_sender, lost) = watch::channel(0);
        let target = target.to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let answers = Arc::new(AtomicUsize::new(usize::MAX));
        let room = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::Relaxed);
                let lost = Lost { lost: lost.clone(), number };
                let (mut cut, line, target) = (line.clone(), line.clone(), target.clone());
                let room = Arc::clone(&room);
                tokio::spawn(async move {
                    tokio::select! {
                        _ = async { cut.wait_for(|line| *line == Line::Cut).await.map(drop) } => {}
                        () = relay(near, &target, line, lost, &room) => {}
                    }
                });
            }
        });
        Self { address, connections, line: sender, lost: lost_sender, answers }
    }

    /// The number of accepted connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Relays to a database server. Also returns the database URL through the relay.
    pub async fn to_database(url: &str, line: Line) -> (Self, String) {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_once('/').unwrap();
        let (user, server) = authority.rsplit_once('@').unwrap();
        let relay = Self::to(server, line).await;
        let url = format!("{scheme}://{user}@{}/{path}", relay.address);
        (relay, url)
    }

    /// Loses every existing connection: drops its data from now on, and closes none. New
    /// connections pass.
    pub fn lose_connections(&self) {
        self.lost.send_replace(self.connections());
    }

    /// Forwards this many more bytes from the target, then breaks the connection.
    pub fn break_after(&self, bytes: usize) {
        self.answers.store(bytes, Ordering::SeqCst);
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

/// Whether a connection is lost.
#[derive(Clone)]
struct Lost {
    /// The number of lost connections: the first ones.
    lost: watch::Receiver<usize>,
    number: usize,
}

impl Lost {
    fn is_lost(&self) -> bool {
        self.number < *self.lost.borrow()
    }
}

async fn relay(
    near: TcpStream,
    target: &str,
    line: watch::Receiver<Line>,
    lost: Lost,
    room: &AtomicUsize,
) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let endless = AtomicUsize::new(usize::MAX);
    let there = copy(near_read, far_write, line.clone(), lost.clone(), &endless);
    tokio::join!(there, copy(far_read, near_write, line, lost, room));
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut line: watch::Receiver<Line>,
    lost: Lost,
    room: &AtomicUsize,
) {
    let mut bytes = vec![0; 64 * 1024];
    let mut passes = true;
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        // Drain unread input: closing a socket with unread input sends RST.
        if passes {
            passes = line.wait_for(|line| *line == Line::Open).await.is_ok()
                && !lost.is_lost()
                && to.write_all(&bytes[..take(room, length)]).await.is_ok();
        }
        if room.load(Ordering::SeqCst) == 0 {
            return;
        }
    }
    if !lost.is_lost() {
        let _ = to.shutdown().await;
    }
}

/// Takes as many of `bytes` as the room allows.
fn take(room: &AtomicUsize, bytes: usize) -> usize {
    let less =
        |room: usize| Some(if room == usize::MAX { room } else { room.saturating_sub(bytes) });
    bytes.min(room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).unwrap())
}
