//! A moment in UTC. What moment it is now, [`crate::clock`] says.

/// A moment in UTC, and whether the clock that gave it had been set.
///
/// Routers have no battery clock: they boot at the time of their newest file and jump forward
/// when the network brings the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    unix_nanos: i64,
    clock_was_set: bool,
}

/// 2026-01-01T00:00:00Z. A clock that shows an earlier time than this program's first year has not been set.
const FIRST_PLAUSIBLE_NANOS: i64 = 1_767_225_600 * 1_000_000_000;

impl Timestamp {
    /// A moment by its distance from 1970-01-01T00:00:00Z, in nanoseconds.
    pub fn from_unix_nanos(unix_nanos: i64) -> Timestamp {
        Timestamp { unix_nanos, clock_was_set: unix_nanos >= FIRST_PLAUSIBLE_NANOS }
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub fn unix_nanos(self) -> i64 {
        self.unix_nanos
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn unix_millis(self) -> i64 {
        self.unix_nanos / 1_000_000
    }

    /// False for what was stamped before the network brought the time.
    pub fn clock_was_set(self) -> bool {
        self.clock_was_set
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

    #[test]
    fn a_time_before_the_program_was_written_was_not_set() {
        assert!(!Timestamp::from_unix_nanos(0).clock_was_set());
        assert!(Timestamp::from_unix_nanos(FIRST_PLAUSIBLE_NANOS).clock_was_set());
    }
}
