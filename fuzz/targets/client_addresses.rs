//! Proxy headers: whatever a client writes, the address that the last proxy appends counts.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use m4_user_details::gateway::{ForwardedHeader, TrustedProxies};

const PROXY: &str = "10.0.0.1";
const CLIENT: &str = "192.0.2.7";

fuzz_target!(|lines: Vec<&[u8]>| {
    let headers = [
        (ForwardedHeader::XForwardedFor, "x-forwarded-for", format!(", {CLIENT}")),
        (ForwardedHeader::Forwarded, "forwarded", format!(", for={CLIENT};proto=https")),
    ];
    let networks = PROXY.parse().expect("an address is a network");
    let proxy = PROXY.parse().expect("it is an address");
    for (header, name, appended) in headers {
        let proxies = TrustedProxies { networks: Clone::clone(&networks), header };
        let mut sent = HeaderMap::new();
        for line in &lines {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                sent.append(name, value);
            }
        }
        // No other peer is believed.
        let stranger = "198.51.100.9".parse().expect("it is an address");
        assert_eq!(proxies.client(stranger, &sent), Some(stranger));
        let client = proxies.client(proxy, &sent);
        assert!(!sent.is_empty() || client == Some(proxy));
        let Some(last) = sent.get_all(name).iter().next_back().cloned() else { continue };
        let value = [last.as_bytes(), appended.as_bytes()].concat();
        let mut lines: Vec<_> = sent.get_all(name).iter().cloned().collect();
        lines.pop();
        lines.push(HeaderValue::from_bytes(&value).expect("both parts are values"));
        let mut appended = HeaderMap::new();
        for line in lines {
            appended.append(name, line);
        }
        assert_eq!(proxies.client(proxy, &appended), CLIENT.parse().ok());
    }
});
