//! Wrong hashes: whether their time tells something to an attacker.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use m4_user_details::proto::{
    AddLegacyBlockRequest, CreateLegacyKeyRequest, LegacyBlock, LegacyKey, Settings,
    UpdateSettingsRequest, legacy_block::Target, legacy_service_client::LegacyServiceClient,
    settings_service_client::SettingsServiceClient,
};
use serde::Serialize;
use sha1::{Digest, Sha1};

use crate::{
    callers::{Legacy, channels},
    database::Database,
    program::Program,
};

/// Calls of each kind.
const CALLS: usize = 10_000;
/// Client keys: with fewer than eight, the service does not remember which one matched.
const CLIENT_KEYS: usize = 100;
/// An account of the filled database that is blocked by an operator.
const BLOCKED: &str = "manager";

/// A kind of wrong hash, compared with the wrong hash of a known username.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Kind {
    /// The name of the kind.
    pub(crate) name: &'static str,
    /// The probability that its call takes longer (the area under the ROC curve): 0.5 tells nothing.
    pub(crate) auc: f64,
}

/// Plays the scene: one caller makes calls of all kinds in random order.
pub(crate) async fn play(database: &Database) -> Vec<Kind> {
    let masters = std::env::temp_dir().join(format!("m4-load-masters-{}", std::process::id()));
    std::fs::write(&masters, "42".repeat(32)).unwrap();
    let file = [("M4_API_MASTER_KEY_FILE", masters.to_str().unwrap())];
    let service = Program::service_with(&database.url, &file).await;
    let secret = prepare(service.grpc()).await;
    std::fs::remove_file(masters).unwrap();
    let right = hex::encode(Sha1::digest(format!("{BLOCKED}3{secret}")));
    let (wrong, short) = ("0".repeat(40), "0".repeat(20));
    let kinds = [
        ("known username", "admin", &wrong),
        ("unknown username", "nobody", &wrong),
        ("short hash", "admin", &short),
        ("blocked username", BLOCKED, &wrong),
        ("blocked username, right hash", BLOCKED, &right),
    ];
    let mut connection = Legacy::connect(service.http).await;
    let mut times = [const { Vec::new() }; 5];
    let mut answer = None;
    // The first calls warm the caches up.
    for number in 0..(CALLS + CALLS / 10) * kinds.len() {
        let kind = rand::random_range(0..kinds.len());
        let (_, username, hash) = kinds[kind];
        let target = format!("/billing/api/user_details_update?u={username}&user_id=3&hash={hash}");
        let sent = Instant::now();
        let got = connection.call(&target).await;
        let time = sent.elapsed();
        assert_eq!(answer.get_or_insert_with(|| got.clone()), &got, "the answers differ");
        if number >= CALLS / 10 * kinds.len() {
            times[kind].push(time);
        }
    }
    let (_, body) = answer.unwrap();
    assert!(body.contains("Incorrect hash"), "{body}");
    service.stop().await;
    let [known, others @ ..] = times;
    let names = kinds.iter().skip(1).map(|kind| kind.0);
    let of = |(name, other): (&'static str, Vec<Duration>)| {
        let auc = auc(&known, &other);
        println!("{}: {name}: AUC {auc:.3}", database.engine.name());
        Kind { name, auc }
    };
    names.zip(others).map(of).collect()
}

/// Switches the limits off, blocks a username, and creates client keys. Returns the secret of the first
/// one.
async fn prepare(address: SocketAddr) -> String {
    let channel = channels(address, 1).remove(0);
    let settings = Settings {
        failed_hashes_per_address: Some(0),
        failed_hashes_per_username: Some(0),
        ..Settings::default()
    };
    let request = UpdateSettingsRequest {
        settings: Some(settings),
        acting_username: "admin".to_owned(),
        ..UpdateSettingsRequest::default()
    };
    SettingsServiceClient::new(channel.clone()).update_settings(request).await.unwrap();
    let target = Some(Target::Username(BLOCKED.to_owned()));
    let block = Some(LegacyBlock { target, ..LegacyBlock::default() });
    let request = AddLegacyBlockRequest { block, acting_username: "admin".to_owned() };
    let mut legacy = LegacyServiceClient::new(channel);
    legacy.add_legacy_block(request).await.unwrap();
    let mut secrets = Vec::new();
    for number in 0..CLIENT_KEYS {
        let key = LegacyKey { name: format!("client {number}"), ..LegacyKey::default() };
        let acting_username = "admin".to_owned();
        let request = CreateLegacyKeyRequest { key: Some(key), acting_username };
        secrets.push(legacy.create_legacy_key(request).await.unwrap().into_inner().secret);
    }
    secrets.swap_remove(0)
}

/// The probability that a time of `other` is longer than a time of `known`, and half of that of equal
/// times.
fn auc(known: &[Duration], other: &[Duration]) -> f64 {
    let mut known = known.to_vec();
    known.sort_unstable();
    let shorter_or_equal = |time: &Duration| {
        let shorter = known.partition_point(|known| known < time);
        let equal = known.partition_point(|known| known <= time) - shorter;
        crate::measured::count(shorter) + crate::measured::count(equal) / 2.0
    };
    let sum: f64 = other.iter().map(shorter_or_equal).sum();
    sum / crate::measured::count(known.len()) / crate::measured::count(other.len())
}
