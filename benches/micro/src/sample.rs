//! A legacy call and its user: text, a decimal, a date, an e-mail address, flags, an id.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use chrono::{DateTime, Utc};
use m4_user_details::{
    domain::{
        account::{AccountType, ActingAccount, User, Username},
        rules,
        snapshot::Snapshot,
        update::{Actor, EntryPoint, Origin, Update, Updated},
        value::Values,
    },
    fields::Reference,
    measured::{Parameters, edits, translate},
    proto::UpdateUserDetailsRequest,
};

/// The parameter `u`.
pub(crate) const USERNAME: &str = "admin";
/// The parameter `user_id`.
pub(crate) const USER_ID: &str = "3";
/// The right hash of both with the demo data's key.
pub(crate) const HASH: &str = "09574460be862d62efd300117fcee3328a10b48a";

/// The call's query string.
pub(crate) const CALL: &str = "u=admin&user_id=3&hash=09574460be862d62efd300117fcee3328a10b48a\
    &first_name=Jonas&last_name=Kazlauskas&address=Gedimino+pr.+9&city=Vilnius\
    &email=jonas.kazlauskas%40example.com&hidden=1&blocked=2&ay=2026&am=5&ad=17\
    &warning_email_balance=-25.50&call_limit=25&currency_id=1";

/// The call that stored the user's previous values.
const BEFORE: &str = "u=admin&user_id=3&hash=09574460be862d62efd300117fcee3328a10b48a\
    &currency_id=2&call_limit=10&hidden=0&by=2027&bm=3&bd=31&vat_number=LT100001234567\
    &clientid=C-1003&first_name=Alice&last_name=Kazlauskien%C4%97&accounting_number=4000-03\
    &agreement_number=A-2024%2F17&language=lt&ay=2024&am=5&ad=17&taxation_country=1\
    &address=Lindenstra%C3%9Fe+4&city=K%C3%B6ln&postcode=LT-01103&county=Vilniaus&state=Vilnius\
    &mob_phone=%2B37060000003&phone=%2B37052000003&direction_id=1&email=alice%40example.com\
    &warning_email_active=1&warning_email_balance=25.5&warning_email_hour=8&tax1_name=PVM\
    &tax1_value=21&generate_invoice=1&comment=Pays+on+time.";

/// The request of a call.
pub(crate) fn request(query: &str) -> UpdateUserDetailsRequest {
    translate(&Parameters::from_form(query.as_bytes()), "POST", "192.0.2.7").request
}

/// The update of the call.
pub(crate) static UPDATE: LazyLock<Update> = LazyLock::new(|| update(CALL));

/// The snapshot for the update.
pub(crate) static FACTS: LazyLock<Snapshot> = LazyLock::new(snapshot);

/// The result of the update.
pub(crate) static UPDATED: LazyLock<Updated> =
    LazyLock::new(|| rules::apply(&UPDATE, now(), &FACTS).expect("the sample is valid").0);

/// The update of a call.
fn update(query: &str) -> Update {
    let request = request(query);
    let details = request.user_details.unwrap_or_default();
    let edits = edits(details, request.update_mask.as_ref()).expect("the mask is valid");
    Update {
        actor: Actor::Account(Username::parse(USERNAME)),
        allowed: None,
        origin: Origin::of(EntryPoint::Legacy),
        user_id: request.user_id,
        edits,
        etag: None,
        request: None,
        unchanged: Vec::new(),
        validate_only: request.validate_only,
    }
}

/// The time of the update.
pub(crate) fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn snapshot() -> Snapshot {
    let admin = ActingAccount {
        id: 1,
        account_type: AccountType::Admin,
        blocked: false,
        users_level: None,
        show_only_assigned_users: false,
    };
    let new = User {
        id: 3,
        username: "alice".to_owned(),
        account_type: AccountType::User,
        version: 1,
        create_time: now(),
        update_time: now(),
        values: Values::default(),
    };
    let references = [(Reference::Currency, [1, 2]), (Reference::Direction, [1, 2])];
    let mut snapshot = Snapshot {
        actors: [(USERNAME.to_owned(), admin)].into_iter().collect(),
        users: [(new.id, new)].into_iter().collect(),
        unreadable: Default::default(),
        requests: Default::default(),
        references: BTreeMap::from(references.map(|(kind, ids)| (kind, BTreeSet::from(ids)))),
    };
    let (updated, _) =
        rules::apply(&update(BEFORE), now(), &snapshot).expect("the sample is valid");
    snapshot.users.insert(updated.user.id, updated.user);
    snapshot
}
