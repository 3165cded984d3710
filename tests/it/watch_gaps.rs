//! Missing ids of the change log: the watch waits only while a transaction may still store them.

use std::time::Duration;

use m4_user_details::{
    domain::{
        page_token::{Purpose, TokenKey},
        watch::Position,
    },
    proto::UserDetailsChange,
};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::{
    support::{
        app::{TestApp, config},
        database::TestDatabase,
        on_postgres,
    },
    watch::{Token, Watch, everything, set_city},
};

on_postgres!(an_id_is_awaited_until_every_transaction_of_its_time_has_ended);

const TAKE_ID: &str = "INSERT INTO change_log (user_id, version, change_time, door, changes) \
                       VALUES (5, 2, 1800000000000000, 'grpc', \
                       '[{\"field\": \"address.city\", \"old\": \"\", \"new\": \"slow\"}]')";
/// Far longer than the detection of an ended transaction, and far shorter than the transaction
/// timeout.
const SEEN_WITHIN: Duration = Duration::from_secs(40);

/// The position in the token of the last response.
async fn position(database: &TestDatabase, watch: &Watch) -> Position {
    let secret = database.text("SELECT secret FROM token_keys").await;
    let key = TokenKey::new(&hex::decode(secret).unwrap().try_into().unwrap());
    let request = Sha256::digest(everything().encode_to_vec()).into();
    let payload = key.open(Purpose::Watch, &request, &watch.token).unwrap();
    Position::from_bytes(&Token::decode(&*payload).unwrap().position).unwrap()
}

fn city(change: UserDetailsChange) -> String {
    change.details.unwrap().address.unwrap().city.unwrap()
}

async fn an_id_is_awaited_until_every_transaction_of_its_time_has_ended(database: TestDatabase) {
    let mut config = config(&database.url, &[]);
    // Each read of the log takes a snapshot.
    config.database.snapshot_interval = Duration::ZERO;
    let app = TestApp::start_config(&config, true).await;
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    let rolled_back = database.begin().await;
    rolled_back.execute(TAKE_ID).await;
    let slow = database.begin().await;
    slow.execute(TAKE_ID).await;
    set_city(&app, 3, "0").await;
    watch.change().await.unwrap();
    let missing = position(&database, &watch).await.missing().to_vec();
    let [(first, last)] = *missing else { panic!("{missing:?}") };
    assert_eq!(last - first, 1, "both ids are missing");

    // Dropping the transaction rolls it back. The other transaction goes on.
    drop(rolled_back);
    for number in 1..=30 {
        set_city(&app, 3, &number.to_string()).await;
        assert_eq!(city(watch.change().await.unwrap()), number.to_string());
    }
    assert_eq!(position(&database, &watch).await.missing(), [(first, last)]);
    slow.commit().await;
    assert_eq!(city(watch.change().await.unwrap()), "slow");

    let settled = async {
        let mut number = 31;
        while !position(&database, &watch).await.missing().is_empty() {
            set_city(&app, 3, &number.to_string()).await;
            assert_eq!(city(watch.change().await.unwrap()), number.to_string());
            number += 1;
        }
    };
    timeout(SEEN_WITHIN, settled).await.expect("the id of the rolled back transaction is awaited");
}
