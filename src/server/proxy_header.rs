//! The header of the PROXY protocol, versions 1 and 2, in which a proxy tells the address of its
//! client: <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.

use std::{io, net::SocketAddr};

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The bytes before the addresses of version 2.
const V2_START: usize = 16;
/// The maximum size of a header of version 1, by the specification.
const V1_MAX: usize = 107;
/// The maximum size of a header of version 2: the addresses and the proxy's own values.
const V2_MAX: usize = 4096;

/// Reads the header at the beginning of a connection from `peer`, and no byte after it. Returns the
/// client's address: `peer` if the proxy speaks for itself or does not tell.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`], and the errors of the connection.
pub(super) async fn read(
    connection: &mut (impl AsyncRead + Unpin),
    peer: SocketAddr,
) -> io::Result<SocketAddr> {
    let mut header = vec![0; v2::PROTOCOL_PREFIX.len()];
    connection.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(V2_START, 0);
        connection.read_exact(&mut header[v2::PROTOCOL_PREFIX.len()..]).await?;
        let rest = usize::from(u16::from_be_bytes([header[V2_START - 2], header[V2_START - 1]]));
        if V2_START + rest > V2_MAX {
            return Err(invalid());
        }
        header.resize(V2_START + rest, 0);
        connection.read_exact(&mut header[V2_START..]).await?;
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        while !header.ends_with(b"\r\n") {
            if header.len() == V1_MAX {
                return Err(invalid());
            }
            header.push(connection.read_u8().await?);
        }
    } else {
        return Err(invalid());
    }
    Ok(match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(v1::Header { addresses, .. })) => match addresses {
            v1::Addresses::Tcp4(own) => (own.source_address, own.source_port).into(),
            v1::Addresses::Tcp6(own) => (own.source_address, own.source_port).into(),
            v1::Addresses::Unknown => peer,
        },
        HeaderResult::V2(Ok(v2::Header { command: v2::Command::Local, .. })) => peer,
        HeaderResult::V2(Ok(v2::Header { addresses, .. })) => match addresses {
            v2::Addresses::IPv4(own) => (own.source_address, own.source_port).into(),
            v2::Addresses::IPv6(own) => (own.source_address, own.source_port).into(),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => peer,
        },
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => return Err(invalid()),
    })
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the PROXY header is missing or invalid")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n";
    const PEER: &str = "10.0.0.1:5000";

    /// The client's address and the bytes after the header.
    async fn read_from(header: &[u8]) -> io::Result<(String, Vec<u8>)> {
        let sent = [header, REQUEST].concat();
        let mut connection = sent.as_slice();
        let client = read(&mut connection, PEER.parse().unwrap()).await?;
        Ok((client.to_string(), connection.to_vec()))
    }

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, addresses].concat()
    }

    #[tokio::test]
    async fn both_versions_tell_the_client() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let v6 =
            [&[0x20, 1, 0xd, 0xb8], &[0; 11][..], &[7], &[0; 16], &[0x12, 0x34, 0, 80]].concat();
        // A value of type NOOP with two bytes.
        let v4_and_more = [&v4[..], &[4, 0, 2, 9, 9]].concat();
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(), "192.0.2.1:4660"),
            (b"PROXY TCP6 2001:db8::7 ::1 4660 80\r\n".to_vec(), "[2001:db8::7]:4660"),
            (b"PROXY UNKNOWN\r\n".to_vec(), PEER),
            (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), PEER),
            (v2(1, 0x11, &v4), "192.0.2.1:4660"),
            (v2(1, 0x11, &v4_and_more), "192.0.2.1:4660"),
            (v2(1, 0x21, &v6), "[2001:db8::7]:4660"),
            (v2(1, 0, &[]), PEER),
            (v2(1, 0x31, &[b'x'; 216]), PEER),
            // A proxy's own health check.
            (v2(0, 0, &[]), PEER),
            (v2(0, 0x11, &v4), PEER),
        ] {
            let (address, rest) = read_from(&header).await.unwrap();
            assert_eq!((&*address, &*rest), (client, REQUEST), "{header:?}");
        }
    }

    #[tokio::test]
    async fn other_beginnings_are_refused() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat();
        for header in [
            b"".as_slice(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660\r\n",
            b"PROXY TCP4 192.0.2.300 10.0.0.1 4660 80\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 4660 80\r\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 4660 80\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\n\r\n\r\n",
            &long,
            &v2(1, 0x11, &[192, 0, 2, 1]),
            &v2(1, 0x11, &[0; V2_MAX]),
            &v2(2, 0x11, &[0; 12]),
        ] {
            let refused = read_from(header).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{header:?}");
        }
        let cut = read(&mut &b"PROXY TCP4 192"[..], PEER.parse().unwrap()).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
