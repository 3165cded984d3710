//! The TOML file of client certificates and their holders.

use std::{fs, sync::Arc};

use figment::{
    Figment,
    providers::{Format, Toml},
};
use serde::Deserialize;

use super::{Config, checks::Checks, grpc::Grpc, masked::shown};
use crate::{
    domain::{
        identity::Identity,
        scope::{FieldSet, Scope},
    },
    fields::FIELDS,
    grpc::certificates::Certificates,
    tls::File,
};

const KEY: &str = "grpc.certificates_file";

/// The content of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    #[serde(default)]
    identity: Vec<ListedIdentity>,
    #[serde(default)]
    door: Vec<ListedDoor>,
}

/// A caller of the typed API.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedIdentity {
    san: String,
    name: String,
    scopes: Vec<String>,
    fields: Option<Vec<String>>,
}

/// A standalone gateway.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedDoor {
    san: String,
}

impl Config {
    /// The files of certificates: of the listeners, of clients' authorities, and of the upstream.
    pub fn certificate_files(&self) -> Vec<&File> {
        let mut files = Vec::new();
        for tls in [&self.grpc_tls, &self.http_tls].into_iter().flatten() {
            let source = tls.source();
            files.push(&source.certificate);
            files.extend(source.clients.as_ref().map(|clients| &clients.authorities));
        }
        if let Some(tls) = self.upstream.as_ref().and_then(|upstream| upstream.tls.as_ref()) {
            let source = tls.source();
            files.push(&source.authorities);
            files.extend(source.own.as_ref().map(|(certificate, _)| certificate));
        }
        files
    }
}

impl Grpc {
    /// The holders of client certificates.
    pub(super) fn certificates(&self, checks: &mut Checks<'_>) -> Certificates {
        let Some(path) = &self.certificates_file else { return Certificates::default() };
        if self.tls_client_ca.is_none() {
            checks.wrong(KEY, "needs grpc.tls_client_ca");
        }
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| format!("cannot be read: {}", error.kind()));
        let certificates = text.and_then(|text| {
            let listed = Figment::from(Toml::string(&text)).extract();
            parse(listed.map_err(|error| format!("cannot be read: {}", shown(&error)))?)
        });
        certificates.unwrap_or_else(|problem| {
            checks.wrong(KEY, problem);
            Certificates::default()
        })
    }
}

fn parse(listed: Listed) -> Result<Certificates, String> {
    let mut certificates = Certificates::default();
    for ListedIdentity { san, name, scopes, fields } in listed.identity {
        if !Identity::is_name(&name) {
            return Err(format!("gives {san} an invalid name"));
        }
        let scope = |word: &String| {
            Scope::from_word(word).ok_or_else(|| format!("gives {san} the unknown scope {word}"))
        };
        let scopes = scopes.iter().map(scope).collect::<Result<_, _>>()?;
        let is_unknown = |path: &&String| !FIELDS.into_iter().any(|field| field.is_within(path));
        if let Some(path) = fields.iter().flatten().find(is_unknown) {
            return Err(format!("gives {san} the unknown field {path}"));
        }
        let fields = fields.map(|paths| FieldSet::of_paths(paths.iter().map(String::as_str)));
        let identity = Identity::new(name, scopes, fields);
        if !certificates.add_identity(&san, Arc::new(identity)) {
            return Err(format!("has {san} twice"));
        }
    }
    for ListedDoor { san } in listed.door {
        if !certificates.add_door(&san) {
            return Err(format!("has {san} twice"));
        }
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Certificates, String> {
        parse(Figment::from(Toml::string(text)).extract().map_err(|error| shown(&error))?)
    }

    #[test]
    fn a_file_lists_holders_of_certificates_and_its_errors_are_reported() {
        let good = "[[identity]]\nsan = 'a.internal'\nname = 'a'\nscopes = ['read']\nfields = ['address']\n\
                    [[door]]\nsan = 'spiffe://door'\n";
        assert!(!read(good).unwrap().is_empty());
        assert!(read("").unwrap().is_empty());
        for (text, problem) in [
            ("[[identity]]\nsan = 'a'\nname = 'a'\n", "missing field `scopes`"),
            ("[[identity]]\nsan = 'a'\nname = ''\nscopes = []\n", "gives a an invalid name"),
            (
                "[[identity]]\nsan = 'a'\nname = 'a'\nscopes = ['all']\n",
                "gives a the unknown scope all",
            ),
            (
                "[[identity]]\nsan = 'a'\nname = 'a'\nscopes = []\nfields = ['x']\n",
                "gives a the unknown field x",
            ),
            ("[[door]]\nsan = 'a'\n[[door]]\nsan = 'a'\n", "has a twice"),
            ("[[doors]]\nsan = 'a'\n", "unknown field"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
