//! Explains a call: the router's steps without the RPC.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use http::Request;

use super::{
    body::Unreadable,
    content_coding,
    outcome::Outcome,
    parameters::{self, Parameters, RawParameter, Take},
    request,
    translate::{Translated, translate},
};
use crate::fields::{FIELDS, Field};

/// A call as the gateway reads it.
pub(crate) struct Read {
    /// The answer if the gateway refuses the call.
    pub(crate) refused: Option<Outcome>,
    /// The parameters in order: the query string, then the body.
    pub(crate) parameters: Vec<Named>,
    /// Why the body could not be read.
    pub(crate) unreadable: Option<Unreadable>,
    /// The translated call.
    pub(crate) call: Translated,
}

/// A parameter of a call.
pub(crate) struct Named {
    /// The decoded name; bytes that are not UTF-8 are replaced.
    pub(crate) name: String,
    /// Whether the parameter is in the body.
    pub(crate) in_body: bool,
    /// Whether another parameter with the same name takes precedence.
    pub(crate) overridden: bool,
    /// Whether the call knows the parameter.
    pub(crate) known: bool,
    /// The field that the parameter writes.
    pub(crate) field: Option<Field>,
}

/// The parameters of a query string or a body, and the names of parameters with a value, in order.
#[derive(Default)]
struct Place {
    parameters: Parameters,
    names: Vec<String>,
}

impl Take for Place {
    fn take(&mut self, name: &[u8], given: impl FnOnce() -> Option<RawParameter>) {
        let given = given();
        if given.is_some() && !name.is_empty() {
            self.names.push(String::from_utf8_lossy(name).into_owned());
        }
        self.parameters.take(name, || given);
    }
}

/// Reads a call from a client at `address`. Ignores a body over `limit` bytes.
pub(crate) async fn read(request: Request<Bytes>, address: &str, limit: usize) -> Read {
    let (parts, body) = request.into_parts();
    let too_large = body.len() > limit;
    let refused = match request::route(parts.uri.path()) {
        None => Some(request::not_found()),
        Some(_) => request::refused(&parts.method).or_else(|| too_large.then(request::too_large)),
    };
    let body = if too_large { Bytes::new() } else { body };
    let (body, refused) = match content_coding::decode(&parts.headers, body, limit, |_| true) {
        Ok(body) => (body, refused),
        Err(stop) => (Ok(Bytes::new()), refused.or_else(|| Some(stop.into()))),
    };
    let query = request::query(&parts.uri, &parts.extensions);
    let (query, body): (Place, Result<Place, _>) =
        request::parameters(query, &parts.headers, body).await;
    let unreadable = body.as_ref().err().cloned();
    let body = body.unwrap_or_default();
    let parameters = named(query.names, body.names);
    let call = translate(&query.parameters.or(body.parameters), parts.method.as_str(), address);
    let call = match unreadable.clone() {
        Some(unreadable) => call.with_unreadable(unreadable),
        None => call,
    };
    Read { refused, parameters, unreadable, call }
}

fn named(query: Vec<String>, body: Vec<String>) -> Vec<Named> {
    let fields: HashMap<&str, Field> = FIELDS
        .into_iter()
        .flat_map(|field| field.parameters().into_iter().map(move |name| (name, field)))
        .collect();
    let in_query = query.len();
    let mut names: Vec<_> = query.into_iter().chain(body).collect();
    // By precedence: the query string before the body, and the last occurrence first.
    let mut seen = HashSet::new();
    let mut named: Vec<_> = (0..in_query)
        .rev()
        .chain((in_query..names.len()).rev())
        .map(|index| (index, !seen.insert(names[index].clone())))
        .collect();
    named.sort_unstable();
    let named = named.into_iter().map(|(index, overridden)| {
        let name = std::mem::take(&mut names[index]);
        let known = parameters::is_known(&name);
        let field = fields.get(&*name).copied();
        Named { name, in_body: index >= in_query, overridden, known, field }
    });
    named.collect()
}
