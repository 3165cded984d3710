use super::*;

fn point(text: &str) -> PointInTime {
    text.parse().unwrap()
}

#[test]
fn points_in_time_are_written_in_utc() {
    for (given, written, seconds, date) in [
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", 0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (
            "2027-03-01T01:30:00+02:00",
            "2027-02-28T23:30:00Z",
            1_803_857_400,
            "Sun, 28 Feb 2027 23:30:00 GMT",
        ),
        (
            "2024-11-11T23:59:59.000Z",
            "2024-11-11T23:59:59Z",
            1_731_369_599,
            "Mon, 11 Nov 2024 23:59:59 GMT",
        ),
        (
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            253_402_300_799,
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ),
    ] {
        let point = point(given);
        assert_eq!(point.to_string(), written);
        assert_eq!((point.unix_seconds(), point.http_date()), (seconds, date.to_owned()));
        assert_eq!(PointInTime::from_unix_seconds(seconds), Ok(point));
        assert_eq!(written.parse(), Ok(point));
    }
}

#[test]
fn other_texts_are_no_points_in_time() {
    for text in [
        "",
        "2027-03-01",
        "2027-03-01T00:00:00",
        "2027-02-29T00:00:00Z",
        "2027-03-01T00:00:00.5Z",
        "2027-03-01T23:59:60Z",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59-01:00",
        "10000-01-01T00:00:00Z",
        "@1803945600",
        "tomorrow",
    ] {
        assert_eq!(text.parse::<PointInTime>(), Err(NotRetirement::PointInTime), "{text:?}");
    }
    for seconds in [i64::MIN, -1, 253_402_300_800, i64::MAX] {
        assert!(PointInTime::from_unix_seconds(seconds).is_err(), "{seconds}");
    }
}

#[test]
fn a_sunset_is_not_before_the_deprecation() {
    let (early, late) = (point("2027-01-01T00:00:00Z"), point("2027-01-01T00:00:01Z"));
    for (deprecation, sunset, ends_too_early) in [
        (None, None, false),
        (Some(late), None, false),
        (None, Some(early), false),
        (Some(early), Some(early), false),
        (Some(early), Some(late), false),
        (Some(late), Some(early), true),
    ] {
        let retirement = Retirement { deprecation, sunset, ..Retirement::default() };
        assert_eq!(retirement.ends_too_early(), ends_too_early, "{deprecation:?} {sunset:?}");
    }
}

#[test]
fn links_are_absolute_and_safe_in_a_header() {
    let longest = format!("https://billing.example/{}", "a".repeat(231));
    for text in [
        "https://billing.example",
        "http://billing.example:8080/api?topic=retirement&lang=en#steps",
        "https://[2001:db8::1]/%C3%A4",
        &longest,
    ] {
        assert_eq!(text.parse::<Link>().unwrap().as_str(), text);
    }
    let too_long = format!("{longest}a");
    for text in [
        "",
        "/migration",
        "billing.example",
        "//billing.example/",
        "ftp://billing.example/",
        "javascript:alert(1)",
        "https://",
        "https:///migration",
        "https://admin:secret@billing.example/",
        "https://billing.example/a b",
        "https://billing.example/a\r\nSet-Cookie: x",
        "https://billing.example/\0",
        "https://billing.example/\u{7f}",
        "https://billing.example/ä",
        "https://billing.example/>; rel=\"x",
        "https://billing.example/<",
        "https://billing.example/\"",
        "https://billing.example/'",
        &too_long,
    ] {
        assert_eq!(text.parse::<Link>(), Err(NotRetirement::Link), "{text:?}");
    }
}

#[test]
fn windows_contain_their_start_and_not_their_end() {
    let brownouts: Brownouts =
        "2027-02-01T09:00:00Z/2027-02-01T10:00:00Z,2027-01-01T00:00:00Z/2027-01-01T00:00:01Z"
            .parse()
            .unwrap();
    let start = point("2027-02-01T09:00:00Z").0;
    let nanosecond = chrono::TimeDelta::nanoseconds(1);
    for (time, is_in) in [
        (start - nanosecond, false),
        (start, true),
        (start + chrono::TimeDelta::hours(1) - nanosecond, true),
        (start + chrono::TimeDelta::hours(1), false),
        (point("2027-01-01T00:00:00Z").0, true),
    ] {
        assert_eq!(brownouts.at(time).is_some(), is_in, "{time}");
    }
    assert_eq!(Brownouts::default().at(start), None);
}

#[test]
fn windows_are_written_in_order_and_once() {
    let later = "2027-02-01T09:00:00Z/2027-02-01T10:00:00Z";
    let sooner = "2027-01-01T09:00:00Z/2027-01-01T10:00:00Z";
    let same = "2027-02-01T10:00:00+01:00/2027-02-01T11:00:00+01:00";
    let brownouts: Brownouts = format!("{later}, {sooner},{same}").parse().unwrap();
    assert_eq!(brownouts.to_string(), format!("{sooner},{later}"));
    assert_eq!(brownouts.to_string().parse(), Ok(brownouts));
    assert_eq!("".parse(), Ok(Brownouts::default()));
    assert_eq!(Brownouts::default().to_string(), "");
}

#[test]
fn other_texts_are_no_windows() {
    for text in [
        "2027-02-01T09:00:00Z",
        "2027-02-01T09:00:00Z/",
        "/2027-02-01T09:00:00Z",
        "2027-02-01T09:00:00Z/2027-02-01T09:00:00Z",
        "2027-02-01T09:00:00Z/2027-02-01T08:00:00Z",
        "2027-02-01T09:00:00Z/PT1H",
        "2027-02-01T09:00:00Z/2027-02-01T10:00:00Z/2027-02-01T11:00:00Z",
        "/",
    ] {
        assert_eq!(text.parse::<Brownouts>(), Err(NotRetirement::Window), "{text:?}");
    }
    let hour = |number: i64| {
        let point = |hour| PointInTime::from_unix_seconds(hour * 3600).unwrap();
        Window::new(point(number), point(number + 1)).unwrap()
    };
    assert!(Brownouts::of((0..100).map(hour).collect()).is_ok());
    assert_eq!(Brownouts::of((0..101).map(hour).collect()), Err(NotRetirement::TooMany));
    assert_eq!(hour(0).to_string().len(), 41, "the name of a row has room for 55");
}
