//! Page and resume tokens. Callers cannot read the content. An HMAC protects it: the refusal of a
//! forged token costs one HMAC and no database read.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use subtle::ConstantTimeEq;

/// The length of a key, in bytes.
pub const KEY_LENGTH: usize = 32;
/// The longest token that is accepted, in characters.
pub const MAX_TOKEN_LENGTH: usize = 4096;
/// The length of the MAC, in bytes: HMAC-SHA256 truncated to 128 bits (RFC 2104, section 5).
const MAC_LENGTH: usize = 16;

/// The method that issues a token. A token is valid for its own method only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Pages of users.
    ListUsers,
    /// Pages of the change log.
    ListChanges,
    /// Pages of the administration log.
    ListAdministration,
    /// Pages of client keys.
    ListLegacyKeys,
    /// Pages of legacy clients.
    ListLegacyClients,
    /// Pages of blocks.
    ListLegacyBlocks,
    /// Resuming a watch.
    Watch,
    /// Beginning a watch at a list.
    WatchOfList,
}

impl Purpose {
    /// The domain-separation label. No label is a prefix of another one.
    fn label(self) -> &'static [u8] {
        match self {
            Self::ListUsers => b"page of users\0",
            Self::ListChanges => b"page of changes\0",
            Self::ListAdministration => b"page of administration\0",
            Self::ListLegacyBlocks => b"page of blocks\0",
            Self::ListLegacyClients => b"page of clients\0",
            Self::ListLegacyKeys => b"page of keys\0",
            Self::Watch => b"watch\0",
            Self::WatchOfList => b"list, then watch\0",
        }
    }
}

/// The SHA-256 of a request without its token: a token is valid for its own request only.
pub type RequestDigest = [u8; 32];

/// The key that authenticates tokens. All replicas share it.
#[derive(Clone)]
pub struct TokenKey {
    current: hmac::Key,
    /// The keys of earlier epochs: their tokens are refused.
    earlier: Arc<[hmac::Key]>,
}

impl fmt::Debug for TokenKey {
    /// Omits the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenKey")
    }
}

impl TokenKey {
    /// A key from secret bytes.
    pub fn new(secret: &[u8; KEY_LENGTH]) -> Self {
        Self { current: hmac_key(secret), earlier: Arc::default() }
    }

    /// Recognises the tokens of earlier epochs, too.
    #[must_use]
    pub fn after<'a>(self, secrets: impl IntoIterator<Item = &'a [u8; KEY_LENGTH]>) -> Self {
        Self { earlier: secrets.into_iter().map(hmac_key).collect(), ..self }
    }

    /// The token that carries a payload.
    pub fn seal(&self, purpose: Purpose, request: &RequestDigest, payload: &[u8]) -> String {
        let mac = mac(&self.current, purpose, request, payload);
        let mut bytes = Vec::with_capacity(MAC_LENGTH + payload.len());
        bytes.extend_from_slice(&mac);
        bytes.extend_from_slice(payload);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The payload of a token; `None` unless this key issued the token for this request.
    pub fn open(&self, purpose: Purpose, request: &RequestDigest, token: &str) -> Option<Vec<u8>> {
        open(&self.current, purpose, request, token)
    }

    /// Why a token that cannot be opened is refused: `other`, or that it is of an earlier epoch.
    pub fn refusal(
        &self,
        purpose: Purpose,
        request: &RequestDigest,
        token: &str,
        other: &'static str,
    ) -> &'static str {
        let is_earlier = |key| open(key, purpose, request, token).is_some();
        if self.earlier.iter().any(is_earlier) { EARLIER } else { other }
    }
}

/// Why a token of an earlier epoch is refused.
const EARLIER: &str = "was issued before the database was restored: read the users again";

