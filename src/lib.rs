//! The authority for the details of a user of a telecom billing system.

pub mod app;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod domain;
pub mod fields;
pub mod grpc;
pub mod legacy;
mod listen;
pub mod proto;
pub mod storage;
pub mod telemetry;
