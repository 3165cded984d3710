//! The rules: who may change whom, which changes are valid, what is stored. No transport or SQL.

pub mod account;
pub mod call_context;
pub mod clock;
pub mod error;
pub mod explain;
pub mod hash;
pub mod identity;
pub mod listing;
pub mod page_token;
pub mod readiness;
pub mod rules;
pub mod scope;
pub mod service;
pub mod settings;
pub mod snapshot;
pub mod store;
pub mod token;
pub mod token_cache;
pub mod ttl_cache;
pub mod update;
pub mod value;
pub mod watch;
