//! The program: arguments in, an exit code out.

use std::process::ExitCode;

use clap::Parser;
use m4_user_details::cli::Cli;

fn main() -> std::io::Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    let code = runtime.block_on(cli.run());
    // After a second signal, blocking tasks may still wait for a database or a receiver.
    runtime.shutdown_background();
    Ok(ExitCode::from(code))
}
