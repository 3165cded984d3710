//! The system of record for user details of a telecom billing system.
//!
//! A request enters at [`grpc`], or at [`gateway`], which calls the service only through the
//! generated gRPC client. Both use [`legacy_call`]: the gateway to answer legacy calls, [`grpc`] to
//! explain them. [`server`] has the listeners of both.
//!
//! [`domain`] contains the rules, without transport or SQL. [`storage`] loads a snapshot for the
//! rules and stores their result in one transaction. [`fields`] is the table of user fields, which
//! every layer may import. [`app`] is the composition root, and [`cli`] runs it.

mod admin;
pub mod app;
pub mod budget;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod domain;
pub mod fields;
pub mod finding;
pub mod gateway;
pub mod grpc;
mod import;
pub mod jwt;
pub mod legacy_call;
pub mod limits;
pub mod networks;
pub mod proto;
pub mod retirement;
pub mod secrets;
pub mod server;
pub mod shutdown;
pub mod storage;
pub mod telemetry;
pub mod tls;
mod trace;
mod upstream;

/// Parts of a call that `benches/micro` measures and `fuzz` calls; no other crate needs them.
#[doc(hidden)]
pub mod measured {
    use bytes::Bytes;
    use http::HeaderMap;

    use crate::{
        domain::{error::Error, page_token::TokenKey},
        grpc::user_details,
        legacy_call::body,
        proto::{ListUserDetailsChangesRequest, ListUserDetailsRequest},
    };
    pub use crate::{
        grpc::convert::{edits, paths, read_mask, user_details, values},
        legacy_call::{parameters::Parameters, translate::translate, xml::Answer},
    };

    /// Parses the parameters of a body; `None` if that fails.
    pub async fn body_parameters(headers: &HeaderMap, body: Bytes) -> Option<Parameters> {
        body::parameters(headers, body).await.ok()
    }

    /// Parses a request for a page of users.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn user_page(request: ListUserDetailsRequest) -> Result<(), Error> {
        user_details::list::to_query(request, TokenKey::new(&[0; 32])).map(drop)
    }

    /// Parses a request for a page of the change log.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn change_page(request: ListUserDetailsChangesRequest) -> Result<(), Error> {
        user_details::list_changes::to_query(request, TokenKey::new(&[0; 32])).map(drop)
    }
}
