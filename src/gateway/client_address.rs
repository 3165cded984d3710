//! The address of a client behind trusted proxies, which the proxies tell in a header.

use std::net::IpAddr;

use http::HeaderMap;

use crate::networks::Networks;

/// The header that proxies write. Both are lists: each proxy appends the address that it sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// The header that a request has. If both contradict each other, the client is unknown: a proxy
    /// that writes one header usually passes on the client's other header.
    #[default]
    Either,
    /// `Forwarded`: RFC 7239.
    Forwarded,
    /// `X-Forwarded-For`.
    XForwardedFor,
}

/// The proxies whose header is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// The addresses of the proxies.
    pub networks: Networks,
    /// The header that the proxies write.
    pub header: ForwardedHeader,
}

impl TrustedProxies {
    /// The client of a request from `peer`: the rightmost address in the header that is not a
    /// proxy's. `None` if that address is unknown or unreadable.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        if !self.networks.contains(peer) {
            return Some(peer);
        }
        let forwarded = || self.behind(peer, values(headers, "forwarded").map(forwarded_for));
        let x_forwarded_for = || self.behind(peer, values(headers, "x-forwarded-for").map(node));
        match self.header {
            ForwardedHeader::Forwarded => forwarded(),
            ForwardedHeader::XForwardedFor => x_forwarded_for(),
            ForwardedHeader::Either if !headers.contains_key("forwarded") => x_forwarded_for(),
            ForwardedHeader::Either if !headers.contains_key("x-forwarded-for") => forwarded(),
            ForwardedHeader::Either => {
                forwarded().filter(|client| x_forwarded_for() == Some(*client))
            }
        }
    }

    /// The client behind `peer`. The first address is written by `peer`.
    fn behind(
        &self,
        peer: IpAddr,
        addresses: impl Iterator<Item = Option<IpAddr>>,
    ) -> Option<IpAddr> {
        let mut client = peer;
        for address in addresses {
            client = address?;
            if !self.networks.contains(client) {
                break;
            }
        }
        Some(client)
    }
}

/// The elements of a list header from right to left. A client can write any text before what the
/// proxies append, so quotation marks must not join elements.
fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    lines.into_iter().rev().flat_map(|line| {
        let elements = line.as_bytes().rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let elements = elements.filter(|element| !element.is_empty());
        elements.map(|element| str::from_utf8(element).unwrap_or("unreadable"))
    })
}

/// The parameter `for` of an element of `Forwarded`. An element with an unclosed quotation mark is
/// part of a quoted value that a client may have chosen.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    if element.matches('"').count() % 2 == 1 || element.contains('\\') {
        return None;
    }
    let parameters = element.split(';').filter_map(|parameter| parameter.split_once('='));
    let mut nodes = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (Some((_, value)), None) = (nodes.next(), nodes.next()) else { return None };
    let quoted = value.trim();
    let quoted = quoted.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    node(quoted.unwrap_or(value.trim()))
}

