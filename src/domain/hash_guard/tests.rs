use std::time::Duration;

use super::*;
use crate::domain::{
    administration::Administrator, call_context::CallContext, hash::Recipe, legacy_key::MatchedKey,
};

const LIMITS: HashLimits = HashLimits { per_address: 60, per_username: 40, block_seconds: 60 };

struct Stage {
    guard: HashGuard,
    known: KnownClients,
    blocks: Blocks,
}

impl Stage {
    fn new() -> Self {
        let known = KnownClients::default();
        known.add("default", "192.0.2.1");
        known.complete();
        Self { guard: HashGuard::default(), known, blocks: Blocks::default() }
    }

    fn call(
        &self,
        address: &str,
        username: &str,
        is_right: bool,
        millis: i64,
    ) -> Result<(), Error> {
        let credentials = LegacyCredentials {
            username: username.to_owned(),
            user_id: "5".to_owned(),
            hash: String::new(),
            method: "POST".to_owned(),
            address: address.to_owned(),
        };
        let matched = is_right
            .then_some(Matched { recipe: Recipe::UsernameUserId, key: MatchedKey::Default });
        let standing = self.guard.standing(&self.blocks, &self.known, &credentials, at(millis))?;
        let checked = match &standing {
            Some(standing) => standing.admit(matched),
            None => matched.ok_or(Error::IncorrectHash),
        };
        if checked.is_err() {
            self.guard.failed(&LIMITS, &credentials, standing.as_ref(), at(millis))?;
        }
        checked.map(|_| ())
    }
}

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_800_000_000_000 + millis).unwrap()
}

fn address(number: i64) -> String {
    format!("198.51.{}.{}", 100 + number / 250, number % 250)
}

#[test]
fn an_address_at_full_speed_gets_its_limit_of_checked_hashes_per_minute() {
    let stage = Stage::new();
    let mut checked = Vec::new();
    for millis in 0..180_000 {
        match stage.call("198.51.100.7", &format!("user{}", millis % 1000), false, millis) {
            Err(Error::IncorrectHash) => checked.push(millis),
            Err(Error::AddressBlocked { retry_after }) => {
                assert!(retry_after.unwrap().as_secs() <= 60);
            }
            other => panic!("{other:?}"),
        }
    }
    for (index, start) in checked.iter().enumerate() {
        let minute = checked[index..].iter().take_while(|millis| **millis < start + 60_000);
        assert!(minute.count() <= 60);
    }
    assert!(checked.len() >= 60);
    // Even a right hash is refused, but for known clients.
    assert!(stage.call("198.51.100.7", "admin", true, 1000).is_err());
    assert!(stage.call("192.0.2.1", "admin", true, 1000).is_ok());
    assert!(stage.call("198.51.100.8", "admin", true, 1000).is_ok());
}

#[test]
fn a_thousand_addresses_that_guess_one_username_get_its_limit() {
    let stage = Stage::new();
    let (mut guessed, mut checked) = (0, Vec::new());
    for millis in 0..180_000 {
        let address = address(millis % 1000);
        // A right guess shows whether the hash is checked at all.
        let is_checked = stage.call(&address, "admin", true, millis).is_ok();
        assert!(stage.call("192.0.2.1", "admin", true, millis).is_ok(), "a known client is spared");
        let guess = stage.call(&address, "admin", false, millis);
        match guess {
            Err(Error::IncorrectHash) => guessed += 1,
            Err(Error::AddressBlocked { .. }) => {}
            other => panic!("{other:?}"),
        }
        if is_checked {
            checked.push(millis);
        }
    }
    for (index, start) in checked.iter().enumerate() {
        let minute = checked[index..].iter().take_while(|millis| **millis < start + 60_000);
        assert!(minute.count() <= 40);
    }
    assert!(checked.len() >= 40 && guessed > 1000, "{guessed}");
    assert!(stage.call("203.0.113.9", "bob", true, 180_000).is_ok());
}

#[test]
fn a_known_client_of_another_key_is_not_spared() {
    let stage = Stage::new();
    stage.known.add("crm", "198.51.100.7");
    for _ in 0..100 {
        let _ = stage.call("198.51.100.7", "admin", false, 0);
    }
    assert!(matches!(
        stage.call("198.51.100.7", "bob", true, 1),
        Err(Error::AddressBlocked { .. })
    ));
    stage.known.add("default", "198.51.100.7");
    assert!(stage.call("198.51.100.7", "bob", true, 1).is_ok());
}

#[test]
fn a_rotation_of_the_configured_key_makes_nobody_unknown() {
    let known = KnownClients::default();
    known.add("default", "192.0.2.1");
    known.add("default", "");
    known.complete();
    assert!(known.has("previous", "192.0.2.1") && !known.has("crm", "192.0.2.1"));
    // Any client can be one without a known address.
    assert!(!known.has("default", "") && !known.has_network(""));
}

