//! The gateway always answers well-formed XML, and changes nothing without a valid hash.

use std::sync::LazyLock;

use ::http::Method;
use m4_user_details::{
    fields::{FIELDS, Field, Kind},
    proto::{Date, Leaf, ListMode, UpdateUserDetailsRequest, UserDetails},
};
use proptest::{
    collection::vec, prelude::*, sample::select, string::string_regex, test_runner::TestRunner,
};

use crate::support::{
    app::{PATH, TestApp, hash},
    database::{Kind as Engine, TestDatabase},
};

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());

struct Sqlite {
    app: TestApp,
    database: TestDatabase,
    _folder: tempfile::TempDir,
}

fn start() -> Sqlite {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let database = TestDatabase { kind: Engine::Sqlite, url };
    let app = RUNTIME.block_on(TestApp::start(&database));
    Sqlite { app, database, _folder: folder }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })
}

/// Known and unknown parameter names.
fn name() -> impl Strategy<Value = String> {
    let known: Vec<String> =
        FIELDS.into_iter().flat_map(Field::parameters).map(str::to_owned).collect();
    let special = ["u", "user_id", "hash"].map(str::to_owned).to_vec();
    prop_oneof![select(known), select(special), "[a-z%+_\\[\\]]{0,12}"]
}

/// Any text that a request target may contain.
fn target_text(longest: usize) -> impl Strategy<Value = String> {
    string_regex(&format!("([!$'()*,./0-9:;=?@A-Za-z_~+&-]|%[0-9a-fA-F]{{2}}|%){{0,{longest}}}"))
        .unwrap()
}

fn query() -> impl Strategy<Value = String> {
    let pair = (name(), target_text(24)).prop_map(|(name, value)| format!("{name}={value}"));
    prop_oneof![
        4 => vec(pair, 0..20).prop_map(|pairs| pairs.join("&")),
        1 => target_text(200),
        1 => (target_text(60), 1..1000_usize).prop_map(|(text, times)| {
            let mut long = text.repeat(times);
            long.truncate(60 * 1024 - PATH.len() - 1);
            long
        }),
    ]
}

fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let types = [
        "application/x-www-form-urlencoded",
        "application/json",
        "multipart/form-data; boundary=X",
        "multipart/form-data",
        "text/plain",
        "",
    ];
    let json = vec((name(), "(\"[^\"\\\\]{0,20}\"|null|true|-?[0-9]{1,5}|\\[1\\]|\\{\\})"), 0..8)
        .prop_map(|pairs| {
            let members: Vec<_> =
                pairs.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
            format!("{{{}}}", members.join(",")).into_bytes()
        });
    let part = (name(), vec(any::<u8>(), 0..20)).prop_map(|(name, value)| {
        let mut part =
            format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes();
        part.extend(value);
        part.extend(b"\r\n");
        part
    });
    let parts = vec(part, 0..6).prop_map(|parts| [parts.concat(), b"--X--\r\n".to_vec()].concat());
    let bytes =
        prop_oneof![vec(any::<u8>(), 0..300), query().prop_map(String::into_bytes), json, parts,];
    (select(types.to_vec()).prop_map(str::to_owned), bytes)
}

#[test]
fn any_request_is_answered_in_well_formed_xml_and_changes_nothing() {
    let sqlite = start();
    let before = RUNTIME.block_on(sqlite.app.read(3));
    let methods = [Method::POST, Method::GET, Method::PUT];
    let paths = prop_oneof![6 => Just(PATH.to_owned()), 1 => target_text(80).prop_map(|text| {
        format!("/{}", text.replace(['?', '#'], "/"))
    })];
    let target = (paths, query()).prop_map(|(path, query)| format!("{path}?{query}"));
    runner(1500)
        .run(&(select(methods.to_vec()), target, body()), |(method, target, (kind, body))| {
            let headers = [("content-type", kind.as_str())];
            let headers = if kind.is_empty() { &headers[..0] } else { &headers[..] };
            let answer = RUNTIME.block_on(sqlite.app.send(method, &target, headers, body));
            let document = roxmltree::Document::parse(&answer.body);
            let document = document.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(document.root_element().tag_name().name(), "status");
            prop_assert!(document.descendants().any(|node| node.has_tag_name("error")));
            prop_assert!(!answer.body.contains("success"));
            Ok(())
        })
        .unwrap();
    assert_eq!(RUNTIME.block_on(sqlite.app.read(3)), before);
    assert_eq!(RUNTIME.block_on(sqlite.database.number("SELECT count(*) FROM change_log")), 0);
}

