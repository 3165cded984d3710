//! What must hold of updates, the change log, the rows and the watches, whatever has failed meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// One update that a writer has sent, with its repeats.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub user_id: i64,
    /// No other attempt has it.
    pub value: String,
    /// Which replica got it first.
    pub replica: usize,
    pub begun: Instant,
    pub outcome: Outcome,
    /// What the other replica answered to a read after the acknowledgement, where one was sent.
    pub read: Option<String>,
}

/// What its writer knows of an update.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was answered as stored. `before` is the value before it, where the answer says so.
    Acknowledged { at: Instant, before: Option<String> },
    /// It may be stored or not.
    Unknown,
    /// It got an answer that no failure of a database server explains.
    Unexpected(String),
}

impl Attempt {
    /// When it was acknowledged.
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

/// What a subscription has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: i64,
    pub user_id: i64,
    pub new: String,
}

/// All that was observed.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub attempts: Vec<Attempt>,
    /// The change log, by user and version.
    pub log: Vec<Entry>,
    pub rows: Vec<Row>,
    /// What each subscription has received, in this order.
    pub watches: Vec<Vec<Seen>>,
}

/// Every violation, in words; none where all holds.
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

/// Each acknowledged update is in the log once, each other one at most once, and nothing else is.
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

/// The versions of each user follow each other, and each entry begins where the one before ends.
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

/// An update that was acknowledged before another one of its user began is before it in the log.
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

/// A read after an acknowledged update answers that update or a later one.
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

/// Each row is what the last entry of its user says.
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

/// A subscription has received every entry once, and the entries of a user in their order.
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
