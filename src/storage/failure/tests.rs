//! Tests of the error classes.

use super::*;
use crate::storage::fault;

fn mysql(number: u16) -> Class {
    mysql::classify(number).0
}

fn postgres(code: &str) -> Class {
    postgres::classify(code).0
}

fn sqlite(code: &str) -> (Class, String) {
    let (class, fault) = sqlite::classify(code);
    (class, DatabaseError { code: code.to_owned(), fault }.to_string())
}

#[test]
fn a_full_disk_is_named_and_not_a_defect() {
    for number in [3, 20, 1021, 1026, 1114] {
        assert_eq!(fault::mysql(number), Some(Fault::DiskFull), "{number}");
        assert_eq!(mysql(number), Class::Unavailable, "{number}");
    }
    for number in [1290, 1792, 1836] {
        assert_eq!(fault::mysql(number), Some(Fault::ReadOnly), "{number}");
        assert_eq!(mysql(number), Class::Unusable(Breakage::ReadOnly), "{number}");
    }
    for (code, fault) in
        [("53100", Fault::DiskFull), ("25006", Fault::ReadOnly), ("58030", Fault::Io)]
    {
        assert_eq!(fault::postgres(code), Some(fault));
        assert_ne!(postgres(code), Class::Defect, "{code}");
    }
    // FULL, IOERR_WRITE, IOERR_FSYNC, READONLY, READONLY_DBMOVED, CANTOPEN.
    for (code, words) in [
        ("13", "disk full"),
        ("778", "I/O error"),
        ("1034", "I/O error"),
        ("8", "read-only"),
        ("1032", "read-only"),
        ("14", "file cannot be opened"),
    ] {
        let told = format!("the database answers with error {code}: {words}");
        assert_eq!(sqlite(code), (Class::Unavailable, told));
    }
}

#[test]
fn a_corrupt_database_is_named() {
    for code in ["11", "26", "267"] {
        let (class, told) = sqlite(code);
        assert_eq!(class, Class::Defect, "{code}");
        assert!(told.ends_with(": corrupt"));
    }
    assert_eq!((mysql(1712), postgres("XX001")), (Class::Defect, Class::Defect));
}

#[test]
fn a_commit_that_failed_is_no_defect_and_not_run_again() {
    assert_eq!(mysql(1180), Class::Unusable(Breakage::Broken));
    let error = Unusable { breakage: Breakage::Broken, source: "1180".into() };
    let failure = Failure::at_commit(Error::Unavailable(error.into()));
    assert!(!failure.is_of_connection() && !failure.may_be_repeated());
}

#[test]
fn a_failure_of_the_connection_closes_it() {
    for number in [1243, 1615] {
        assert_eq!(mysql(number), Class::Unusable(Breakage::Stale), "{number}");
    }
    for number in [1047, 1053, 1927] {
        assert_eq!(mysql(number), Class::Unusable(Breakage::Broken), "{number}");
    }
    for code in ["0A000", "26000", "42P05"] {
        assert_eq!(postgres(code), Class::Unusable(Breakage::Stale), "{code}");
    }
    for code in ["57P01", "57P02", "57P03", "57P04", "08006", "08P01"] {
        assert_eq!(postgres(code), Class::Unusable(Breakage::Broken), "{code}");
    }
}