#[test]
fn wrong_hashes_of_a_known_client_count_for_the_username_while_its_address_is_blocked() {
    let stage = Stage::new();
    for _ in 0..100 {
        let _ = stage.call("192.0.2.1", "user", false, 0);
    }
    for _ in 0..40 {
        let refused = stage.call("192.0.2.1", "admin", false, 1).unwrap_err();
        assert!(matches!(refused, Error::AddressBlocked { .. }));
    }
    assert!(matches!(stage.call("198.51.100.7", "admin", true, 2), Err(Error::UsernameBlocked)));
    assert!(stage.call("192.0.2.1", "admin", true, 2).is_ok());
}

#[test]
fn an_operators_block_spares_nobody() {
    let block = |target, expire_time| LegacyBlock {
        target,
        is_automatic: false,
        identity: "cli:ops@host".to_owned(),
        create_time: at(0),
        expire_time,
    };
    let network = Target::of_address("192.0.2.1").unwrap();
    let username = Target::of_username("bob").unwrap();
    let blocks = vec![block(network, Some(at(5000))), block(username, None)];
    let stage = Stage { blocks: Blocks::of(blocks), ..Stage::new() };
    let refused = stage.call("192.0.2.1", "admin", true, 2000).unwrap_err();
    let three = Some(Duration::from_secs(3));
    assert!(matches!(refused, Error::AddressBlocked { retry_after } if retry_after == three));
    assert!(stage.call("192.0.2.1", "admin", true, 5000).is_ok());
    let refused = stage.call("192.0.2.1", "bob", true, 5000).unwrap_err();
    assert!(matches!(refused, Error::UsernameBlocked));
}

#[test]
fn every_client_is_known_until_the_stored_ones_are_read() {
    let stage = Stage { known: KnownClients::default(), ..Stage::new() };
    for _ in 0..100 {
        let _ = stage.call("198.51.100.7", "admin", false, 0);
    }
    assert!(stage.call("198.51.100.7", "admin", true, 1).is_ok());
    stage.known.complete();
    assert!(stage.call("198.51.100.7", "admin", true, 1).is_err());
}

/// A store that keeps what it gets, as far as it has room.
struct Stored {
    room: usize,
}

#[async_trait::async_trait]
impl LegacyBlockStore for Stored {
    async fn legacy_blocks(
        &self,
        _: &CallContext,
        _: DateTime<Utc>,
        _: Option<(i64, String)>,
        _: u64,
    ) -> Result<Vec<LegacyBlock>, Error> {
        Err(Error::Overloaded)
    }

    async fn active_legacy_blocks(
        &self,
        _: &CallContext,
        _: DateTime<Utc>,
    ) -> Result<Vec<LegacyBlock>, Error> {
        Err(Error::Overloaded)
    }

    async fn store_automatic_blocks(
        &self,
        mut blocks: Vec<LegacyBlock>,
        _: DateTime<Utc>,
    ) -> Result<Vec<LegacyBlock>, Error> {
        if self.room == 0 {
            return Err(Error::Overloaded);
        }
        blocks.truncate(self.room);
        Ok(blocks)
    }

    async fn add_legacy_block(
        &self,
        _: &CallContext,
        _: &Administrator,
        _: LegacyBlock,
    ) -> Result<(), Error> {
        Err(Error::Overloaded)
    }

    async fn lift_legacy_blocks(
        &self,
        _: &CallContext,
        _: (&Administrator, DateTime<Utc>),
        _: &Target,
    ) -> Result<bool, Error> {
        Err(Error::Overloaded)
    }
}

#[tokio::test]
async fn a_stored_block_replaces_that_of_the_replica_and_others_stay() {
    let stage = Stage::new();
    for number in 0..2 {
        for attempt in 0..100 {
            let _ = stage.call(&address(number), &format!("user{attempt}"), false, 0);
        }
    }
    let is_blocked = |number, millis| stage.call(&address(number), "bob", true, millis).is_err();
    assert!(stage.guard.store(&Stored { room: 0 }, at(10)).await.is_err());
    assert_eq!(stage.guard.waiting().len(), 2);
    let stored = stage.guard.store(&Stored { room: 1 }, at(10)).await.unwrap();
    let handed_over = i64::from(stored[0].target.value() == address(1));
    let alone = 1 - handed_over;
    stage.guard.hand_over(stored, at(10));
    assert!(stage.guard.waiting().is_empty());
    assert!(is_blocked(0, 2009) && is_blocked(1, 2009));
    // The stored block was lifted meanwhile: it is not in `blocks`.
    assert!(!is_blocked(handed_over, 2010));
    assert!(is_blocked(alone, 59_999) && !is_blocked(alone, 60_000));
    // A lifted block does not come back, even if it waits to be stored.
    for attempt in 0..100 {
        let _ = stage.call(&address(2), &format!("user{attempt}"), false, 0);
    }
    stage.guard.lift(&Target::of_address(&address(2)).unwrap(), at(20));
    assert!(stage.guard.waiting().is_empty() && !is_blocked(2, 20));
}
