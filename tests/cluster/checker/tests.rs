//! Forged histories: each has one violation that the checker must find.

use std::time::Duration;

use super::*;

const USERS: i64 = 2;
const UPDATES: i64 = 6;

/// A history without violations: the writers of two users take turns.
fn right() -> History {
    let zero = Instant::now();
    let mut history = History::default();
    for user_id in 1..=USERS {
        for number in 1..=UPDATES {
            let value = |number| format!("w{user_id}-{number}");
            let begun = zero + Duration::from_millis(u64::try_from(10 * number).unwrap());
            let at = begun + Duration::from_millis(5);
            let (old, new) = (value(number - 1), value(number));
            history.attempts.push(Attempt {
                user_id,
                value: new.clone(),
                replica: 0,
                begun,
                outcome: Outcome::Acknowledged { at, before: Some(old.clone()) },
                read: Some(new.clone()),
            });
            let id = number * USERS + user_id;
            history.log.push(Entry { id, user_id, version: number + 1, old, new });
        }
        history.rows.push(Row {
            user_id,
            version: UPDATES + 1,
            value: format!("w{user_id}-{UPDATES}"),
        });
    }
    let mut seen: Vec<_> = history.log.clone();
    seen.sort_by_key(|entry| entry.id);
    let seen = seen.into_iter().map(|Entry { id, user_id, new, .. }| Seen { id, user_id, new });
    history.watches = vec![seen.collect(); 2];
    history
}

/// Forges a history, and expects a violation that contains these words.
#[track_caller]
fn is_found(words: &str, forge: impl FnOnce(&mut History)) {
    let mut history = right();
    forge(&mut history);
    let found = violations(&history);
    assert!(found.iter().any(|violation| violation.contains(words)), "{words}: {found:?}");
}

/// Removes the log entry at an index and closes the gap.
fn lose(history: &mut History, index: usize) {
    let lost = history.log.remove(index);
    let behind = history.log.iter_mut().filter(|entry| entry.user_id == lost.user_id);
    for entry in behind.filter(|entry| entry.version > lost.version) {
        entry.version -= 1;
    }
    if let Some(next) = history.log.get_mut(index).filter(|next| next.user_id == lost.user_id) {
        next.old = lost.old;
    }
    history.rows[0].version -= 1;
    history.watches.iter_mut().for_each(|seen| seen.retain(|seen| seen.id != lost.id));
}

#[test]
fn a_right_history_has_no_violation() {
    assert_eq!(violations(&right()), Vec::<String>::new());
}

#[test]
fn an_update_whose_outcome_is_unknown_may_be_stored_or_not() {
    let mut history = right();
    history.attempts[2].outcome = Outcome::Unknown;
    history.attempts[2].read = None;
    assert_eq!(violations(&history), Vec::<String>::new());
    lose(&mut history, 2);
    // The next response contains the value before the lost update.
    let Outcome::Acknowledged { before, .. } = &mut history.attempts[3].outcome else { panic!() };
    *before = Some("w1-2".to_owned());
    assert_eq!(violations(&history), Vec::<String>::new());
}

#[test]
fn a_lost_update_is_found() {
    is_found("w1-3 of user 1 was acknowledged and is lost", |history| lose(history, 2));
    // The loss of a user's last update breaks no chain.
    is_found("w1-6 of user 1 was acknowledged and is lost", |history| {
        lose(history, 5);
        history.rows[0].value = "w1-5".to_owned();
    });
}

#[test]
fn an_update_that_is_stored_twice_is_found() {
    for unknown in [false, true] {
        is_found("w1-6 of user 1 is stored 2 times", |history| {
            if unknown {
                history.attempts[5].outcome = Outcome::Unknown;
            }
            let last = history.log[5].clone();
            let again = Entry { id: 100, version: last.version + 1, old: last.new.clone(), ..last };
            history.log.insert(6, again);
            history.rows[0].version += 1;
        });
    }
}

