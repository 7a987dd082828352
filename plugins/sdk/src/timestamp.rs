//! A moment in UTC. What moment it is now, [`crate::clock`] says.

use std::{cmp::Ordering, time::Duration};

/// A moment in UTC, and what is known of the clock that gave it. Moments are compared without that.
///
/// Routers have no battery clock: they boot at the time of their newest file and jump forward
/// when the network brings the time.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    unix_nanos: i64,
    giver: Giver,
}

/// What gave a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Giver {
    /// A clock that is right, or somebody who should know.
    Set,
    /// The clock of this machine, since this boot, and before anything showed that it is right.
    NotSet,
    /// The same, in an earlier boot: what the time was then will never be known.
    NotSetThen,
}

impl Timestamp {
    /// A moment by its distance from 1970-01-01T00:00:00Z, in nanoseconds. It is taken as right.
    pub fn from_unix_nanos(unix_nanos: i64) -> Timestamp {
        Timestamp { unix_nanos, giver: Giver::Set }
    }

    /// What the clock of this machine said, in this boot, before it was set.
    pub fn before_clock_was_set(unix_nanos: i64) -> Timestamp {
        Timestamp { unix_nanos, giver: Giver::NotSet }
    }

    /// The same, in another boot.
    pub fn of_another_boot(unix_nanos: i64) -> Timestamp {
        Timestamp { unix_nanos, giver: Giver::NotSetThen }
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub fn unix_nanos(self) -> i64 {
        self.unix_nanos
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn unix_millis(self) -> i64 {
        self.unix_nanos / 1_000_000
    }

    /// A moment before this one, by the same clock.
    pub fn earlier(self, by: Duration) -> Timestamp {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        Timestamp { unix_nanos: self.unix_nanos.saturating_sub(nanos), ..self }
    }

    /// False for what was stamped before the network brought the time, or before anything showed that
    /// it is right.
    pub fn clock_was_set(self) -> bool {
        self.giver == Giver::Set
    }

    /// Whether it can be compared with what the clock of this machine says, once it is restamped.
    pub fn is_comparable(self) -> bool {
        self.giver != Giver::NotSetThen
    }

    /// RFC 3339 in UTC with milliseconds, such as `2026-11-21T09:14:02.120Z`.
    pub fn to_rfc3339(self) -> String {
        let millis = self.unix_nanos.div_euclid(1_000_000);
        let (seconds, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }

    /// The time of day in UTC, such as `09:14:02`.
    pub fn time_of_day(self) -> String {
        let second = self.unix_nanos.div_euclid(1_000_000_000).rem_euclid(86_400);
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Timestamp) -> bool {
        self.unix_nanos == other.unix_nanos
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Timestamp) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Timestamp) -> Ordering {
        self.unix_nanos.cmp(&other.unix_nanos)
    }
}

/// Year, month and day of the proleptic Gregorian calendar, by days since 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // Counting from 1 March of year 0 puts the leap day at the end of a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_rfc_3339() {
        let text = |seconds: i64| Timestamp::from_unix_nanos(seconds * 1_000_000_000).to_rfc3339();
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_827_696), "2000-02-29T12:34:56.000Z");
        assert_eq!(text(1_798_761_599), "2026-12-31T23:59:59.000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.000Z");
    }

    #[test]
    fn a_time_of_day_is_that_of_utc() {
        let text = |seconds: i64| Timestamp::from_unix_nanos(seconds * 1_000_000_000).time_of_day();
        assert_eq!(text(951_827_696), "12:34:56");
        assert_eq!(text(-1), "23:59:59");
    }
}
