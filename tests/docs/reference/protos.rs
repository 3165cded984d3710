//! Tables from the protos and their comments.

use std::fmt::Write;

use m4_user_details::{fields::Field, proto::DESCRIPTORS};
use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use super::{code, markdown};

const PACKAGE: &str = "m4.userdetails.v1";

/// The numbers of the parts of a path in `SourceCodeInfo`; see `descriptor.proto`.
const MESSAGE: i32 = 4;
const ENUM: i32 = 5;
const SERVICE: i32 = 6;
const MEMBER: i32 = 2;

fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    set.file.into_iter().filter(|file| file.package() == PACKAGE).collect()
}

/// The comment of an element, in one line.
fn comment_at(file: &FileDescriptorProto, path: &[i32]) -> String {
    let locations = &file.source_code_info.as_ref().expect("comments").location;
    let own = locations.iter().find(|location| location.path == path).expect("an element");
    own.leading_comments().trim().to_owned()
}

fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Each message with its file and its index there.
fn each_message(mut visit: impl FnMut(&FileDescriptorProto, i32, &DescriptorProto)) {
    for file in files() {
        for (index, message) in (0..).zip(&file.message_type) {
            visit(&file, index, message);
        }
    }
}

/// The comment of a field of a user.
pub fn comment(field: Field) -> String {
    let mut group = String::new();
    each_message(|_, _, message| {
        if message.name() == "UserDetails" {
            let own = message.field.iter().find(|own| own.name() == field.group()).unwrap();
            own.type_name().rsplit('.').next().unwrap().clone_into(&mut group);
        }
    });
    let mut comment = String::new();
    each_message(|file, index, message| {
        if message.name() == group {
            let own = message.field.iter().position(|own| own.name() == field.name()).unwrap();
            let own = i32::try_from(own).unwrap();
            comment = line(&comment_at(file, &[MESSAGE, index, MEMBER, own]));
        }
    });
    assert!(!comment.is_empty(), "{} has no comment", field.path());
    comment
}

/// Every method, by service.
pub fn methods() -> String {
    let mut text = String::new();
    for file in files() {
        for (index, service) in (0..).zip(&file.service) {
            let rows = (0..).zip(&service.method).map(|(number, method)| {
                let comment = comment_at(&file, &[SERVICE, index, MEMBER, number]);
                let (about, errors) = comment.split_once("Errors:").expect(&comment);
                let kind = if method.server_streaming() { " (stream)" } else { "" };
                vec![format!("{}{kind}", code(method.name())), line(about), line(errors)]
            });
            let table = markdown(&["method", "what it does", "reasons of its errors"], rows);
            let _ = writeln!(text, "### {}\n\n{table}", service.name());
        }
    }
    text
}

/// Every reason of an error.
pub fn reasons() -> String {
    let files = files();
    let mut rows = Vec::new();
    for file in &files {
        for (index, own) in (0..).zip(&file.enum_type) {
            if own.name() != "ErrorReason" {
                continue;
            }
            for (number, value) in (0..).zip(&own.value).skip(1) {
                let comment = comment_at(file, &[ENUM, index, MEMBER, number]);
                let (codes, about) = comment.split_once(": ").expect(&comment);
                let name = value.name().strip_prefix("ERROR_REASON_").unwrap();
                rows.push(vec![code(name), codes.to_owned(), capital(&line(about))]);
            }
        }
    }
    rows.sort();
    markdown(&["reason", "gRPC code", "meaning"], rows)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

/// The settings in the database.
pub fn settings() -> String {
    let mut text = String::new();
    each_message(|file, index, message| {
        if message.name() == "Settings" {
            text = fields(file, index, message);
        }
    });
    text
}

/// The messages of requests and responses. The groups of `UserDetails` have a table of their own.
pub fn messages() -> String {
    let mut text = String::new();
    each_message(|file, index, message| {
        let is_group = file.name().ends_with("/user_details.proto");
        if (is_group && message.name() != "UserDetails") || message.name() == "Settings" {
            return;
        }
        let about = line(&comment_at(file, &[MESSAGE, index]));
        let about = about.split(". ").next().unwrap().trim_end_matches('.').to_owned() + ".";
        let _ = writeln!(text, "### {}\n\n{about}\n", message.name());
        if !message.field.is_empty() {
            let _ = writeln!(text, "{}", fields(file, index, message));
        }
    });
    text
}

fn fields(file: &FileDescriptorProto, index: i32, message: &DescriptorProto) -> String {
    let rows = (0..).zip(&message.field).map(|(number, field)| {
        let comment = line(&comment_at(file, &[MESSAGE, index, MEMBER, number]));
        vec![code(field.name()), code(&type_of(field)), comment]
    });
    markdown(&["field", "type", "meaning"], rows)
}

/// The type of a field, as in the proto.
fn type_of(field: &FieldDescriptorProto) -> String {
    let name = match field.r#type() {
        Type::Message | Type::Enum => {
            let own = format!(".{PACKAGE}.");
            let name = field.type_name();
            name.strip_prefix(&own).unwrap_or(name.trim_start_matches('.')).to_owned()
        }
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    if field.label() == Label::Repeated { format!("repeated {name}") } else { name }
}
