//! The fields of a user, from the field table and the protos.

use m4_user_details::fields::{FIELDS, Field, Kind, Reference};

use super::{code, markdown, protos};

/// The parameters of the legacy call.
pub fn legacy() -> String {
    let rows = FIELDS.into_iter().flat_map(|field| {
        field.parameters().into_iter().map(move |parameter| {
            vec![
                code(parameter),
                meaning(field, parameter),
                value(field, parameter),
                code(field.path()),
            ]
        })
    });
    markdown(&["parameter", "meaning", "value", "gRPC field"], rows)
}

/// The fields of `UserDetails`.
pub fn grpc() -> String {
    let rows = FIELDS.into_iter().map(|field| {
        let (proto, json, example) = types(field);
        let allowed = field.allowed().strip_prefix("must be ");
        let allowed = match field.kind() {
            Kind::Flag { .. } => "true or false",
            Kind::Count => "0 to 2147483647",
            Kind::List { .. } => "`LIST_MODE_NO`, `LIST_MODE_BLACKLIST` or `LIST_MODE_WHITELIST`",
            Kind::Date { .. } => "a day of the years 1900 to 9999",
            _ => allowed.unwrap_or(field.allowed()),
        };
        vec![
            code(field.path()),
            code(proto),
            format!("{json}: `{example}`"),
            protos::comment(field),
            allowed.to_owned(),
        ]
    });
    markdown(&["path", "type", "in JSON", "meaning", "value"], rows)
}

/// The type in the proto, the type in JSON, and an example of a value in JSON.
fn types(field: Field) -> (&'static str, &'static str, &'static str) {
    match field.kind() {
        Kind::Id(_) => ("int64", "string", "\"7\""),
        Kind::Count | Kind::Hour => ("int32", "number", "7"),
        Kind::Flag { .. } => ("bool", "boolean", "true"),
        Kind::Decimal { .. } => ("string", "string", "\"19.95\""),
        Kind::List { .. } => ("ListMode", "enum name", "\"LIST_MODE_BLACKLIST\""),
        Kind::Date { .. } => ("Date", "object", "{\"year\": 2027, \"month\": 1, \"day\": 31}"),
        Kind::Language => ("string", "string", "\"en\""),
        Kind::Email => ("string", "string", "\"a@b.example\""),
        Kind::Text | Kind::Comment => ("string", "string", "\"text\""),
    }
}

fn meaning(field: Field, parameter: &str) -> String {
    let meaning = protos::comment(field);
    match field.kind() {
        Kind::Date { parts } => {
            let part =
                ["Year", "Month", "Day"][parts.iter().position(|part| *part == parameter).unwrap()];
            let (first, rest) = meaning.split_at(1);
            format!("{part} of `{}`: {}{rest}", field.name(), first.to_lowercase())
        }
        _ => meaning,
    }
}

/// The values of a parameter.
fn value(field: Field, parameter: &str) -> String {
    match field.kind() {
        Kind::Date { parts } => {
            let ranges = ["1900 to 9999", "1 to 12", "1 to 31"];
            ranges[parts.iter().position(|part| *part == parameter).unwrap()].to_owned()
        }
        Kind::List { .. } => "`no`, `blacklist` or `whitelist`".to_owned(),
        Kind::Id(Reference::Manager) => "the id of a manager, or -1 for none".to_owned(),
        Kind::Flag { off: "2" } => "1 is blocked, **2 is not blocked**".to_owned(),
        _ => field.allowed().strip_prefix("must be ").unwrap_or(field.allowed()).to_owned(),
    }
}
