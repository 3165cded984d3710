//! The retirement of the legacy call: its dates, the link to its documentation, and brownouts.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};
use http::Uri;

/// The largest number of brownouts.
pub const MAX_BROWNOUTS: usize = 100;
/// The longest link, in bytes: the length of the column.
pub const MAX_LINK_BYTES: usize = 255;

/// How and when the legacy call ends. By default, it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retirement {
    /// When the call is or was deprecated.
    pub deprecation: Option<PointInTime>,
    /// When the call ends.
    pub sunset: Option<PointInTime>,
    /// The page that tells clients how to migrate.
    pub link: Option<Link>,
    /// The windows in which legacy calls are refused.
    pub brownouts: Brownouts,
}

impl Retirement {
    /// Whether the sunset is before the deprecation, which RFC 9745 (section 4) forbids.
    pub fn ends_too_early(&self) -> bool {
        matches!((self.deprecation, self.sunset), (Some(from), Some(to)) if to < from)
    }
}

/// Why a text is not part of a retirement. The text never repeats a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRetirement {
    /// The text is no point in time.
    #[error("must be a time in whole seconds from 1970 to 9999, such as 2027-03-01T00:00:00Z")]
    PointInTime,
    /// The text is no link.
    #[error(
        "must be an http or https URL of at most {MAX_LINK_BYTES} bytes, without user name, \
         spaces, quotes, angle brackets or characters that need percent-encoding"
    )]
    Link,
    /// The text is no window.
    #[error(
        "must be windows START/END with the end after the start, such as \
         2027-02-01T09:00:00Z/2027-02-01T10:00:00Z"
    )]
    Window,
    /// There are more than [`MAX_BROWNOUTS`].
    #[error("must be at most {MAX_BROWNOUTS} windows")]
    TooMany,
}

/// A point in time in whole seconds, from 1970 to 9999. The text is RFC 3339; in UTC if written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PointInTime(DateTime<Utc>);

impl PointInTime {
    /// The point in time at these seconds since 1970.
    ///
    /// # Errors
    /// [`NotRetirement::PointInTime`] if the year is over 9999, or below 1970.
    pub fn from_unix_seconds(seconds: i64) -> Result<Self, NotRetirement> {
        let time = DateTime::from_timestamp(seconds, 0).ok_or(NotRetirement::PointInTime)?;
        Self::of(time)
    }

    fn of(time: DateTime<Utc>) -> Result<Self, NotRetirement> {
        // A leap second has nanoseconds over a second.
        let is_whole = time.timestamp_subsec_nanos() == 0;
        // 10000-01-01T00:00:00Z.
        let is_in_range = (0..253_402_300_800).contains(&time.timestamp());
        if is_whole && is_in_range { Ok(Self(time)) } else { Err(NotRetirement::PointInTime) }
    }

    /// The seconds since 1970.
    pub fn unix_seconds(self) -> i64 {
        self.0.timestamp()
    }

    /// The `HTTP-date` of RFC 9110, section 5.6.7.
    pub fn http_date(self) -> String {
        self.0.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}

impl FromStr for PointInTime {
    type Err = NotRetirement;

    fn from_str(text: &str) -> Result<Self, NotRetirement> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| NotRetirement::PointInTime)?;
        Self::of(time.to_utc())
    }
}

impl fmt::Display for PointInTime {
    fn fmt(&self, text: &mut fmt::Formatter) -> fmt::Result {
        text.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

/// An absolute `http` or `https` URL that is safe in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link(Arc<str>);

impl Link {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Link {
    type Err = NotRetirement;

    fn from_str(text: &str) -> Result<Self, NotRetirement> {
        let is_safe = |byte: u8| byte.is_ascii_graphic() && !b"<>\"'`\\^{|}".contains(&byte);
        let is_absolute = |url: &Uri| {
            matches!(url.scheme_str(), Some("http" | "https"))
                && url.host().is_some_and(|host| !host.is_empty())
                && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        };
        let is_link = text.len() <= MAX_LINK_BYTES
            && text.bytes().all(is_safe)
            && text.parse().is_ok_and(|url| is_absolute(&url));
        if is_link { Ok(Self(text.into())) } else { Err(NotRetirement::Link) }
    }
}

/// A window of time. It includes its start and excludes its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    start: PointInTime,
    end: PointInTime,
}

impl Window {
    /// The window between two points in time.
    ///
    /// # Errors
    /// [`NotRetirement::Window`] if the end is not after the start.
    pub fn new(start: PointInTime, end: PointInTime) -> Result<Self, NotRetirement> {
        if start < end { Ok(Self { start, end }) } else { Err(NotRetirement::Window) }
    }

    /// The start.
    pub fn start(self) -> PointInTime {
        self.start
    }

    /// The end.
    pub fn end(self) -> PointInTime {
        self.end
    }
}

/// `START/END`.
impl FromStr for Window {
    type Err = NotRetirement;

    fn from_str(text: &str) -> Result<Self, NotRetirement> {
        let (start, end) = text.split_once('/').ok_or(NotRetirement::Window)?;
        let point = |text: &str| text.parse().map_err(|_| NotRetirement::Window);
        Self::new(point(start)?, point(end)?)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, text: &mut fmt::Formatter) -> fmt::Result {
        write!(text, "{}/{}", self.start, self.end)
    }
}

/// The windows in which legacy calls are refused, by their start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brownouts(Arc<[Window]>);

impl Brownouts {
    /// The set of these windows.
    ///
    /// # Errors
    /// [`NotRetirement::TooMany`].
    pub fn of(mut windows: Vec<Window>) -> Result<Self, NotRetirement> {
        windows.sort_unstable();
        windows.dedup();
        if windows.len() > MAX_BROWNOUTS {
            return Err(NotRetirement::TooMany);
        }
        Ok(Self(windows.into()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The windows, by their start.
    pub fn iter(&self) -> impl Iterator<Item = Window> {
        self.0.iter().copied()
    }

    /// The first window that contains a time.
    pub fn at(&self, time: DateTime<Utc>) -> Option<Window> {
        self.iter().find(|window| window.start.0 <= time && time < window.end.0)
    }
}

/// Windows separated by commas or spaces.
impl FromStr for Brownouts {
    type Err = NotRetirement;

    fn from_str(text: &str) -> Result<Self, NotRetirement> {
        let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
        Self::of(parts.map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for Brownouts {
    fn fmt(&self, text: &mut fmt::Formatter) -> fmt::Result {
        for (index, window) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(text, "{separator}{window}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
