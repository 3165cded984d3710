//! Compiles the protos with a compiler written in Rust, so that the build needs no `protoc`.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

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
    tell_source()?;
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

/// Passes the commit and the time of a release build on to `--version`. Other builds would be repeated
/// after each commit.
fn tell_source() -> Result<(), Box<dyn Error>> {
    let (mut commit, mut time) = ("unknown".to_owned(), "unknown".to_owned());
    if env::var("PROFILE")? == "release" {
        // Absent in a source archive.
        for file in [".git/HEAD", ".git/logs/HEAD"].iter().filter(|file| Path::new(file).exists()) {
            println!("cargo:rerun-if-changed={file}");
        }
        println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
        commit = told("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or(commit);
        let date =
            env::var("SOURCE_DATE_EPOCH").map_or("now".to_owned(), |time| format!("@{time}"));
        let format = "+%Y-%m-%dT%H:%M:%SZ";
        time = told("date", &["--utc", "--date", &date, format]).unwrap_or(time);
    }
    println!("cargo:rustc-env=M4_BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=M4_BUILD_TIME={time}");
    Ok(())
}

/// The output of a program, if there is the program and it succeeds.
fn told(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
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
