//! The legacy door: turns a hashed HTTP call into one RPC, and the answer into XML. A client of the generated gRPC
//! client and of nothing else: no database, no secret, no rule.

mod body;
pub(crate) mod explain;
mod observed;
pub(crate) mod outcome;
pub(crate) mod parameters;
mod request;
mod router;
pub mod server;
pub(crate) mod translate;
pub(crate) mod xml;

pub use request::target;
pub use router::{Answers, Door, Limits};

/// The value of a parameter in a query string, as the call reads it; none where it is missing or no text.
pub fn query_parameter(query: &str, name: &str) -> Option<String> {
    match parameters::Parameters::from_form(query.as_bytes()).get(name)? {
        parameters::Given::Text(text) => Some(text.clone()),
        parameters::Given::NoText => None,
    }
}
