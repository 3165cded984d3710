//! When certificates expire.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::file::{File, FileError};

/// Remaining time at which an operator should replace a certificate.
const RENEWAL_TIME: TimeDelta = TimeDelta::days(30);

/// How the expiry of a file's certificates compares with the current time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// A certificate is expired.
    Expired(DateTime<Utc>),
    /// A certificate expires within 30 days.
    Soon(DateTime<Utc>),
    /// All certificates are valid for longer.
    Later(DateTime<Utc>),
}

impl File {
    /// The earliest expiry of the certificates in the file.
    ///
    /// # Errors
    /// The file cannot be read, or a certificate in it has no readable expiry.
    pub(crate) fn expiry(&self, now: DateTime<Utc>) -> Result<Expiry, FileError> {
        let certificates = self.certificates(&self.read()?)?;
        let ends = certificates.iter().map(|certificate| not_after(certificate));
        let ends: Option<Vec<_>> = ends.collect();
        let earliest = ends.and_then(|ends| ends.into_iter().min());
        let end = earliest.ok_or_else(|| self.wrong("has a certificate without an expiry"))?;
        Ok(match end - now {
            rest if rest <= TimeDelta::zero() => Expiry::Expired(end),
            rest if rest < RENEWAL_TIME => Expiry::Soon(end),
            _ => Expiry::Later(end),
        })
    }
}

const SEQUENCE: u8 = 0x30;
const VERSION_TAG: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The field `notAfter` of a certificate (RFC 5280, section 4.1). rustls does not expose it.
fn not_after(certificate: &[u8]) -> Option<DateTime<Utc>> {
    let (fields, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE).map(content)?;
    let (mut fields, _) = element(fields).map(content)?;
    if fields.first() == Some(&VERSION_TAG) {
        fields = element(fields)?.2;
    }
    // The serial number, the algorithm of the signature, the issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (validity, _) = element(fields).filter(|(tag, ..)| *tag == SEQUENCE).map(content)?;
    let (tag, time, _) = element(element(validity)?.2)?;
    time_of(tag, std::str::from_utf8(time).ok()?)
}

/// The content of an element, and the bytes after the element.
fn content<'a>((_, content, rest): (u8, &'a [u8], &'a [u8])) -> (&'a [u8], &'a [u8]) {
    (content, rest)
}

/// The tag and the content of the first element in DER, and the bytes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ`, where years from 50 on are of the 20th century, or `YYYYMMDDHHMMSSZ`.
fn time_of(tag: u8, text: &str) -> Option<DateTime<Utc>> {
    let digits = text.strip_suffix('Z').filter(|text| text.bytes().all(|c| c.is_ascii_digit()))?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |index: usize| rest.get(index..index + 2)?.parse().ok();
    let date = NaiveDate::from_ymd_opt(year, part(0)?, part(2)?)?;
    Some(date.and_hms_opt(part(4)?, part(6)?, part(8)?)?.and_utc())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_earliest_certificate_of_a_file_decides() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificates.pem");
        let file = File { key: "grpc.tls_certificate", path: path.clone() };
        let issue = |year| {
            let mut parameters = CertificateParams::new(["a.internal".to_owned()]).unwrap();
            parameters.not_before = date_time_ymd(1990, 1, 1);
            parameters.not_after = date_time_ymd(year, 7, 2);
            parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
        };
        let day = |year, day| {
            NaiveDate::from_ymd_opt(year, 7, day).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc()
        };
        // Years from 2050 on have four digits.
        std::fs::write(&path, issue(2051) + &issue(2049)).unwrap();
        let end = day(2049, 2);
        assert_eq!(file.expiry(day(2048, 2)), Ok(Expiry::Later(end)));
        assert_eq!(file.expiry(day(2049, 1)), Ok(Expiry::Soon(end)));
        assert_eq!(file.expiry(day(2049, 2)), Ok(Expiry::Expired(end)));
        std::fs::write(&path, issue(2051)).unwrap();
        assert_eq!(file.expiry(day(2049, 2)), Ok(Expiry::Later(day(2051, 2))));
        std::fs::write(&path, issue(1999)).unwrap();
        assert_eq!(file.expiry(day(2049, 2)), Ok(Expiry::Expired(day(1999, 2))));
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_expiry() {
        for bytes in [&b""[..], b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x30"]
        {
            assert_eq!(not_after(bytes), None);
        }
    }
}
