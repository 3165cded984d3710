//! Resume tokens.

use chrono::{DateTime, Utc};
use prost::Message;

use super::{errors::invalid_request, paging::digest};
use crate::{
    domain::{
        error::Error,
        page_token::{Purpose, RequestDigest, TokenKey},
        watch::Position,
    },
    proto::WatchUserDetailsRequest,
};

/// Maximum bytes of a position in a token: see [`Position::to_bytes`].
const MAX_POSITION: usize = 1536;

/// The payload of a resume token.
#[derive(Clone, PartialEq, Eq, Message)]
struct Token {
    /// See [`Position::to_bytes`].
    #[prost(bytes = "vec", tag = "1")]
    position: Vec<u8>,
    /// A time, in seconds since 1970. Entries after the position were stored later. Version 0.1.0
    /// checks this time.
    #[prost(int64, tag = "2")]
    told: i64,
    /// The time of the entry at the position, in microseconds since 1970.
    #[prost(int64, optional, tag = "3")]
    entry_time: Option<i64>,
}

/// In place of the digest of a request.
const ANY_REQUEST: RequestDigest = [0; 32];

/// The resume tokens of one request.
pub(super) struct Tokens {
    key: TokenKey,
    request: RequestDigest,
}

impl Tokens {
    /// Binds the tokens to a request without its resume token.
    pub(super) fn new(key: TokenKey, request: &WatchUserDetailsRequest) -> Self {
        let unbound =
            WatchUserDetailsRequest { resume_token: String::new(), start: None, ..request.clone() };
        Self { key, request: digest(&unbound) }
    }

    /// Issues the token of a position: at most about 2 KiB, even with many gaps.
    pub(super) fn issue(&self, position: &Position, told: DateTime<Utc>) -> String {
        self.key.seal(Purpose::Watch, &self.request, &payload(position, told))
    }

    /// Issues the token of a position that a list has. It is valid for every request.
    pub(super) fn issue_of_list(
        key: &TokenKey,
        position: &Position,
        told: DateTime<Utc>,
    ) -> String {
        key.seal(Purpose::WatchOfList, &ANY_REQUEST, &payload(position, told))
    }

    /// The position and the time of a token; `None` if the token is empty.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the token was not issued for this request.
    pub(super) fn position(&self, token: &str) -> Result<Option<(Position, DateTime<Utc>)>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let position = || {
            let own = self.key.open(Purpose::Watch, &self.request, token);
            let of_list = || self.key.open(Purpose::WatchOfList, &ANY_REQUEST, token);
            let payload = own.or_else(of_list)?;
            let token = Token::decode(&*payload).ok()?;
            let told = DateTime::from_timestamp(token.told, 0)?;
            let mut position = Position::from_bytes(&token.position)?;
            if let Some(time) = token.entry_time {
                position.note_time(position.seen(), DateTime::from_timestamp_micros(time)?);
            }
            Some((position, told))
        };
        let refused = || {
            let other = "was not issued for this request: only resume_token and start may differ";
            let of_list = self.key.refusal(Purpose::WatchOfList, &ANY_REQUEST, token, other);
            let problem = self.key.refusal(Purpose::Watch, &self.request, token, of_list);
            invalid_request("resume_token", problem)
        };
        position().ok_or_else(refused).map(Some)
    }
}

fn payload(position: &Position, told: DateTime<Utc>) -> Vec<u8> {
    let bytes = position.to_bytes(MAX_POSITION);
    let entry_time = position.time().map(|time| time.timestamp_micros());
    // A position whose gaps do not fit is shortened, and ends at another entry.
    let entry_time = entry_time.filter(|_| Position::seen_in(&bytes) == Some(position.seen()));
    Token { position: bytes, told: told.timestamp(), entry_time }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::page_token::KEY_LENGTH;

    fn tokens(request: &WatchUserDetailsRequest) -> Tokens {
        Tokens::new(TokenKey::new(&[3; KEY_LENGTH]), request)
    }

    #[test]
    fn a_token_gives_back_its_position_for_its_own_request() {
        let request = WatchUserDetailsRequest { user_id: Some(3), ..Default::default() };
        let mut position = Position::new(90, vec![(4, 5), (70, 80)]).unwrap();
        position.note_time(90, DateTime::from_timestamp_micros(1_799_999_999_123_456).unwrap());
        let told = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let token = tokens(&request).issue(&position, told);
        let again = WatchUserDetailsRequest { resume_token: token.clone(), ..request };
        assert_eq!(tokens(&again).position(&token).unwrap(), Some((position, told)));
        assert_eq!(tokens(&again).position("").unwrap(), None);
        let acting_username = "manager".to_owned();
        for other in [
            WatchUserDetailsRequest { user_id: Some(4), ..Default::default() },
            WatchUserDetailsRequest { acting_username, user_id: Some(3), ..Default::default() },
            WatchUserDetailsRequest::default(),
        ] {
            let refused = tokens(&other).position(&token).unwrap_err();
            assert!(matches!(refused, Error::InvalidRequest { field: "resume_token", .. }));
        }
    }

    #[test]
    fn a_token_is_small_whatever_its_gaps() {
        let mut position = Position::default();
        (1..=50_000).for_each(|number| position.observe(number * 3 + number % 2));
        position.note_time(position.seen(), DateTime::UNIX_EPOCH);
        let request = WatchUserDetailsRequest::default();
        let token = tokens(&request).issue(&position, DateTime::UNIX_EPOCH);
        assert!(token.len() < 2200, "{}", token.len());
        let (short, _) = tokens(&request).position(&token).unwrap().unwrap();
        assert_eq!(short.time(), None, "of another entry");
        assert!((1..=150_000).all(|id| !short.contains(id) || position.contains(id)));
    }
}