#[test]
fn any_parameters_with_a_right_hash_are_answered_in_well_formed_xml() {
    let sqlite = start();
    let right = format!("u=admin&user_id=3&hash={}", hash("admin", "3"));
    runner(1000)
        .run(&(query(), body()), |(query, (kind, body))| {
            // The last value wins, so the credentials are at the end.
            let target = format!("{PATH}?{query}&{right}");
            let before = RUNTIME.block_on(sqlite.app.read(3));
            let headers = [("content-type", kind.as_str())];
            let headers = if kind.is_empty() { &headers[..0] } else { &headers[..] };
            let answer = RUNTIME.block_on(sqlite.app.send(Method::POST, &target, headers, body));
            let document = roxmltree::Document::parse(&answer.body);
            let document = document.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(document.root_element().tag_name().name(), "page");
            if document.descendants().any(|node| node.has_tag_name("error")) {
                prop_assert_eq!(RUNTIME.block_on(sqlite.app.read(3)), before);
            }
            Ok(())
        })
        .unwrap();
}

/// A valid value of a field; none for the ids and dates that stay unset.
fn value(field: Field) -> BoxedStrategy<Option<Leaf>> {
    let text = |pattern: &str| {
        string_regex(pattern).unwrap().prop_map(|text| Some(Leaf::Text(text))).boxed()
    };
    match field.kind() {
        Kind::Id(reference) => {
            let ids = match reference {
                m4_user_details::fields::Reference::Manager => vec![2, 6, 7, 8],
                m4_user_details::fields::Reference::NumberPool => vec![1, 2],
                _ => vec![1, 2, 3],
            };
            select(ids).prop_map(|id| Some(Leaf::Int64(id))).boxed()
        }
        Kind::Count => (0..=i32::MAX).prop_map(|number| Some(Leaf::Int32(number))).boxed(),
        Kind::Hour => {
            prop_oneof![Just(-1), 1..24].prop_map(|number| Some(Leaf::Int32(number))).boxed()
        }
        Kind::Flag { .. } => any::<bool>().prop_map(|flag| Some(Leaf::Bool(flag))).boxed(),
        Kind::Text | Kind::Comment => text("[^\\p{Cc}]{0,255}|[\t\r\n]{0,5}"),
        Kind::Language => text("([a-zA-Z_-]{2,10})?"),
        Kind::Email => text("([a-z.!#+]{1,20}@[a-z0-9]{1,10}(\\.[a-z]{1,5}){0,3})?"),
        Kind::Decimal { negative } => {
            let sign = if negative { i64::MIN } else { 0 };
            // Canonical form: no trailing zeros.
            (0..1_000_000_000_000_000_000_i64, any::<bool>())
                .prop_map(move |(micros, minus)| {
                    let micros = if minus && sign != 0 { -micros } else { micros };
                    let text = rust_decimal::Decimal::new(micros, 6).normalize().to_string();
                    Some(Leaf::Text(text))
                })
                .boxed()
        }
        Kind::List { .. } => select(vec![ListMode::No, ListMode::Blacklist, ListMode::Whitelist])
            .prop_map(|mode| Some(Leaf::Int32(mode as i32)))
            .boxed(),
        Kind::Date { .. } => (1900..=9999, 1..=12, 1..=28)
            .prop_map(|(year, month, day)| {
                Some(Leaf::Date(Date { year: Some(year), month: Some(month), day: Some(day) }))
            })
            .boxed(),
    }
}

#[test]
fn any_valid_values_are_read_back_as_they_were_sent() {
    let sqlite = start();
    let values: Vec<_> = FIELDS.into_iter().map(value).collect();
    runner(200)
        .run(&values, |values| {
            let mut details = UserDetails::default();
            for (field, leaf) in FIELDS.into_iter().zip(values) {
                if let Some(leaf) = leaf {
                    details.set(field, leaf);
                }
            }
            let request = UpdateUserDetailsRequest {
                user_id: 4,
                user_details: Some(details.clone()),
                ..UpdateUserDetailsRequest::default()
            };
            let answer = RUNTIME.block_on(sqlite.app.update(request));
            prop_assert!(answer.is_ok(), "{:?}", answer);
            let mut stored = RUNTIME.block_on(sqlite.app.read(4));
            for field in FIELDS {
                prop_assert_eq!(stored.take(field), details.take(field), "{}", field.path());
            }
            Ok(())
        })
        .unwrap();
}
