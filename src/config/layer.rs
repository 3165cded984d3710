//! One configuration layer.

use figment::{
    Error, Figment, Metadata, Profile, Provider,
    util::nest,
    value::{Dict, Map},
};

/// Merges a layer of keys and verbatim texts.
pub(super) fn merge(
    figment: Figment,
    name: &'static str,
    texts: Vec<(&'static str, String)>,
) -> Figment {
    texts.into_iter().fold(figment, |figment, (key, text)| {
        let data = nest(key, text.into()).into_dict().unwrap_or_default();
        figment.merge(Layer(Metadata::named(name), Profile::Default.collect(data)))
    })
}

/// The name of a layer and its values.
pub(super) struct Layer(pub(super) Metadata, pub(super) Map<Profile, Dict>);

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.0.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(self.1.clone())
    }
}

/// The name of a layer: the file, or the kind of layer.
pub(super) fn name(layer: Option<&Metadata>) -> String {
    layer.map_or("default".to_owned(), |layer| match &layer.source {
        Some(source) => source.to_string(),
        None => layer.name.to_string(),
    })
}

/// The name of the layer of a value.
pub(super) fn source(figment: &Figment, key: &str) -> String {
    name(figment.find_metadata(key))
}
