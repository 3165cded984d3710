//! The TOML file of client certificates and their holders.

use std::{fs, sync::Arc};

use figment::{
    Figment,
    providers::{Format, Toml},
};
use serde::Deserialize;

use super::{Reader, masked::shown};
use crate::{
    domain::identity::{FieldSet, Identity, Scope},
    fields::FIELDS,
    grpc::certificates::Certificates,
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

impl Reader<'_> {
    /// The holders of client certificates.
    pub(super) fn certificates(&mut self) -> Certificates {
        let path = self.text(KEY);
        if path.is_empty() {
            return Certificates::default();
        }
        if self.text("grpc.tls_client_ca").is_empty() {
            self.wrong(KEY, "needs grpc.tls_client_ca");
        }
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| format!("cannot be read: {}", error.kind()));
        let certificates = text.and_then(|text| {
            let listed = Figment::from(Toml::string(&text)).extract();
            parse(listed.map_err(|error| format!("cannot be read: {}", shown(&error)))?)
        });
        certificates.unwrap_or_else(|problem| {
            self.wrong(KEY, problem);
            Certificates::default()
        })
    }
}

fn parse(listed: Listed) -> Result<Certificates, String> {
    let mut certificates = Certificates::default();
    for ListedIdentity { san, name, scopes, fields } in listed.identity {
        if !Identity::is_name(&name) {
            return Err(format!("has no usable name for {san}"));
        }
        let scope = |word: &String| {
            Scope::from_word(word).ok_or_else(|| format!("has no scope {word}: {san}"))
        };
        let scopes = scopes.iter().map(scope).collect::<Result<_, _>>()?;
        let means_none = |path: &&String| !FIELDS.into_iter().any(|field| field.is_within(path));
        if let Some(path) = fields.iter().flatten().find(means_none) {
            return Err(format!("has no field {path}: {san}"));
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
    fn a_file_says_whose_certificates_are_and_what_is_wrong_in_it_is_told() {
        let good = "[[identity]]\nsan = 'a.internal'\nname = 'a'\nscopes = ['read']\nfields = ['address']\n\
                    [[door]]\nsan = 'spiffe://door'\n";
        assert!(!read(good).unwrap().is_empty());
        assert!(read("").unwrap().is_empty());
        for (text, problem) in [
            ("[[identity]]\nsan = 'a'\nname = 'a'\n", "missing field `scopes`"),
            ("[[identity]]\nsan = 'a'\nname = ''\nscopes = []\n", "has no usable name for a"),
            ("[[identity]]\nsan = 'a'\nname = 'a'\nscopes = ['all']\n", "has no scope all: a"),
            (
                "[[identity]]\nsan = 'a'\nname = 'a'\nscopes = []\nfields = ['x']\n",
                "has no field x: a",
            ),
            ("[[door]]\nsan = 'a'\n[[door]]\nsan = 'a'\n", "has a twice"),
            ("[[doors]]\nsan = 'a'\n", "unknown field"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
