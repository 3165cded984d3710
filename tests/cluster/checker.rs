//! Invariants of updates, the change log, rows and watches, whatever has failed.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// An update that a writer has sent, including its retries.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub user_id: i64,
    /// Unique among all attempts.
    pub value: String,
    /// The index of the replica that got the update first.
    pub replica: usize,
    pub begun: Instant,
    pub outcome: Outcome,
    /// The response of the other replica to a read after the acknowledgement, if a read was sent.
    pub read: Option<String>,
}

/// The outcome of an update, as far as its writer knows.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The update is stored. `before` is the previous value, if the response contains it.
    Acknowledged { at: Instant, before: Option<String> },
    /// The update may be stored or not.
    Unknown,
    /// A response that no failure of a database server explains.
    Unexpected(String),
}

impl Attempt {
    /// The time of the acknowledgement.
    pub fn acknowledged(&self) -> Option<Instant> {
        match self.outcome {
            Outcome::Acknowledged { at, .. } => Some(at),
            Outcome::Unknown | Outcome::Unexpected(_) => None,
        }
    }
}

/// An entry of the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: i64,
    pub user_id: i64,
    pub version: i64,
    pub old: String,
    pub new: String,
}

/// The row of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub user_id: i64,
    pub version: i64,
    pub value: String,
}

/// A change that a subscription has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: i64,
    pub user_id: i64,
    pub new: String,
}

/// Everything that was observed.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub attempts: Vec<Attempt>,
    /// The change log, ordered by user and version.
    pub log: Vec<Entry>,
    pub rows: Vec<Row>,
    /// The changes that each subscription has received, in this order.
    pub watches: Vec<Vec<Seen>>,
}

/// Describes every violation. Empty if all invariants hold.
pub fn violations(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    attempts(history, &mut found);
    chains(history, &mut found);
    order(history, &mut found);
    reads(history, &mut found);
    rows(history, &mut found);
    for (number, seen) in history.watches.iter().enumerate() {
        watch(history, seen, &mut |violation| found.push(format!("watch {number}: {violation}")));
    }
    found
}

/// An acknowledged update is in the log once, another update at most once, and nothing else is.
fn attempts(history: &History, found: &mut Vec<String>) {
    let mut logged: BTreeMap<(i64, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in &history.log {
        logged.entry((entry.user_id, &entry.new)).or_default().push(entry);
    }
    for attempt in &history.attempts {
        let Attempt { user_id, value, outcome, .. } = attempt;
        let entries = logged.remove(&(*user_id, value)).unwrap_or_default();
        if entries.len() > 1 {
            found.push(format!("{value} of user {user_id} is stored {} times", entries.len()));
        }
        match (outcome, &*entries) {
            (Outcome::Acknowledged { .. }, []) => {
                found.push(format!("{value} of user {user_id} was acknowledged and is lost"));
            }
            (Outcome::Acknowledged { before: Some(before), .. }, [entry, ..])
                if *before != entry.old =>
            {
                found.push(format!("{value} was answered as after {before}: {entry:?}"));
            }
            (Outcome::Unexpected(answer), _) => found.push(format!("{value}: {answer}")),
            _ => {}
        }
    }
    for (_, entries) in logged {
        found.push(format!("nobody has sent {entries:?}"));
    }
}

/// A user's versions are consecutive, and each old value is the previous new value.
fn chains(history: &History, found: &mut Vec<String>) {
    for pair in history.log.windows(2).filter(|pair| pair[0].user_id == pair[1].user_id) {
        if pair[1].version != pair[0].version + 1 || pair[1].old != pair[0].new {
            found.push(format!("the log is broken between {:?} and {:?}", pair[0], pair[1]));
        }
    }
    let mut ids = BTreeSet::new();
    for entry in history.log.iter().filter(|entry| !ids.insert(entry.id)) {
        found.push(format!("the id of {entry:?} is not its own"));
    }
}

/// An update that is acknowledged before another update of its user begins comes first in the log.
fn order(history: &History, found: &mut Vec<String>) {
    let key = |attempt: &'_ Attempt| (attempt.user_id, attempt.value.clone());
    let sent: BTreeMap<_, _> = history.attempts.iter().map(|own| (key(own), own)).collect();
    let mut latest: Option<&Attempt> = None;
    for entry in &history.log {
        let Some(attempt) = sent.get(&(entry.user_id, entry.new.clone())) else { continue };
        let before = latest.filter(|latest| latest.user_id == entry.user_id);
        if let (Some(at), Some(before)) = (attempt.acknowledged(), before)
            && at < before.begun
        {
            found.push(format!(
                "{} was acknowledged before {} began, and is behind it",
                entry.new, before.value
            ));
        }
        if before.is_none_or(|before| before.begun < attempt.begun) {
            latest = Some(attempt);
        }
    }
}

/// A read after an acknowledged update returns that update or a later update.
fn reads(history: &History, found: &mut Vec<String>) {
    let key = |entry: &'_ Entry| (entry.user_id, entry.new.clone());
    let versions: BTreeMap<_, _> =
        history.log.iter().map(|entry| (key(entry), entry.version)).collect();
    for Attempt { user_id, value, read, .. } in &history.attempts {
        let Some(read) = read else { continue };
        let version = |value: &String| versions.get(&(*user_id, value.clone()));
        if version(read) < version(value) {
            found.push(format!("{value} was acknowledged, and {read} was read after it"));
        }
    }
}

/// Each row matches the last entry of its user.
fn rows(history: &History, found: &mut Vec<String>) {
    let last: BTreeMap<_, _> = history.log.iter().map(|entry| (entry.user_id, entry)).collect();
    for row in &history.rows {
        if let Some(entry) = last.get(&row.user_id)
            && (entry.version, &entry.new) != (row.version, &row.value)
        {
            found.push(format!("{row:?} is not what its last entry says: {entry:?}"));
        }
    }
    let rows: BTreeSet<_> = history.rows.iter().map(|row| row.user_id).collect();
    for user_id in last.keys().filter(|user_id| !rows.contains(user_id)) {
        found.push(format!("user {user_id} has entries and no row"));
    }
}

/// A subscription receives every entry once, and the entries of a user in log order.
fn watch(history: &History, received: &[Seen], found: &mut impl FnMut(String)) {
    let seen =
        |entry: &Entry| Seen { id: entry.id, user_id: entry.user_id, new: entry.new.clone() };
    let of_user = |entries: &mut dyn Iterator<Item = Seen>| {
        let mut users: BTreeMap<i64, Vec<Seen>> = BTreeMap::new();
        entries.for_each(|entry| users.entry(entry.user_id).or_default().push(entry));
        users
    };
    let mut expected = of_user(&mut history.log.iter().map(seen));
    for (user_id, received) in of_user(&mut received.iter().cloned()) {
        let expected = expected.remove(&user_id).unwrap_or_default();
        if received == expected {
            continue;
        }
        let ids = |entries: &[Seen]| entries.iter().map(|seen| seen.id).collect::<BTreeSet<_>>();
        let (got, stored) = (ids(&received), ids(&expected));
        let number = received.len() - got.len();
        let missed: Vec<_> = stored.difference(&got).collect();
        let unknown: Vec<_> = got.difference(&stored).collect();
        let first = received.iter().zip(&expected).find(|(one, other)| one != other);
        found(format!(
            "user {user_id}: {number} entries came again, {missed:?} did not come, {unknown:?} are \
             not in the log; the first difference is {first:?}"
        ));
    }
    for (user_id, missed) in expected {
        found(format!("none of the {} entries of user {user_id} came", missed.len()));
    }
}

#[cfg(test)]
mod tests;