fn hmac_key(secret: &[u8; KEY_LENGTH]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

/// The payload of a token that a key issued for a request.
fn open(
    key: &hmac::Key,
    purpose: Purpose,
    request: &RequestDigest,
    token: &str,
) -> Option<Vec<u8>> {
    if token.len() > MAX_TOKEN_LENGTH {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (sent, payload) = bytes.split_at_checked(MAC_LENGTH)?;
    let is_authentic: bool = mac(key, purpose, request, payload).ct_eq(sent).into();
    is_authentic.then(|| payload.to_vec())
}

fn mac(
    key: &hmac::Key,
    purpose: Purpose,
    request: &RequestDigest,
    payload: &[u8],
) -> [u8; MAC_LENGTH] {
    let mut context = hmac::Context::with_key(key);
    context.update(purpose.label());
    context.update(request);
    context.update(payload);
    let mut mac = [0; MAC_LENGTH];
    mac.copy_from_slice(&context.sign().as_ref()[..MAC_LENGTH]);
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: RequestDigest = [7; 32];

    fn key() -> TokenKey {
        TokenKey::new(&[1; KEY_LENGTH])
    }

    #[test]
    fn a_token_is_valid_for_its_key_purpose_and_request_only() {
        let token = key().seal(Purpose::Watch, &REQUEST, b"payload");
        let open = |key: TokenKey, purpose, request| key.open(purpose, request, &token);
        assert_eq!(open(key(), Purpose::Watch, &REQUEST).unwrap(), b"payload");
        assert_eq!(open(TokenKey::new(&[2; KEY_LENGTH]), Purpose::Watch, &REQUEST), None);
        assert_eq!(open(key(), Purpose::Watch, &[8; 32]), None);
        for purpose in [Purpose::ListUsers, Purpose::ListChanges] {
            assert_eq!(open(key(), purpose, &REQUEST), None);
        }
    }

    #[test]
    fn a_changed_truncated_or_extended_token_is_refused() {
        let token = key().seal(Purpose::ListUsers, &REQUEST, b"some payload");
        let open = |token: &str| key().open(Purpose::ListUsers, &REQUEST, token);
        assert!(open(&token).is_some());
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for index in 0..bytes.len() {
            assert_eq!(open(&URL_SAFE_NO_PAD.encode(&bytes[..index])), None, "{index} bytes");
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert_eq!(open(&URL_SAFE_NO_PAD.encode(&changed)), None, "byte {index}");
        }
        assert_eq!(open(&format!("{token}AAAA")), None);
        assert_eq!(open(&format!("{token}=")), None);
    }

    #[test]
    fn a_token_over_the_maximum_length_is_refused_even_if_it_is_authentic() {
        let seal = |length| key().seal(Purpose::Watch, &REQUEST, &vec![0; length]);
        let longest = MAX_TOKEN_LENGTH / 4 * 3 - MAC_LENGTH;
        for (length, accepted) in [(longest, true), (longest + 1, false)] {
            let opened = key().open(Purpose::Watch, &REQUEST, &seal(length));
            assert_eq!(opened.is_some(), accepted, "{length}");
        }
    }

    #[test]
    fn a_token_of_an_earlier_epoch_is_refused_with_its_own_reason() {
        let token = key().seal(Purpose::Watch, &REQUEST, b"payload");
        let now = TokenKey::new(&[3; KEY_LENGTH]).after([&[2; KEY_LENGTH], &[1; KEY_LENGTH]]);
        assert_eq!(now.open(Purpose::Watch, &REQUEST, &token), None);
        assert_eq!(now.refusal(Purpose::Watch, &REQUEST, &token, "other"), EARLIER);
        assert_eq!(now.refusal(Purpose::Watch, &[8; 32], &token, "other"), "other");
        assert_eq!(key().refusal(Purpose::Watch, &REQUEST, "x", "other"), "other");
    }

    #[test]
    fn the_key_is_not_in_debug_output() {
        assert_eq!(format!("{:?}", key()), "TokenKey");
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_refused(token in "[A-Za-z0-9_=+/-]{0,200}|.{0,50}") {
            prop_assert_eq!(key().open(Purpose::Watch, &REQUEST, &token), None);
        }
    }
}
