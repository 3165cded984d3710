//! Compares the service with the limit: `cargo run --release -p m4-user-details-load`.
//!
//! For each engine it creates and fills a database, starts the release build, and plays the scenes.
//! After each scene it checks that exactly the acknowledged updates are stored. At the end it
//! prints the goals and their results.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark may stop at any failure"
)]

mod arguments;
mod callers;
mod cost;
mod database;
mod engine;
mod fill;
mod goals;
mod limit;
mod measured;
mod path;
mod plot;
mod profile;
mod program;
mod report;
mod results;
mod scenes;
mod sql;
mod stage;
mod users;

use clap::Parser;

use crate::{arguments::Arguments, engine::Engine};

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    if !arguments.no_build {
        program::build();
    }
    let mut results = results::Results::new(program::stripped_size());
    for engine in Engine::available(&arguments.engines) {
        // A task catches a panic, so that no failure leaves a database behind.
        let scenes = tokio::spawn(scenes::play(engine.clone(), arguments.clone()));
        let played = scenes.await;
        database::drop_all(&engine).await;
        match played {
            Ok(played) => results.add(played),
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
    report::write(&results, &arguments.out);
}
