//! The storage suite, identical on every engine.

use chrono::{DateTime, NaiveDate};
use futures_util::future::join_all;
use m4_user_details::{
    domain::{
        account::Username,
        call_context::CallContext,
        error::{Error, Violation},
        store::Store,
        update::{Actor, Edit, Edits, EntryPoint, Origin, Update, Updated},
        value::Value,
    },
    fields::Field,
    storage::{Options, SqlStore},
};

use crate::support::{
    database::{Kind, TestDatabase, Transaction},
    on_every_engine, on_servers, until,
};

on_every_engine!(
    every_commit_is_durable,
    it_answers_only_when_it_is_prepared,
    updates_at_once_do_not_harm_each_other,
    updates_at_once_store_each_its_own_values,
    a_right_that_is_withdrawn_is_gone_on_every_replica,
    a_batch_that_waited_goes_by_what_is_stored_then,
    it_finishes_what_it_has_begun,
    more_than_it_has_room_for_is_refused,
);

// SQLite has one lock for all users.
on_servers!(
    a_locked_user_does_not_hold_up_others,
    a_right_that_is_withdrawn_meanwhile_holds_for_an_update_that_waited,
);

async fn prepared(database: &TestDatabase) -> SqlStore {
    let store = SqlStore::new(database.options()).unwrap();
    store.prepare(true).await.unwrap();
    store
}

fn update(username: &str, user_id: i64, city: &str) -> Update {
    let mut edits = Edits::default();
    edits.add(Field::city, Value::text(Field::city, city.to_owned()).map(Edit::Set));
    Update {
        actor: Actor::Account(Username::parse(username)),
        allowed: None,
        origin: Origin::of(EntryPoint::Grpc),
        user_id,
        edits,
        etag: None,
        request: None,
        unchanged: Vec::new(),
        validate_only: false,
    }
}

async fn apply(store: &SqlStore, update: Update) -> Result<Updated, Error> {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    store.apply(&CallContext::default(), update, now).await
}

async fn every_commit_is_durable(database: TestDatabase) {
    let store = prepared(&database).await;
    let settings = store.durability().await.unwrap();
    let expected: &[(&str, &str)] = match database.kind {
        Kind::Sqlite => &[("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")],
        Kind::Postgres => {
            &[("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")]
        }
        Kind::MariaDb => &[("innodb_flush_log_at_trx_commit", "1"), ("innodb_doublewrite", "ON")],
    };
    let settings: Vec<_> =
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(settings, expected);
}

async fn it_answers_only_when_it_is_prepared(database: TestDatabase) {
    let store = SqlStore::new(database.options()).unwrap();
    assert!(matches!(apply(&store, update("admin", 3, "x")).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.settings(&CallContext::default()).await, Err(Error::Unavailable(_))));
    assert!(store.ready().await.is_err());
    store.prepare(true).await.unwrap();
    store.prepare(true).await.unwrap();
    assert!(store.ready().await.is_ok());
    apply(&store, update("admin", 3, "x")).await.unwrap();
}