/// The address of a node: an IPv4 address, or an IPv6 address with or without brackets. A port and
/// a zone may follow.
fn node(node: &str) -> Option<IpAddr> {
    let (address, port) = match node.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None if node.matches(':').count() == 1 => node.split_at(node.find(':')?),
        None => (node, ""),
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    let address: IpAddr = match address.split_once('%') {
        Some((address, _zone)) => IpAddr::V6(address.parse().ok()?),
        None => address.parse().ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn client(header: ForwardedHeader, peer: &str, lines: &[(&str, &str)]) -> String {
        let networks = "10.0.0.0/8 2001:db8:1::/48".parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        TrustedProxies { networks, header }
            .client(peer.parse().unwrap(), &headers)
            .map(|client| client.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_client() {
        for (list, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("198.51.100.1, 192.0.2.1", "192.0.2.1"),
            ("198.51.100.1,192.0.2.1, 10.9.9.9 ,10.0.0.2", "192.0.2.1"),
            ("192.0.2.1, ", "192.0.2.1"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("2001:db8::7, 2001:db8:1::9", "2001:db8::7"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
            // Only proxies: the first of them is the client.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("", PROXY),
            // What a client wrote before the proxy does not matter.
            ("\u{e9}, 192.0.2.1", "192.0.2.1"),
            ("unknown, 192.0.2.1", "192.0.2.1"),
            ("unknown", ""),
            ("192.0.2.1, unknown", ""),
            ("192.0.2.1, _hidden, 10.0.0.2", ""),
            ("192.0.2.1:port-80", ""),
            ("192.0.2.1%eth0", ""),
            ("[2001:db8::7", ""),
            ("[2001:db8::7]x", ""),
            ("192.0.2.1, 192.0.2.2, \u{e9}", ""),
        ] {
            let lines = [("x-forwarded-for", list)];
            for header in [ForwardedHeader::Either, ForwardedHeader::XForwardedFor] {
                assert_eq!(client(header, PROXY, &lines), address, "{list:?}");
            }
            assert_eq!(client(ForwardedHeader::Forwarded, PROXY, &lines), PROXY, "{list:?}");
        }
    }

    #[test]
    fn forwarded_names_the_client_in_its_parameter_for() {
        for (list, address) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=192.0.2.1;proto=https;by=10.0.0.1", "192.0.2.1"),
            ("proto=https; for=\"192.0.2.1:4711\"", "192.0.2.1"),
            ("for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=198.51.100.1, for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
            ("for=unknown", ""),
            ("for=\"_gazonk\"", ""),
            ("proto=https", ""),
            ("192.0.2.1", ""),
            ("for=192.0.2.1;for=192.0.2.1", ""),
            // The client chose the host, which the proxy quotes.
            ("for=192.0.2.1;host=\"x,for=10.0.0.5;y=z\";proto=https", ""),
            ("for=192.0.2.1;host=\"x\\\",for=10.0.0.5;y=\\\"z\"", ""),
            // A client's quotation mark must not hide what the proxy appends.
            ("for=\"198.51.100.1, for=192.0.2.1", "192.0.2.1"),
            ("for=198.51.100.1;host=\"x, for=192.0.2.1", "192.0.2.1"),
        ] {
            let lines = [("forwarded", list)];
            for header in [ForwardedHeader::Either, ForwardedHeader::Forwarded] {
                assert_eq!(client(header, PROXY, &lines), address, "{list:?}");
            }
            assert_eq!(client(ForwardedHeader::XForwardedFor, PROXY, &lines), PROXY, "{list:?}");
        }
    }

    #[test]
    fn lines_of_a_header_are_one_list() {
        let lines =
            [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "192.0.2.1,10.0.0.2")];
        assert_eq!(client(ForwardedHeader::Either, PROXY, &lines), "192.0.2.1");
    }

    #[test]
    fn a_header_from_others_is_ignored() {
        let lines = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")];
        assert_eq!(client(ForwardedHeader::Either, "203.0.113.9", &lines), "203.0.113.9");
        assert_eq!(client(ForwardedHeader::Either, "::ffff:203.0.113.9", &lines), "203.0.113.9");
        assert_eq!(client(ForwardedHeader::Either, "::ffff:10.0.0.9", &lines), "192.0.2.1");
    }

    #[test]
    fn headers_that_contradict_each_other_are_not_believed() {
        let with = |forwarded| {
            let lines = [("x-forwarded-for", "192.0.2.1"), ("forwarded", forwarded)];
            [ForwardedHeader::Either, ForwardedHeader::Forwarded, ForwardedHeader::XForwardedFor]
                .map(|header| client(header, PROXY, &lines))
        };
        assert_eq!(with("for=198.51.100.1"), ["", "198.51.100.1", "192.0.2.1"]);
        assert_eq!(with("for=192.0.2.1"), ["192.0.2.1"; 3]);
        assert_eq!(with("for=unknown"), ["", "", "192.0.2.1"]);
    }
}
