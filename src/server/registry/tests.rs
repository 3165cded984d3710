use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};

use std::{pin::pin, time::Duration};

use super::{
    super::{Age, Timeouts, activity::Registration},
    *,
};
use crate::networks::Networks;

/// The only connection of a listener.
pub(in crate::server) fn registration() -> Registration {
    admit(&registry(1, 0), "127.0.0.1").unwrap()
}

fn registry(max: usize, max_per_address: usize) -> Arc<Registry> {
    registry_where(max, max_per_address, MakesRoom::LongestWaiting)
}

fn registry_where(max: usize, max_per_address: usize, makes_room: MakesRoom) -> Arc<Registry> {
    registry_behind(Proxies::default(), max, max_per_address, makes_room)
}

fn registry_behind(
    proxies: Proxies,
    max: usize,
    max_per_address: usize,
    makes_room: MakesRoom,
) -> Arc<Registry> {
    let age = Age { longest: Duration::ZERO, grace: Duration::ZERO, keepalive: Duration::MAX };
    let timeouts = Timeouts::default();
    let limits = ConnectionLimits { max, max_per_address, makes_room, age, timeouts };
    Registry::new("test", &limits, proxies)
}

fn admit(registry: &Arc<Registry>, address: &str) -> Result<Registration, Reason> {
    Registration::new(registry, address.parse().unwrap())
}

fn is_closed(registration: &Registration) -> bool {
    registration.0.slot.is_closed()
}

/// A request with an incomplete body.
fn incomplete() -> Request<Full<&'static [u8]>> {
    Request::new(Full::new(b"body"))
}

