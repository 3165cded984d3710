//! The legacy call without input and output: parsing, translation to the RPC, and rendering. Shared
//! by the gateway and by the RPC that explains legacy calls.

pub(crate) mod body;
pub(crate) mod content_coding;
pub(crate) mod explain;
pub(crate) mod outcome;
pub(crate) mod parameters;
pub(crate) mod request;
pub(crate) mod translate;
pub(crate) mod xml;

pub use request::{Target, target};

/// The value of a parameter in a query string; `None` if the value is missing or not text.
pub fn query_parameter(query: &str, name: &str) -> Option<String> {
    let parameters = parameters::Parameters::from_form(query.as_bytes());
    parameters.get(name)?.text().map(str::to_owned)
}
