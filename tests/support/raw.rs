//! HTTP/1 over a plain socket, for requests that no client library would send.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Timeout for a connection to end.
const DEADLINE: Duration = Duration::from_secs(30);

/// Sends bytes, closes the sending side, and reads until the server closes the connection.
pub async fn exchange_and_close(address: SocketAddr, request: &[u8]) -> String {
    exchange_on(address, request, true).await
}

/// Sends bytes and reads until the server closes the connection.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    exchange_on(address, request, false).await
}

async fn exchange_on(address: SocketAddr, request: &[u8], closes: bool) -> String {
    let exchanged = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let mut answer = Vec::new();
        let write = async {
            // The server may refuse the request before it is complete.
            let _ = writing.write_all(request).await;
            if closes {
                let _ = writing.shutdown().await;
            }
        };
        let (read, ()) = tokio::join!(reading.read_to_end(&mut answer), write);
        read.unwrap();
        String::from_utf8(answer).unwrap()
    };
    timeout(DEADLINE, exchanged).await.expect("the server closes the connection")
}
