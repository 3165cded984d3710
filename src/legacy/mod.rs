//! The legacy gateway: translates a hashed HTTP call to one RPC, and the result to XML. The gateway
//! uses only the generated gRPC client: no database, no secret, no rule.

pub(crate) mod body;
mod body_reader;
mod content_coding;
pub(crate) mod explain;
pub(crate) mod head;
mod observed;
pub(crate) mod outcome;
pub(crate) mod parameters;
mod readiness;
mod request;
mod router;
pub mod server;
pub(crate) mod translate;
pub(crate) mod xml;

pub(crate) use readiness::Readiness;
pub use request::{Target, target};
pub use router::{Answers, Gateway, Limits};

/// The value of a parameter in a query string; `None` if the value is missing or not text.
pub fn query_parameter(query: &str, name: &str) -> Option<String> {
    let parameters = parameters::Parameters::from_form(query.as_bytes());
    parameters.get(name)?.text().map(str::to_owned)
}

/// The limits of a request, for the reference.
pub(crate) mod limits {
    pub(crate) use super::{
        body::{MAX_BOUNDARY, MAX_MEMBERS},
        head::{MAX_FIELD_COUNT, MAX_FIELDS, MAX_HEAD},
    };
}
