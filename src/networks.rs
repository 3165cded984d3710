//! Sets of IP networks.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The largest number of networks in a set: a check compares each of them.
pub const MAX_NETWORKS: usize = 256;
/// The bits before the IPv4 address in an IPv4-mapped IPv6 address.
const MAPPED_BITS: u8 = 96;
/// The prefix length of an IPv6 client's network.
const CLIENT_BITS: u8 = 64;

/// A set of IP networks. An IPv4-mapped IPv6 address is its IPv4 address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Arc<[IpNet]>);

/// Why a text is no set of networks. The text never repeats a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNetworks {
    /// A part is neither a network nor an address.
    #[error("must be networks or addresses, such as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7")]
    Malformed,
    /// There are more than [`MAX_NETWORKS`].
    #[error("must be at most {MAX_NETWORKS} networks")]
    TooMany,
}

impl Networks {
    /// The set of networks or addresses.
    ///
    /// # Errors
    /// A part is malformed, or there are too many.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Result<Self, NotNetworks> {
        let mut networks = Vec::new();
        for part in parts {
            let network = network(part).ok_or(NotNetworks::Malformed)?;
            if !networks.contains(&network) {
                networks.push(network);
            }
        }
        if networks.len() > MAX_NETWORKS {
            return Err(NotNetworks::TooMany);
        }
        Ok(Self(networks.into()))
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether a client at this address is admitted: an empty set admits all. An unknown address is
    /// in no network.
    pub fn admit(&self, address: &str) -> bool {
        self.is_empty() || address.parse().is_ok_and(|address| self.contains(address))
    }

    /// The networks, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

/// Networks separated by commas or spaces.
impl FromStr for Networks {
    type Err = NotNetworks;

    fn from_str(text: &str) -> Result<Self, NotNetworks> {
        Self::of(text.split([',', ' ']).filter(|part| !part.is_empty()))
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, text: &mut fmt::Formatter) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(text, "{separator}{network}")?;
        }
        Ok(())
    }
}

/// The network of a client, which usually belongs to one customer: the IPv4 address, or the /64 network
/// of the IPv6 address. Empty for another text.
pub fn client_network(address: &str) -> String {
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.to_string(),
        Ok(IpAddr::V6(address)) => Ipv6Net::new_assert(address, CLIENT_BITS).trunc().to_string(),
        Err(_) => String::new(),
    }
}

/// A network without its host bits. An address is the network of only this address.
fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(|_| address()).ok()?.trunc();
    let IpNet::V6(mapped) = network else { return Some(network) };
    let (Some(address), Some(bits)) =
        (mapped.addr().to_ipv4_mapped(), mapped.prefix_len().checked_sub(MAPPED_BITS))
    else {
        return Some(network);
    };
    Ipv4Net::new(address, bits).ok().map(IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Networks {
        text.parse().unwrap()
    }

    #[test]
    fn networks_contain_their_addresses() {
        let set = networks("10.1.0.0/16, 192.0.2.7 2001:db8::/32,::ffff:198.51.100.0/120");
        for (address, is_in) in [
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("198.51.100.9", true),
            ("198.51.101.9", false),
            ("::1", false),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), is_in, "{address}");
        }
        assert!(!Networks::default().contains([127, 0, 0, 1].into()));
    }

    #[test]
    fn networks_are_written_in_their_short_form() {
        let set = networks("10.1.2.3/16 10.1.0.0/16,192.0.2.7 ::ffff:198.51.100.1/120 0.0.0.0/0");
        assert_eq!(set.to_string(), "10.1.0.0/16,192.0.2.7/32,198.51.100.0/24,0.0.0.0/0");
        assert_eq!(networks(&set.to_string()), set);
        assert_eq!(networks("").to_string(), "");
        assert_eq!(networks("::/0").to_string(), "::/0");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["10.0.0.0/33", "10.0.0/8", "crm.internal", "10.0.0.1-10.0.0.9", "*", "::/129"]
        {
            assert_eq!(text.parse::<Networks>(), Err(NotNetworks::Malformed), "{text}");
        }
        let many =
            (0..=MAX_NETWORKS).map(|number| format!("10.0.{}.{}", number / 256, number % 256));
        let many: Vec<_> = many.collect();
        assert_eq!(many.join(" ").parse::<Networks>(), Err(NotNetworks::TooMany));
        assert!(many[1..].join(" ").parse::<Networks>().is_ok());
    }
}