fn complete() -> Request<Empty<&'static [u8]>> {
    Request::new(Empty::new())
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_is_idle_for_longest_makes_room() {
    let registry = registry(3, 0);
    let [first, second, third] =
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| admit(&registry, ip).unwrap());
    let (_request, call) = first.0.call(complete(), false);
    drop(second.0.call(complete(), false));
    assert_eq!(registry.counts(), [2, 0, 1, 0]);
    // The first is active; the second was active after the third had connected.
    let fourth = admit(&registry, "10.0.0.4").unwrap();
    assert_eq!([&first, &second, &third, &fourth].map(is_closed), [false, false, true, false]);
    let fifth = admit(&registry, "10.0.0.5").unwrap();
    assert_eq!([&first, &second, &fourth, &fifth].map(is_closed), [false, true, false, false]);
    assert_eq!(registry.counts(), [2, 0, 1, 2]);
    drop((second, third));
    assert_eq!(registry.counts(), [2, 0, 1, 0]);
    drop(call);
    assert_eq!(registry.counts(), [3, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_address_with_the_most_waiting_connections_makes_room() {
    let registry = registry_where(4, 0, MakesRoom::OfLargestAddress);
    let prober = admit(&registry, "10.0.0.1").unwrap();
    let mut others: Vec<_> =
        ["10.0.0.2", "10.0.0.3", "10.0.0.3"].map(|ip| admit(&registry, ip).unwrap()).into();
    for _ in 0..10 {
        others.push(admit(&registry, "10.0.0.3").unwrap());
        assert_eq!(registry.counts()[State::Idle as usize], 4);
    }
    assert!(!is_closed(&prober) && !is_closed(&others[0]));
    // The oldest connections of that address were closed, and the newest two are left.
    let closed: Vec<_> = others.iter().skip(1).map(is_closed).collect();
    assert_eq!(closed, [[true; 10].as_slice(), &[false; 2]].concat());
    // Each address has one connection: the longest waiting connection makes room.
    drop(others.pop());
    drop(others.pop());
    let _rest = ["10.0.0.4", "10.0.0.5", "10.0.0.6"].map(|ip| admit(&registry, ip).unwrap());
    assert!(is_closed(&prober) && !is_closed(&others[0]));
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_is_refused_where_all_are_active() {
    let registry = registry(2, 0);
    let connections = [(); 2].map(|()| admit(&registry, "10.0.0.1").unwrap());
    let calls = connections.each_ref().map(|connection| connection.0.call(complete(), false).1);
    assert_eq!(admit(&registry, "10.0.0.2").unwrap_err(), Reason::TotalLimit);
    assert!(!connections.iter().any(is_closed));
    // A call ends with the body of its response.
    let [first, second] = calls;
    let response = first.answered(Response::new(Full::new(&b"body"[..])));
    assert_eq!(admit(&registry, "10.0.0.2").unwrap_err(), Reason::TotalLimit);
    response.into_body().collect().await.unwrap();
    let _admitted = admit(&registry, "10.0.0.2").unwrap();
    assert!(is_closed(&connections[0]));
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_calls_yield_makes_room() {
    let registry = registry(2, 0);
    let [probe, caller] = [(); 2].map(|()| admit(&registry, "10.0.0.1").unwrap());
    let (_watch, watching) = probe.0.call(complete(), true);
    let (_request, _call) = caller.0.call(complete(), false);
    assert_eq!(registry.counts(), [0, 1, 1, 0]);
    let _admitted = admit(&registry, "10.0.0.2").unwrap();
    assert_eq!([&probe, &caller].map(is_closed), [true, false]);
    drop(watching);
}

#[tokio::test(start_paused = true)]
async fn an_address_at_its_limit_makes_room_itself() {
    let registry = registry(10, 2);
    let other = admit(&registry, "10.0.0.9").unwrap();
    let first = admit(&registry, "10.0.0.1").unwrap();
    let second = admit(&registry, "::ffff:10.0.0.1").unwrap();
    let third = admit(&registry, "10.0.0.1").unwrap();
    assert_eq!([&other, &first, &second, &third].map(is_closed), [false, true, false, false]);
    let _calls = [second.0.call(complete(), false).1, third.0.call(complete(), false).1];
    assert_eq!(admit(&registry, "10.0.0.1").unwrap_err(), Reason::AddressLimit);
    let _admitted = admit(&registry, "10.0.0.2").unwrap();
    assert!(!is_closed(&other));
}

#[tokio::test(start_paused = true)]
async fn trusted_proxies_have_no_limit_of_their_address() {
    let proxies =
        Proxies { trusted: "10.0.0.0/24 2001:db8::7".parse().unwrap(), write_header: false };
    let registry = registry_behind(proxies, 20, 2, MakesRoom::LongestWaiting);
    let of_proxy = [(); 4].map(|()| admit(&registry, "10.0.0.1").unwrap());
    let of_other = [(); 3].map(|()| admit(&registry, "10.0.1.1").unwrap());
    let of_ipv6 = [(); 4].map(|()| admit(&registry, "2001:db8::7").unwrap());
    assert!(!of_proxy.iter().chain(&of_ipv6).any(is_closed));
    assert_eq!(of_other.each_ref().map(is_closed), [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_counts_for_the_client_in_its_proxy_header() {
    let proxies = Proxies { trusted: Networks::default(), write_header: true };
    let registry = registry_behind(proxies, 10, 2, MakesRoom::LongestWaiting);
    let move_to =
        |connection: &Registration, client: &str| connection.0.moves_to(client.parse().unwrap());
    let connections = [(); 4].map(|()| admit(&registry, "10.0.0.1").unwrap());
    let [first, second, third, other] = &connections;
    for connection in [first, second] {
        move_to(connection, "192.0.2.1").unwrap();
    }
    move_to(other, "192.0.2.2").unwrap();
    assert!(!connections.iter().any(is_closed));
    move_to(third, "192.0.2.1").unwrap();
    assert_eq!([first, second, third, other].map(is_closed), [true, false, false, false]);
    // A connection that is being closed stays so.
    move_to(first, "192.0.2.2").unwrap();
    let _calls = [second, third].map(|connection| connection.0.call(complete(), false).1);
    assert_eq!(move_to(other, "192.0.2.1").unwrap_err(), Reason::AddressLimit);
    assert_eq!(registry.counts(), [1, 0, 2, 1]);
    drop(connections);
    assert_eq!(registry.counts(), [0; 4]);
    assert!(registry.lock().addresses.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_client_is_its_network() {
    let registry = registry(10, 1);
    let first = admit(&registry, "2001:db8::1").unwrap();
    let _other = admit(&registry, "2001:db8:0:1::1").unwrap();
    assert!(!is_closed(&first));
    let _same = admit(&registry, "2001:db8::ffff:1").unwrap();
    assert!(is_closed(&first));
}

#[tokio::test(start_paused = true)]
async fn incomplete_requests_make_room_before_newer_connections() {
    let registry = registry(3, 0);
    let [slow, complete, idle] = [(); 3].map(|()| admit(&registry, "10.0.0.1").unwrap());
    let (request, _call) = slow.0.call(incomplete(), false);
    let (body, _complete) = complete.0.call(incomplete(), false);
    assert_eq!(registry.counts(), [1, 2, 0, 0]);
    body.into_body().collect().await.unwrap();
    assert_eq!(registry.counts(), [1, 1, 1, 0]);
    // The idle connection has waited longer for its client than the slow one.
    let new = admit(&registry, "10.0.0.2").unwrap();
    assert_eq!([&slow, &complete, &idle, &new].map(is_closed), [false, false, true, false]);
    let newer = admit(&registry, "10.0.0.2").unwrap();
    assert_eq!([&slow, &complete, &new, &newer].map(is_closed), [true, false, false, false]);
    assert!(slow.0.slot.closed().await, "there is nothing to wait for");
    drop(request);
}

#[tokio::test(start_paused = true)]
async fn closing_connections_are_bounded() {
    let registry = registry(16, 0);
    let mut admitted = Vec::new();
    while few_are_closing(&registry) {
        admitted.push(admit(&registry, "10.0.0.1").unwrap());
        assert!(admitted.len() < 1000, "descriptors are not bounded");
    }
    // The first connections linger, the others close at once.
    assert!(!admitted[0].0.slot.closed().await && admitted[20].0.slot.closed().await);
    drop(admitted.remove(0));
    assert!(few_are_closing(&registry));
    admitted.retain(|connection| !is_closed(connection));
    assert_eq!(registry.counts(), [16, 0, 0, 0]);
    assert!(registry.free_descriptor());
    assert!(admitted[0].0.slot.closed().await, "it must free its descriptor at once");
    drop(admitted);
    assert_eq!(registry.counts(), [0; 4]);
    assert!(registry.lock().addresses.is_empty());
}

fn few_are_closing(registry: &Registry) -> bool {
    registry.few_are_closing().now_or_never().is_some()
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_waits_until_fewer_are_closing() {
    let registry = registry(16, 0);
    let mut admitted = Vec::new();
    while few_are_closing(&registry) {
        admitted.push(admit(&registry, "10.0.0.1").unwrap());
    }
    let mut waiting = pin!(registry.few_are_closing());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(admitted.remove(0));
    waiting.await;
}
