//! Tests of the error classes.

use super::*;

#[test]
fn a_full_disk_is_named_and_not_a_defect() {
    for number in [3, 20, 1021, 1026, 1114] {
        assert_eq!(fault::mysql(number), Some(Fault::DiskFull), "{number}");
        assert_eq!(mysql(number), Meaning::Unavailable, "{number}");
    }
    for number in [1290, 1792, 1836] {
        assert_eq!(fault::mysql(number), Some(Fault::ReadOnly), "{number}");
        assert_eq!(mysql(number), Meaning::Unusable(Breakage::ReadOnly), "{number}");
    }
    for (code, fault) in
        [("53100", Fault::DiskFull), ("25006", Fault::ReadOnly), ("58030", Fault::Io)]
    {
        assert_eq!(fault::postgres(code), Some(fault));
        assert_ne!(postgres(code), Meaning::Defect, "{code}");
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
        assert_eq!(sqlite(code), Meaning::Unavailable, "{code}");
        let told = DatabaseError::of_sqlite(code.to_owned()).to_string();
        assert_eq!(told, format!("the database answers with error {code}: {words}"));
    }
}

#[test]
fn a_corrupt_database_is_named() {
    for code in ["11", "26", "267"] {
        assert_eq!(sqlite(code), Meaning::Defect, "{code}");
        assert!(DatabaseError::of_sqlite(code.to_owned()).to_string().ends_with(": corrupt"));
    }
    assert_eq!((mysql(1712), postgres("XX001")), (Meaning::Defect, Meaning::Defect));
}

#[test]
fn a_commit_that_failed_is_no_defect_and_not_run_again() {
    assert_eq!(mysql(1180), Meaning::Unusable(Breakage::Broken));
    let error = Unusable { breakage: Breakage::Broken, source: "1180".into() };
    let failure = Failure::at_commit(Error::Unavailable(error.into()));
    assert!(!failure.is_of_connection() && !failure.may_be_repeated());
}

#[test]
fn a_failure_of_the_connection_closes_it() {
    for number in [1243, 1615] {
        assert_eq!(mysql(number), Meaning::Unusable(Breakage::Stale), "{number}");
    }
    for number in [1047, 1053, 1927] {
        assert_eq!(mysql(number), Meaning::Unusable(Breakage::Broken), "{number}");
    }
    for code in ["0A000", "26000", "42P05"] {
        assert_eq!(postgres(code), Meaning::Unusable(Breakage::Stale), "{code}");
    }
    for code in ["57P01", "57P02", "57P03", "57P04", "08006", "08P01"] {
        assert_eq!(postgres(code), Meaning::Unusable(Breakage::Broken), "{code}");
    }
}
