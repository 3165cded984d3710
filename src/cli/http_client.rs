//! One HTTP request, for the demo and the health check.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};
use tokio_util::either::Either;

use super::error::CliError;

/// Timeout of the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a request without a body, over TLS if given, and reads the response. The connection begins with
/// `proxy_header`, a header of the PROXY protocol, or nothing.
pub(super) async fn send(
    address: SocketAddr,
    tls: Option<ClientConfig>,
    proxy_header: &[u8],
    (method, target): (Method, &str),
) -> Result<(StatusCode, String), CliError> {
    let failed = |error: &dyn std::error::Error| CliError::Failed(format!("{address}: {error}"));
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        stream.write_all(proxy_header).await.map_err(|error| failed(&error))?;
        let stream = match tls {
            None => Either::Left(stream),
            Some(tls) => {
                let connector = TlsConnector::from(Arc::new(tls));
                let secured = connector.connect(address.ip().into(), stream).await;
                Either::Right(secured.map_err(|error| failed(&error))?)
            }
        };
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(http::header::HOST, address.to_string())
            .body(Empty::<bytes::Bytes>::new())
            .map_err(|error| failed(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| failed(&error))?;
        connection.abort();
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    let patience = tokio::time::timeout(REQUEST_TIMEOUT, exchange).await;
    patience.unwrap_or_else(|_| Err(CliError::Failed(format!("{address} does not answer"))))
}
