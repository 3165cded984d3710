//! Compiles the protos with a compiler written in Rust, so that the build needs no `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;
use protox::prost_reflect::prost_types::FileDescriptorSet;

const FILES: [&str; 6] = [
    "m4/userdetails/v1/administration_service.proto",
    "m4/userdetails/v1/error_reason.proto",
    "m4/userdetails/v1/legacy_service.proto",
    "m4/userdetails/v1/settings_service.proto",
    "m4/userdetails/v1/user_details.proto",
    "m4/userdetails/v1/user_details_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut build = tonic_prost_build::configure();
    for group in groups(&descriptors) {
        // Boxes keep messages small: most updates have few groups, and messages are moved often.
        build = build.boxed(group);
    }
    build.compile_fds(descriptors)?;
    Ok(())
}

/// The paths of a user's field groups.
fn groups(descriptors: &FileDescriptorSet) -> Vec<String> {
    let messages = descriptors.file.iter().flat_map(|file| &file.message_type);
    let details = messages.filter(|message| message.name() == "UserDetails");
    let groups = details
        .flat_map(|message| &message.field)
        .filter(|field| field.type_name().starts_with(".m4.userdetails.v1."));
    groups.map(|field| format!(".m4.userdetails.v1.UserDetails.{}", field.name())).collect()
}
