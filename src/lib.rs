//! The authority for the details of a user of a telecom billing system.

pub mod credentials;
pub mod domain;
pub mod fields;
pub mod proto;
pub mod storage;
