//! The authority for the details of a user of a telecom billing system.
//!
//! A request enters at [`grpc`], or at [`legacy`], which is a client of the generated gRPC client and of nothing else;
//! what [`grpc`] tells of a legacy call it has from the door's own parsing and rendering, which know nobody.
//! The rules are in [`domain`], which knows neither transport nor SQL; the data lies behind [`storage`], which loads what
//! the rules must know and stores what they decide, in one transaction. [`fields`] is the table of a user's fields, a
//! leaf that every layer may import; [`app`] puts the parts together, and [`cli`] runs them.

mod admin;
pub mod app;
pub mod budget;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod domain;
mod environment;
pub mod fields;
pub mod grpc;
pub mod jwt;
pub mod legacy;
pub mod limits;
pub mod listen;
mod maintenance;
pub mod proto;
pub mod shutdown;
pub mod storage;
pub mod telemetry;
pub mod tls;
mod trace;
mod upstream;

/// Parts of a call that no other crate needs. `benches/micro` measures them, and `fuzz` calls them.
#[doc(hidden)]
pub mod measured {
    use bytes::Bytes;
    use http::HeaderMap;

    use crate::{
        domain::{error::Error, page_token::TokenKey},
        grpc::listing,
        legacy::body,
        proto::{ListUserDetailsChangesRequest, ListUserDetailsRequest},
    };
    pub use crate::{
        grpc::convert::{edits, paths, read_mask, user_details, values},
        legacy::{parameters::Parameters, translate::translate, xml::Answer},
    };

    /// Reads the parameters of a body; none where it cannot be read.
    pub async fn body_parameters(headers: &HeaderMap, body: Bytes) -> Option<Parameters> {
        body::parameters(headers, body).await.ok()
    }

    /// Reads the request of a page of users.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn user_page(request: ListUserDetailsRequest) -> Result<(), Error> {
        listing::users(request, TokenKey::new(&[0; 32])).map(drop)
    }

    /// Reads the request of a page of the change log.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn change_page(request: ListUserDetailsChangesRequest) -> Result<(), Error> {
        listing::changes(request, TokenKey::new(&[0; 32])).map(drop)
    }
}
