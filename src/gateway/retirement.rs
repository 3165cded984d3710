//! Tells legacy clients when the legacy call ends.

use http::{
    HeaderMap, HeaderValue,
    header::{HeaderName, LINK},
};
use tonic::metadata::MetadataMap;

use crate::{
    credentials,
    retirement::{Link, PointInTime},
};

/// RFC 9745.
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// RFC 8594.
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// The headers for the metadata of the service's answer. Without this metadata there are none. A
/// value that this version cannot read is skipped.
pub(super) fn headers(metadata: &MetadataMap) -> HeaderMap {
    let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
    let point = |key: &str| text(key).and_then(|value| value.parse::<PointInTime>().ok());
    let (deprecation, sunset) = (point(credentials::DEPRECATION), point(credentials::SUNSET));
    let link = text(credentials::RETIREMENT_LINK).and_then(|value| value.parse::<Link>().ok());
    let values = [
        deprecation.map(|point| (DEPRECATION, format!("@{}", point.unix_seconds()))),
        sunset.map(|point| (SUNSET, point.http_date())),
        link.map(|link| (LINK, link_value(link.as_str(), sunset.is_some()))),
    ];
    let values = values.into_iter().flatten();
    values.filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect()
}

/// The value of `Link`: RFC 8288.
fn link_value(url: &str, has_sunset: bool) -> String {
    let mut value = format!("<{url}>; rel=\"deprecation\"; type=\"text/html\"");
    if has_sunset {
        value.push_str(&format!(", <{url}>; rel=\"sunset\"; type=\"text/html\""));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers_of(metadata: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut map = MetadataMap::new();
        for (key, value) in metadata {
            map.insert(*key, value.parse().unwrap());
        }
        let mut headers: Vec<_> = headers(&map)
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        headers.sort();
        headers
    }

    fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_value_has_its_header() {
        let deprecation = ("m4-deprecation", "2023-06-30T23:59:59Z");
        let sunset = ("m4-sunset", "2024-06-30T23:59:59Z");
        let link = ("m4-retirement-link", "https://billing.example/?a=b;c,d");
        let url = "<https://billing.example/?a=b;c,d>";
        let deprecated = ("deprecation", "@1688169599");
        let ends = ("sunset", "Sun, 30 Jun 2024 23:59:59 GMT");
        let short = format!("{url}; rel=\"deprecation\"; type=\"text/html\"");
        let long = format!("{short}, {url}; rel=\"sunset\"; type=\"text/html\"");
        for (metadata, expected) in [
            (vec![], vec![]),
            (vec![deprecation], vec![deprecated]),
            (vec![sunset], vec![ends]),
            (vec![link], vec![("link", &*short)]),
            (vec![deprecation, link], vec![deprecated, ("link", &*short)]),
            (vec![deprecation, sunset, link], vec![deprecated, ("link", &*long), ends]),
        ] {
            assert_eq!(headers_of(&metadata), owned(&expected), "{metadata:?}");
        }
    }

    #[test]
    fn values_of_other_versions_are_skipped() {
        for metadata in [
            ("m4-deprecation", "@1688169599"),
            ("m4-sunset", "never"),
            ("m4-retirement-link", "https://billing.example/>; rel=\"x\""),
            ("m4-upon-itself", "1"),
        ] {
            assert_eq!(headers_of(&[metadata]), [], "{metadata:?}");
        }
    }
}