/// Valid and invalid updates of several users, some of the same user, share transactions.
async fn updates_at_once_do_not_harm_each_other(database: TestDatabase) {
    let store = prepared(&database).await;
    let mut updates = Vec::new();
    for round in 0..10 {
        for user_id in [3, 4, 5] {
            updates.push(update("admin", user_id, &format!("City {round}")));
        }
        updates.push(update("nobody", 3, "never"));
        updates.push(update("auditor", 3, "never"));
        updates.push(update("manager", 2, "never"));
        updates.push(update("assigned", 3, "never"));
        updates.push(update("admin", 999, "never"));
        updates.push(update("admin", 3, "never\0"));
        updates.push(Update { etag: Some("x".to_owned()), ..update("admin", 3, "never") });
        updates.push(Update { validate_only: true, ..update("admin", 3, "never") });
    }
    let outcomes = join_all(updates.into_iter().map(|update| apply(&store, update))).await;
    for round in outcomes.chunks(11) {
        assert!(round[..3].iter().all(Result::is_ok), "{round:?}");
        assert!(matches!(round[3], Err(Error::ActorRefused(_))));
        assert!(matches!(round[4], Err(Error::NotAuthorized)));
        assert!(matches!(round[5], Err(Error::ActorRefused(_))));
        assert!(matches!(round[6], Err(Error::UserNotFound(_))));
        assert!(matches!(round[7], Err(Error::UserNotFound(_))));
        let Err(Error::Invalid(violations)) = &round[8] else { panic!("{round:?}") };
        assert!(matches!(&violations[..], [Violation { field: Field::city, .. }]));
        assert!(matches!(round[9], Err(Error::EtagMismatch)));
        assert!(round[10].is_ok());
    }
    for user_id in [3, 4, 5] {
        let version = format!("SELECT version FROM accounts WHERE id = {user_id}");
        let entries = format!("SELECT count(*) FROM change_log WHERE user_id = {user_id}");
        let entries = database.number(&entries).await;
        assert!((1..=10).contains(&entries));
        assert_eq!(database.number(&version).await, 1 + entries);
    }
    let never = "SELECT count(*) FROM accounts WHERE city LIKE 'never%'";
    assert_eq!(database.number(never).await, 0);
}

/// The same fields of several users, with every column type: a server stores them in one statement.
async fn updates_at_once_store_each_its_own_values(database: TestDatabase) {
    let store = prepared(&database).await;
    for round in 0..6 {
        let even = round % 2 == 0;
        let updates = [3, 4, 5].map(|user_id| {
            let number = i32::try_from(user_id).unwrap() * 10 + round;
            let day = NaiveDate::from_yo_opt(2027, u32::try_from(number).unwrap());
            let mut update = update("admin", user_id, &format!("City {number}"));
            for (field, value) in [
                (Field::call_limit, Value::Integer(number)),
                (Field::hidden, Value::Flag((user_id == 4) == even)),
                (Field::currency_id, Value::Id((user_id + i64::from(round)) % 3 + 1)),
                (Field::tax1_value, Value::Micros(i64::from(number) * 1_000_001)),
                (
                    Field::block_date,
                    if even { day.map_or(Value::None, Value::Date) } else { Value::None },
                ),
                (Field::responsible_manager_id, if even { Value::None } else { Value::Id(2) }),
            ] {
                update.edits.add(field, Some(Edit::Set(value)));
            }
            update
        });
        let asked = updates.clone();
        let call = CallContext::default();
        let outcomes = join_all(updates.into_iter().map(|update| apply(&store, update))).await;
        for (update, outcome) in asked.iter().zip(outcomes) {
            let answered = outcome.unwrap().user;
            let stored = store.read(&call, &update.actor, update.user_id).await.unwrap();
            assert_eq!(answered, stored);
            for (field, edit) in update.edits.iter() {
                assert_eq!(*edit, Edit::Set(stored.values[*field].clone()), "{field:?}");
            }
        }
    }
}

async fn a_locked_user_does_not_hold_up_others(database: TestDatabase) {
    let store = prepared(&database).await;
    let lock = database.lock_alice().await;
    let waiting = join_all((0..20).map(|number| {
        let store = store.clone();
        let update = update("admin", 3, &format!("City {number}"));
        async move { apply(&store, update).await }
    }));
    let waiting = tokio::spawn(waiting);
    // The lock is held until these updates are done.
    for number in 0..5 {
        apply(&store, update("admin", 4, &format!("City {number}"))).await.unwrap();
        assert!(store.ready().await.is_ok());
    }
    assert!(!waiting.is_finished());
    lock.release().await;
    for outcome in waiting.await.unwrap() {
        outcome.unwrap();
    }
}

