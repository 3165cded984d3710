//! The protos match the field table, the architecture and the sample configuration match the code,
//! and health and reflection answer.

use std::{collections::BTreeSet, fs, path::Path};

use m4_user_details::{
    config::reference,
    fields::{FIELDS, Kind},
    proto::{DESCRIPTORS, Date, Leaf, UserDetails},
};
use prost::Message;
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{app::TestApp, database::TestDatabase, on_every_engine};

on_every_engine!(health_tells_that_each_service_is_serving, reflection_answers_v1_and_v1alpha);

#[test]
fn the_field_table_has_every_leaf_of_the_proto_with_its_type() {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let messages: Vec<_> = files.file.iter().flat_map(|file| &file.message_type).collect();
    let message = |name: &str| *messages.iter().find(|message| message.name() == name).unwrap();
    let mut leaves = BTreeSet::new();
    for group in &message("UserDetails").field {
        if group.r#type() != Type::Message || group.type_name().starts_with(".google") {
            continue;
        }
        let name = group.type_name().rsplit('.').next().unwrap();
        for leaf in &message(name).field {
            assert!(leaf.proto3_optional(), "{} has no presence", leaf.name());
            leaves.insert((format!("{}.{}", group.name(), leaf.name()), leaf.r#type() as i32));
        }
    }
    let expected: BTreeSet<_> = FIELDS
        .into_iter()
        .map(|field| {
            let wire = match field.kind() {
                Kind::Id(_) => Type::Int64,
                Kind::Count | Kind::Hour => Type::Int32,
                Kind::Flag { .. } => Type::Bool,
                Kind::List { .. } => Type::Enum,
                Kind::Date { .. } => Type::Message,
                _ => Type::String,
            };
            (field.path().to_owned(), wire as i32)
        })
        .collect();
    assert_eq!(leaves, expected);
}

#[test]
fn a_leaf_that_is_set_can_be_taken_out_again() {
    let mut details = UserDetails::default();
    for field in FIELDS {
        let leaf = match field.kind() {
            Kind::Id(_) => Leaf::Int64(1),
            Kind::Count | Kind::Hour | Kind::List { .. } => Leaf::Int32(1),
            Kind::Flag { .. } => Leaf::Bool(true),
            Kind::Date { .. } => Leaf::Date(Date::default()),
            _ => Leaf::Text("x".to_owned()),
        };
        assert_eq!(details.take(field), None);
        details.set(field, leaf.clone());
        assert_eq!(details.take(field), Some(leaf), "{}", field.path());
    }
}

async fn health_tells_that_each_service_is_serving(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut health = HealthClient::new(app.channel.clone());
    for service in [
        "",
        "m4.userdetails.v1.UserDetailsService",
        "m4.userdetails.v1.SettingsService",
        "m4.userdetails.v1.LegacyService",
    ] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap();
        assert_eq!(answer.get_ref().status(), ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest { service: "unknown".to_owned() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
}

async fn reflection_answers_v1_and_v1alpha(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let services = BTreeSet::from([
        "m4.userdetails.v1.UserDetailsService".to_owned(),
        "m4.userdetails.v1.SettingsService".to_owned(),
        "m4.userdetails.v1.LegacyService".to_owned(),
    ]);
    macro_rules! listed {
        ($version:ident) => {{
            use $version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let requests = futures_util::stream::iter([request]);
            let mut client = ServerReflectionClient::new(app.channel.clone());
            let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
            let answer = answers.message().await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                panic!("{answer:?}");
            };
            list.service.into_iter().map(|service| service.name).collect::<BTreeSet<_>>()
        }};
    }
    assert!(listed!(v1).is_superset(&services));
    assert!(listed!(v1alpha).is_superset(&services));
}

#[test]
fn the_sample_configuration_has_every_key() {
    let sample = reference::sample();
    let file = include_str!("../../deploy/m4-user-details.toml");
    assert!(file == sample, "deploy/m4-user-details.toml should be:\n{sample}");
}

const ARCHITECTURE: &str = include_str!("../../docs/architecture.md");
/// Minimum number of functions in the architecture: a change of the format must not hide them.
const MIN_FUNCTIONS: usize = 20;

/// The file and the name of a function, from a list item such as "1. `src/app.rs`: `run`: ...".
fn function_of(line: &str) -> Option<(&str, &str)> {
    let (marker, item) = line.trim_start().split_once(' ')?;
    let is_number = |number: &str| number.parse::<u32>().is_ok();
    if marker != "-" && !marker.strip_suffix('.').is_some_and(is_number) {
        return None;
    }
    let item = item.strip_prefix('`').filter(|item| item.starts_with("src/"))?;
    let (file, rest) = item.split_once("`: `").expect(line);
    let (name, _) = rest.split_once("`: ").expect(line);
    Some((file, name))
}

#[test]
fn the_architecture_names_functions_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let functions: Vec<_> = ARCHITECTURE.lines().filter_map(function_of).collect();
    for (file, name) in &functions {
        let source = fs::read_to_string(root.join(file)).expect(file);
        let source = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let (owner, name) = name.split_once("::").unwrap_or(("", name));
        // A block of the type ends with a brace at the beginning of a line.
        let blocks = source.split("\nimpl").map(|block| block.split("\n}").next().unwrap());
        let of_owner =
            blocks.filter(|block| block.lines().next().is_some_and(|head| head.contains(owner)));
        let text = if owner.is_empty() { source.to_owned() } else { of_owner.collect() };
        let definitions = ['(', '<'].map(|next| text.matches(&format!("fn {name}{next}")).count());
        assert_eq!(definitions.iter().sum::<usize>(), 1, "{file}: {owner} {name}");
    }
    assert!(functions.len() >= MIN_FUNCTIONS, "{} functions", functions.len());
}
