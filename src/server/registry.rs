//! The connections of one listener: their number per client address, and the connection that is
//! closed to make room.

mod connections;

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use self::connections::{Connections, Entry};
use super::{
    limits::{ConnectionLimits, MakesRoom},
    listener::Proxies,
    reasons::{Closed, Reason},
    slot::{Slot, State},
};
use crate::telemetry::instruments::instruments;

/// `max / CLOSING_SHARE` connections may be closing slowly, besides the open connections.
const CLOSING_SHARE: usize = 8;
/// The minimum for the number of connections that may be closing slowly.
const MIN_CLOSING: usize = 16;

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Registry {
    name: &'static str,
    max: usize,
    max_per_address: usize,
    makes_room: MakesRoom,
    proxies: Proxies,
    connections: Mutex<Connections>,
    /// A closing connection is gone.
    gone: Notify,
}

impl Registry {
    /// An empty registry.
    pub(super) fn new(
        name: &'static str,
        limits: &ConnectionLimits,
        proxies: Proxies,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            max: limits.max,
            max_per_address: limits.max_per_address,
            makes_room: limits.makes_room,
            proxies,
            connections: Mutex::default(),
            gone: Notify::new(),
        })
    }

    /// The listener's name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The number of file descriptors that a listener with `max` connections needs.
    pub(super) fn descriptors(max: usize) -> usize {
        max + 2 * Self::max_closing(max)
    }

    fn max_closing(max: usize) -> usize {
        (max / CLOSING_SHARE).max(MIN_CLOSING)
    }

    /// Waits until few enough connections are closing: their tasks need time to free their
    /// descriptors. Only a few may close slowly, and the others close at once.
    pub(super) async fn few_are_closing(&self) {
        loop {
            let gone = self.gone.notified();
            if self.lock().closing < 2 * Self::max_closing(self.max) {
                return;
            }
            gone.await;
        }
    }

    /// Registers a connection until [`Self::remove`]. Closes another connection if there is no room.
    ///
    /// # Errors
    /// The exhausted limit, if no other connection may be closed.
    pub(super) fn admit(&self, address: IpAddr) -> Result<Arc<Slot>, Reason> {
        let is_proxy = self.proxies.write_header || self.proxies.trusted.contains(address);
        let address = client_of(address);
        let mut connections = self.lock();
        let full = if !is_proxy && self.is_full(&connections, address) {
            Some((Some(address), Reason::AddressLimit))
        } else if connections.entries.len() >= self.max {
            Some((self.crowded(&connections), Reason::TotalLimit))
        } else {
            None
        };
        if let Some((address, reason)) = full {
            self.close_one(&mut connections, address, reason)?;
        }
        connections.last += 1;
        let id = connections.last;
        let slot = Arc::new(Slot::new(id, self.name));
        let entry = Entry { address, slot: Arc::clone(&slot), state: State::Idle, position: id };
        connections.insert(id, entry);
        Ok(slot)
    }

    /// The address that must make room on a full listener; `None` is any address.
    fn crowded(&self, connections: &Connections) -> Option<IpAddr> {
        if self.makes_room == MakesRoom::LongestWaiting {
            return None;
        }
        let largest = connections.addresses.iter().max_by_key(|(_, address)| {
            let first = address.closable.first_key_value().map(|(position, _)| *position);
            (address.closable.len(), Reverse(first))
        });
        largest.map(|(address, _)| *address)
    }

    /// Counts a connection for another address. Closes another connection of that address if it has
    /// reached its limit.
    ///
    /// # Errors
    /// The exhausted limit, if no other connection may be closed.
    pub(super) fn move_to(&self, id: u64, address: IpAddr) -> Result<(), Reason> {
        let is_proxy = self.proxies.trusted.contains(address);
        let address = client_of(address);
        let mut connections = self.lock();
        // A connection that is being closed has no place any more.
        let Some(mut entry) = connections.remove(id) else { return Ok(()) };
        let mut moved = Ok(());
        if !is_proxy && self.is_full(&connections, address) {
            moved = self.close_one(&mut connections, Some(address), Reason::AddressLimit);
        }
        if moved.is_ok() {
            entry.address = address;
        }
        connections.insert(id, entry);
        moved
    }

    /// Whether an address has reached its limit.
    fn is_full(&self, connections: &Connections, address: IpAddr) -> bool {
        let count = connections.addresses.get(&address).map_or(0, |address| address.count);
        self.max_per_address > 0 && count >= self.max_per_address
    }

    /// Closes a connection to free its file descriptor. Returns false if no connection can close.
    pub(super) fn free_descriptor(&self) -> bool {
        self.close_one(&mut self.lock(), None, Reason::Descriptors).is_ok()
    }

    /// Closes the connection that has waited longest for its client.
    fn close_one(
        &self,
        connections: &mut Connections,
        address: Option<IpAddr>,
        reason: Reason,
    ) -> Result<(), Reason> {
        let closable = match address {
            Some(address) => connections.addresses.get(&address).map(|address| &address.closable),
            None => Some(&connections.closable),
        };
        let first = closable.and_then(BTreeMap::first_key_value).map(|(_, id)| *id);
        let entry = first.and_then(|id| connections.remove(id)).ok_or(reason)?;
        connections.closing += 1;
        // A slow close keeps a descriptor, so the number of slow closes is limited. A slow close
        // does not help an incomplete request.
        let at_once = reason == Reason::Descriptors
            || entry.state == State::Receiving
            || connections.closing > Self::max_closing(self.max);
        entry.slot.count_closed(Closed::Full(reason));
        entry.slot.close(at_once);
        Ok(())
    }

    /// Moves a connection to the queue of its current state.
    pub(super) fn update(&self, slot: &Slot) {
        let mut connections = self.lock();
        // Read under the lock: of two changes at once, the later one sees the final state.
        let state = slot.state();
        let position = connections.last + 1;
        let id = slot.id;
        let Some(entry) = connections.entries.get(&id).filter(|entry| entry.state != state) else {
            return;
        };
        let (address, old) = (entry.address, entry.position);
        connections.last = position;
        connections.dequeue(address, old);
        if let Some(entry) = connections.entries.get_mut(&id) {
            (entry.state, entry.position) = (state, position);
        }
        connections.enqueue(id);
    }

    /// Removes a connection that is gone.
    pub(super) fn remove(&self, id: u64) {
        let mut connections = self.lock();
        if connections.remove(id).is_none() {
            connections.closing = connections.closing.saturating_sub(1);
            self.gone.notify_one();
        }
    }

    /// The number of idle, receiving, active and closing connections.
    pub(super) fn counts(&self) -> [usize; 4] {
        let connections = self.lock();
        let mut counts = [0, 0, 0, connections.closing];
        for entry in connections.entries.values() {
            counts[entry.state as usize] += 1;
        }
        counts
    }

    /// Registers the metrics of the connections.
    pub(super) fn observe(self: &Arc<Self>) {
        if let Some(instruments) = instruments() {
            let registry = Arc::downgrade(self);
            let count = move || registry.upgrade().map(|registry| registry.counts());
            let refused = Reason::ALL.map(Reason::as_str);
            let closed = Closed::all().map(Closed::as_str);
            instruments.listeners.observe(self.name, refused, closed, count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client at an address. An IPv6 client usually has its own /64 network.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
pub(super) mod tests;
