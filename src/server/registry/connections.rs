//! The open connections of one listener, and the order in which they make room.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use foldhash::HashMap;

use crate::server::slot::{Slot, State};

/// The open connections of one listener.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// The last id or position; both only grow.
    pub(super) last: u64,
    pub(super) entries: HashMap<u64, Entry>,
    pub(super) addresses: HashMap<IpAddr, Address>,
    pub(super) closable: Closable,
    /// The number of connections that were closed to make room, and are not gone yet.
    pub(super) closing: usize,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) address: IpAddr,
    pub(super) slot: Arc<Slot>,
    pub(super) state: State,
    /// The position of the last state change in the order of all changes.
    pub(super) position: u64,
}

/// The connections of one client address.
#[derive(Debug, Default)]
pub(super) struct Address {
    pub(super) count: usize,
    pub(super) closable: Closable,
}

/// The ids of connections that may be closed to make room, by position: the connection that has
/// waited longest for its client comes first.
pub(super) type Closable = BTreeMap<u64, u64>;

impl Connections {
    /// Adds a connection, which may be closed to make room unless it is active.
    pub(super) fn insert(&mut self, id: u64, entry: Entry) {
        self.addresses.entry(entry.address).or_default().count += 1;
        self.entries.insert(id, entry);
        self.enqueue(id);
    }

    /// Lets a connection make room, unless it is active.
    pub(super) fn enqueue(&mut self, id: u64) {
        let Some(entry) = self.entries.get(&id).filter(|entry| entry.state != State::Active) else {
            return;
        };
        self.closable.insert(entry.position, id);
        self.addresses.entry(entry.address).or_default().closable.insert(entry.position, id);
    }

    /// Keeps the connection at a position from making room.
    pub(super) fn dequeue(&mut self, address: IpAddr, position: u64) {
        self.closable.remove(&position);
        if let Some(address) = self.addresses.get_mut(&address) {
            address.closable.remove(&position);
        }
    }

    /// Removes a connection.
    pub(super) fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.dequeue(entry.address, entry.position);
        if let Some(address) = self.addresses.get_mut(&entry.address) {
            address.count -= 1;
            if address.count == 0 {
                self.addresses.remove(&entry.address);
            }
        }
        Some(entry)
    }
}