#[test]
fn an_update_that_nobody_sent_is_found() {
    is_found("nobody has sent", |history| drop(history.attempts.remove(3)));
}

#[test]
fn updates_in_another_order_than_acknowledged_are_found() {
    is_found("w1-2 was acknowledged before w1-3 began", |history| {
        let log = &mut history.log;
        (log[1].new, log[2].new) = (log[2].new.clone(), log[1].new.clone());
        (log[2].old, log[3].old) = (log[1].new.clone(), log[2].new.clone());
    });
    // Swap two distant entries and leave the entries between them.
    is_found("w1-1 was acknowledged before w1-", |history| {
        let log = &mut history.log;
        (log[0].new, log[4].new) = (log[4].new.clone(), log[0].new.clone());
        (log[1].old, log[5].old) = (log[0].new.clone(), log[4].new.clone());
    });
}

#[test]
fn updates_of_one_moment_may_be_in_any_order() {
    let mut history = right();
    let at = history.attempts[2].acknowledged().unwrap();
    history.attempts[1].outcome = Outcome::Acknowledged { at, before: None };
    history.attempts[2].outcome = Outcome::Acknowledged { at, before: None };
    history.attempts[3].outcome = Outcome::Acknowledged { at, before: None };
    let log = &mut history.log;
    (log[1].new, log[2].new) = (log[2].new.clone(), log[1].new.clone());
    (log[2].old, log[3].old) = (log[1].new.clone(), log[2].new.clone());
    history.attempts[3].begun = at;
    history.attempts.iter_mut().for_each(|attempt| attempt.read = None);
    history.watches.clear();
    assert_eq!(violations(&history), Vec::<String>::new());
}

#[test]
fn a_broken_chain_is_found() {
    is_found("the log is broken", |history| history.log[3].old = "w1-1".to_owned());
    is_found("the log is broken", |history| history.log[3].version += 1);
    is_found("is not its own", |history| history.log[3].id = history.log[8].id);
}

#[test]
fn a_row_that_is_not_its_last_entry_is_found() {
    is_found("is not what its last entry says", |history| {
        history.rows[1].value = "w2-5".to_owned();
    });
    is_found("is not what its last entry says", |history| history.rows[1].version -= 1);
    is_found("no row", |history| drop(history.rows.remove(1)));
}

#[test]
fn an_answer_that_names_another_value_before_is_found() {
    is_found("was answered as after w1-1", |history| {
        let at = history.attempts[2].acknowledged().unwrap();
        let before = Some("w1-1".to_owned());
        history.attempts[2].outcome = Outcome::Acknowledged { at, before };
    });
}

#[test]
fn a_read_that_is_older_than_what_was_acknowledged_is_found() {
    let mut history = right();
    history.attempts[2].read = Some("w1-4".to_owned());
    assert_eq!(violations(&history), Vec::<String>::new());
    for old in ["w1-2", ""] {
        is_found("w1-3 was acknowledged, and", |history| {
            history.attempts[2].read = Some(old.to_owned());
        });
    }
}

#[test]
fn an_unexpected_answer_is_found() {
    is_found("INTERNAL", |history| {
        history.attempts[2].outcome = Outcome::Unexpected("INTERNAL".to_owned());
    });
}

#[test]
fn a_watch_that_misses_repeats_or_reorders_is_found() {
    is_found("watch 1: user 1: 0 entries came again, [5]", |history| {
        history.watches[1].retain(|seen| seen.id != 5);
    });
    is_found("watch 0: user 1: 1 entries came again, []", |history| {
        let again = history.watches[0][4].clone();
        history.watches[0].push(again);
    });
    is_found("watch 0: user 1: 0 entries came again, []", |history| {
        history.watches[0].swap(0, 2);
    });
    is_found("[200] are not in the log", |history| {
        let unknown = Seen { id: 200, user_id: 1, new: "w1-200".to_owned() };
        history.watches[0].push(unknown);
    });
    is_found("none of the 6 entries of user 2 came", |history| {
        history.watches[0].retain(|seen| seen.user_id != 2);
    });
}
