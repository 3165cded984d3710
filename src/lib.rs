//! The authority for the details of a user of a telecom billing system.
//!
//! A request enters at [`grpc`], or at [`legacy`], which is a client of the generated gRPC client and of nothing else;
//! what [`grpc`] tells of a legacy call it has from the door's own parsing and rendering, which know nobody.
//! The rules are in [`domain`], which knows neither transport nor SQL; the data lies behind [`storage`], which loads what
//! the rules must know and stores what they decide, in one transaction. [`fields`] is the table of a user's fields, a
//! leaf that every layer may import; [`app`] puts the parts together, and [`cli`] runs them.

mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod domain;
pub mod fields;
pub mod grpc;
pub mod jwt;
pub mod legacy;
pub mod listen;
pub mod proto;
pub mod storage;
pub mod telemetry;
pub mod tls;
mod trace;
mod upstream;

/// Parts of a call that no other crate needs, for `benches/micro` to measure one by one.
#[doc(hidden)]
pub mod measured {
    pub use crate::{
        grpc::convert::{edits, paths, user_details, values},
        legacy::{parameters::Parameters, translate::translate, xml::Answer},
    };
}
