//! Compiles the protos with a compiler written in Rust, so that a machine needs no `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 5] = [
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
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
