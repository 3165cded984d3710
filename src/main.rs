//! The program: arguments in, an exit code out.

use std::process::ExitCode;

use clap::Parser;
use m4_user_details::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    ExitCode::from(Cli::parse().run().await)
}
