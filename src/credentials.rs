//! The credentials of a legacy call between gateway and service: a scheme of the metadata
//! `authorization`. Both sides share this leaf module.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::fields::parse_id;

/// The scheme's name.
const SCHEME: &str = "M4-Legacy ";

/// The metadata with which a gateway in its own process authenticates: `Bearer TOKEN`.
pub const DOOR_IDENTITY: &str = "m4-door-authorization";

/// Metadata key of a health check. If present, the check also authenticates the gateway.
pub const CHECK_GATEWAY: &str = "m4-check-gateway";

/// Metadata for the gateway only: the account tried to change itself. The response equals other
/// refusals, but metrics distinguish them.
pub const UPON_ITSELF: &str = "m4-upon-itself";

/// The metadata with the paths of legacy fields with values outside the typed API, separated by commas.
pub const UNFIT_FIELDS: &str = "m4-unfit-fields";
/// The metadata of answers to legacy calls: when the call is or was deprecated, as RFC 3339.
pub const DEPRECATION: &str = "m4-deprecation";
/// The metadata of answers to legacy calls: when the call ends, as RFC 3339.
pub const SUNSET: &str = "m4-sunset";
/// The metadata of answers to legacy calls: the URL of the page about the retirement.
pub const RETIREMENT_LINK: &str = "m4-retirement-link";

/// The longest `u`, `user_id` and `hash` together, in bytes. Metadata has a size limit.
pub const MAX_CREDENTIALS_BYTES: usize = 8 * 1024;

/// The credentials of a legacy client, exactly as sent.
#[derive(Clone, PartialEq, Eq)]
pub struct LegacyCredentials {
    /// The parameter `u`; empty if missing.
    pub username: String,
    /// The parameter `user_id`; empty if missing.
    pub user_id: String,
    /// The parameter `hash`; empty if missing or not text.
    pub hash: String,
    /// The HTTP method.
    pub method: String,
    /// The IP address of the client; empty if unknown.
    pub address: String,
}

impl LegacyCredentials {
    /// The value of `authorization`. Without credentials over [`MAX_CREDENTIALS_BYTES`]: the call is refused.
    pub fn to_header(&self) -> String {
        let parts: [&str; 5] = if self.is_too_long() {
            ["", "", "", &self.method, &self.address]
        } else {
            [&self.username, &self.user_id, &self.hash, &self.method, &self.address]
        };
        let mut header = String::with_capacity(256);
        header.push_str(SCHEME);
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                header.push('.');
            }
            URL_SAFE_NO_PAD.encode_string(part, &mut header);
        }
        header
    }

    /// The credentials after a round trip through [`Self::to_header`].
    pub fn carried(self) -> Self {
        if !self.is_too_long() {
            return self;
        }
        let [username, user_id, hash] = [const { String::new() }; 3];
        Self { username, user_id, hash, ..self }
    }

    fn is_too_long(&self) -> bool {
        self.username.len() + self.user_id.len() + self.hash.len() > MAX_CREDENTIALS_BYTES
    }

    /// Parses a value of `authorization`.
    ///
    /// # Errors
    /// [`NotLegacy::OtherScheme`] for another scheme; [`NotLegacy::Malformed`] for invalid content.
    pub fn from_header(header: &str) -> Result<Self, NotLegacy> {
        let parts = header.strip_prefix(SCHEME).ok_or(NotLegacy::OtherScheme)?;
        let decode = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let mut parts = parts.split('.');
        let mut next = || parts.next().and_then(decode).ok_or(NotLegacy::Malformed);
        let credentials = Self {
            username: next()?,
            user_id: next()?,
            hash: next()?,
            method: next()?,
            address: next()?,
        };
        let address = credentials.address.as_str();
        let is_address = address.is_empty() || address.parse::<IpAddr>().is_ok();
        if parts.next().is_some() || !is_address {
            return Err(NotLegacy::Malformed);
        }
        Ok(credentials)
    }

    /// Whether a value of `authorization` has the legacy scheme.
    pub fn are_in(header: &str) -> bool {
        header.starts_with(SCHEME)
    }

    /// Whether the credentials are for a user. The hash covers only this `user_id`.
    pub fn are_for(&self, user_id: i64) -> bool {
        parse_id(&self.user_id).unwrap_or_default() == user_id
    }

    /// Whether the method counts as GET.
    pub fn is_get(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

/// Why a header holds no legacy credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLegacy {
    /// The header has another scheme.
    OtherScheme,
    /// The header has this scheme, but invalid content.
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_an_ip_address_or_empty() {
        for (address, is_good) in [
            ("", true),
            ("192.0.2.1", true),
            ("2001:db8::1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.1:80", false),
            ("[2001:db8::1]", false),
            ("192.0.2.1, 10.0.0.1", false),
            (" 192.0.2.1", false),
            ("crm.internal", false),
            ("1", false),
            ("192.0.2.1\n", false),
        ] {
            let credentials = LegacyCredentials {
                username: "admin".to_owned(),
                user_id: "3".to_owned(),
                hash: "00".to_owned(),
                method: "POST".to_owned(),
                address: address.to_owned(),
            };
            let read = LegacyCredentials::from_header(&credentials.to_header());
            match read {
                Ok(read) => assert!(is_good && read.address == address, "{address:?}"),
                Err(problem) => assert!(!is_good && problem == NotLegacy::Malformed, "{address:?}"),
            }
        }
    }
}
