//! The real application, in this process, on every engine.

#[path = "../support/mod.rs"]
mod support;

mod store;