async fn a_right_that_is_withdrawn_is_gone_on_every_replica(database: TestDatabase) {
    let replicas = [prepared(&database).await, prepared(&database).await];
    for (number, store) in replicas.iter().enumerate() {
        apply(store, update("manager", 3, &format!("City {number}"))).await.unwrap();
    }
    database.execute("UPDATE manager_group_rights SET level = 'read'").await;
    for store in &replicas {
        let refused = apply(store, update("manager", 4, "never")).await;
        assert!(matches!(refused, Err(Error::NotAuthorized)), "{refused:?}");
    }
}

async fn a_right_that_is_withdrawn_meanwhile_holds_for_an_update_that_waited(
    database: TestDatabase,
) {
    let store = prepared(&database).await;
    apply(&store, update("manager", 3, "Bonn")).await.unwrap();
    let lock = database.lock_alice().await;
    let waiting = tokio::spawn(async move { apply(&store, update("manager", 3, "never")).await });
    database.until_a_lock_is_waited_for().await;
    database.execute("UPDATE manager_group_rights SET level = 'read'").await;
    lock.release().await;
    let refused = waiting.await.unwrap();
    assert!(matches!(refused, Err(Error::NotAuthorized)), "{refused:?}");
}

/// The batch ignores reads from before its transaction.
async fn a_batch_that_waited_goes_by_what_is_stored_then(database: TestDatabase) {
    let options = Options { max_in_flight: 1, ..database.options() };
    let store = SqlStore::new(options).unwrap();
    store.prepare(true).await.unwrap();
    let admin = Actor::Account(Username::parse("admin"));
    let batch = async |other: Transaction, city: &str| {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let call = CallContext::default();
        let updates = vec![update("admin", 3, city), update("admin", 4, city)];
        let batch = store.apply_all(&call, updates, now);
        let later = async {
            until("the batch has its place", || async {
                matches!(store.read(&call, &admin, 5).await, Err(Error::Overloaded))
            })
            .await;
            if database.kind != Kind::Sqlite {
                database.until_a_lock_is_waited_for().await;
            }
            other.commit().await;
        };
        tokio::join!(batch, later).0
    };
    let other = database.begin().await;
    other
        .execute("UPDATE accounts SET city = 'Elsewhere', version = version + 1 WHERE id = 3")
        .await;
    let updated = batch(other, "York").await.unwrap().remove(0);
    assert_eq!(updated.changes[0].old, Value::Text("Elsewhere".to_owned()));
    assert_eq!(updated.user.version, 3);

    let other = database.begin().await;
    other.execute("UPDATE accounts SET city = city WHERE id = 3").await;
    other.execute("UPDATE accounts SET blocked = TRUE WHERE username = 'admin'").await;
    let Err(Error::InBatch { index: 0, error }) = batch(other, "Bonn").await else { panic!() };
    assert!(matches!(*error, Error::ActorRefused(_)), "{error:?}");
    assert_eq!(database.number("SELECT count(*) FROM accounts WHERE city = 'Bonn'").await, 0);
}

async fn it_finishes_what_it_has_begun(database: TestDatabase) {
    let store = prepared(&database).await;
    let updates = join_all((0..20).map(|number| {
        let store = store.clone();
        let update = update("admin", 3 + number % 3, &format!("City {number}"));
        async move { apply(&store, update).await }
    }));
    let (outcomes, ()) = tokio::join!(updates, store.finish());
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(matches!(apply(&store, update("admin", 3, "late")).await, Err(Error::Overloaded)));
    store.close().await;
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 20);
}

async fn more_than_it_has_room_for_is_refused(database: TestDatabase) {
    let options = Options { max_in_flight: 2, ..database.options() };
    let store = SqlStore::new(options).unwrap();
    store.prepare(true).await.unwrap();
    let updates =
        (0..10).map(|number| apply(&store, update("admin", 3, &format!("City {number}"))));
    let outcomes = join_all(updates).await;
    let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused =
        outcomes.iter().filter(|outcome| matches!(outcome, Err(Error::Overloaded))).count();
    assert_eq!((stored, refused), (2, 8));
}
