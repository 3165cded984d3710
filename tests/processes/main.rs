//! The program as a process of its own: signals, crashes, a door of its own, telemetry.

#[path = "../support/mod.rs"]
mod support;
