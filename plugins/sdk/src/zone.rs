//! Days and hours as the people at the site count them.

use std::{borrow::Cow, time::Duration};

use forebay_yaml::units;
pub use jiff::civil::{Date, Time, Weekday};
use jiff::{Span, ToSpan, Unit, Zoned, civil::DateTime, tz::TimeZone};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::timestamp::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const DAY_SECONDS: i64 = 86_400;

/// The setting that names a time zone, such as `Europe/Berlin`. UTC when left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Zone {
        Zone(TimeZone::UTC)
    }
}

/// A stretch of time by the clock on the wall: a quarter of an hour, a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Where it begins.
    pub start: Timestamp,
    /// Where the next one begins.
    pub end: Timestamp,
}

impl Zone {
    /// Reads a name of the time zone database; says what would be right when it cannot.
    pub fn parse(name: &str) -> Result<Zone, String> {
        jiff::tz::db().get(name).map(Zone).map_err(|_| {
            format!("expected the name of a time zone, such as `Europe/Berlin`, found `{name}`")
        })
    }

    /// The day, as the number of days since 1970.
    pub fn day(&self, at: Timestamp) -> i64 {
        days_since_1970(self.local(at).date())
    }

    /// The month, as the number of months since the year 0.
    pub fn month(&self, at: Timestamp) -> i64 {
        let date = self.local(at).date();
        i64::from(date.year()) * 12 + i64::from(date.month()) - 1
    }

    /// The slot of this length in which a moment lies. Slots count from midnight of the zone; those of
    /// days begin at midnight, and those of weeks on Mondays. On a day when clocks are changed a slot of
    /// more than an hour is as much longer or shorter.
    ///
    /// `length` must divide a day, or be a number of days ([`fits_the_day`]).
    pub fn slot(&self, at: Timestamp, length: Duration) -> Slot {
        let local = self.local(at);
        if length <= HOUR {
            let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX).max(1);
            let of_day = local.datetime().duration_since(local.date().at(0, 0, 0, 0));
            let into = i64::try_from(of_day.as_nanos()).unwrap_or(0) % nanos;
            let start = at.unix_nanos() - into;
            let stamp = Timestamp::from_unix_nanos;
            return Slot { start: stamp(start), end: stamp(start + nanos) };
        }
        let (start, end) = civil_slot(local.datetime(), length);
        Slot { start: self.moment(start), end: self.moment(end) }
    }

    /// What clocks show at a moment.
    pub fn local(&self, at: Timestamp) -> Zoned {
        let moment = jiff::Timestamp::from_nanosecond(at.unix_nanos().into());
        // 64 bits of nanoseconds reach from 1677 to 2262, which is within what it takes.
        moment.unwrap_or_default().to_zoned(self.0.clone())
    }

    /// What clocks show, in a form such as `%Y-%m-%d %H:%M`.
    ///
    /// # Errors
    ///
    /// When the form has a part that there is not.
    pub fn format(&self, at: Timestamp, form: &str) -> Result<String, String> {
        jiff::fmt::strtime::format(form, &self.local(at)).map_err(|error| error.to_string())
    }

    /// The moment of a text such as `2026-11-21T09:14:02.12Z`, `2026-11-21T10:14:02+01:00`, or, as clocks show it here,
    /// `2026-11-21 10:14`.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn read(&self, text: &str) -> Result<Timestamp, String> {
        let text = text.trim();
        if let Ok(moment) = text.parse::<jiff::Timestamp>() {
            return stamp(moment);
        }
        let civil = text.parse::<DateTime>().map_err(|_| {
            format!("expected a time such as `2026-11-21T09:14:02Z` or `2026-11-21 10:14`, found `{text}`")
        })?;
        Ok(self.moment(civil))
    }

    /// Reads a text of another form, that of `strftime`. What it says of an offset or a zone goes before this zone; without a
    /// time of the day it is the beginning of the day.
    ///
    /// # Errors
    ///
    /// When the form is none, or the text has another.
    pub fn read_as(&self, text: &str, form: &str) -> Result<Timestamp, String> {
        let read =
            jiff::fmt::strtime::parse(form, text.trim()).map_err(|error| error.to_string())?;
        if let Ok(moment) = read.to_timestamp() {
            return stamp(moment);
        }
        let date = read.to_date().map_err(|error| error.to_string())?;
        Ok(self.moment(date.to_datetime(read.to_time().unwrap_or_default())))
    }

    /// When clocks show this: the first time, where they are set back, and where they are put forward
    /// over it, as much later.
    pub fn moment(&self, civil: DateTime) -> Timestamp {
        let nanos = civil.to_zoned(self.0.clone()).map(|zoned| zoned.timestamp().as_nanosecond());
        Timestamp::from_unix_nanos(nanos.ok().and_then(|nanos| nanos.try_into().ok()).unwrap_or(0))
    }
}

fn stamp(moment: jiff::Timestamp) -> Result<Timestamp, String> {
    let nanos = i64::try_from(moment.as_nanosecond());
    nanos.map(Timestamp::from_unix_nanos).map_err(|_| "it is too far away".to_owned())
}

/// Whether slots of this length begin anew at midnight: it divides a day, or is a number of days.
pub fn fits_the_day(length: Duration) -> bool {
    let nanos = length.as_nanos();
    nanos > 0 && (DAY.as_nanos().is_multiple_of(nanos) || nanos.is_multiple_of(DAY.as_nanos()))
}

/// Where the slot begins and ends by what clocks show.
fn civil_slot(local: DateTime, length: Duration) -> (DateTime, DateTime) {
    let seconds = i64::try_from(length.as_secs()).unwrap_or(DAY_SECONDS).max(1);
    let midnight = local.date().at(0, 0, 0, 0);
    if seconds < DAY_SECONDS {
        let of_day = local.duration_since(midnight).as_secs();
        let start = of_day - of_day % seconds;
        let at = |second: i64| later(midnight, second.seconds());
        return (at(start), at(start + seconds));
    }
    let days = seconds / DAY_SECONDS;
    // 1970-01-05 was a Monday.
    let into = (days_since_1970(local.date()) - 4).rem_euclid(days);
    (later(midnight, (-into).days()), later(midnight, (days - into).days()))
}

fn later(civil: DateTime, span: Span) -> DateTime {
    civil.saturating_add(span)
}

fn days_since_1970(date: Date) -> i64 {
    let since = date.since((Unit::Day, Date::constant(1970, 1, 1)));
    since.map_or(0, |span| span.get_days().into())
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
        units::parsed(deserializer, Zone::parse)
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> Zone {
        Zone::parse("Europe/Berlin").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_unix_nanos(moment.as_nanosecond().try_into().unwrap())
    }

    fn slot(zone: &Zone, text: &str, minutes: u64) -> [String; 2] {
        let slot = zone.slot(at(text), Duration::from_secs(minutes * 60));
        [slot.start, slot.end].map(|end| end.to_rfc3339().replace(":00.000Z", "Z"))
    }

    #[test]
    fn a_slot_begins_by_the_clock_on_the_wall() {
        let zone = berlin();
        assert_eq!(
            slot(&zone, "2026-11-21T09:07:10Z", 15),
            ["2026-11-21T09:00Z", "2026-11-21T09:15Z"]
        );
        assert_eq!(
            slot(&zone, "2026-11-21T09:00:00Z", 60),
            ["2026-11-21T09:00Z", "2026-11-21T10:00Z"]
        );
        assert_eq!(
            slot(&zone, "2026-11-21T09:00:00Z", 360),
            ["2026-11-21T05:00Z", "2026-11-21T11:00Z"]
        );
        assert_eq!(
            slot(&zone, "2026-11-21T23:30:00Z", 1440),
            ["2026-11-21T23:00Z", "2026-11-22T23:00Z"]
        );
        // A Saturday.
        let week = ["2026-11-15T23:00Z", "2026-11-22T23:00Z"];
        assert_eq!(slot(&zone, "2026-11-21T09:00:00Z", 7 * 1440), week);
        let kathmandu = Zone::parse("Asia/Kathmandu").unwrap();
        assert_eq!(
            slot(&kathmandu, "2026-11-21T09:20:00Z", 60),
            ["2026-11-21T09:15Z", "2026-11-21T10:15Z"]
        );
    }

    #[test]
    fn on_a_day_when_clocks_change_slots_are_longer_or_shorter() {
        let zone = berlin();
        // Put forward from 02:00 to 03:00, at 01:00 UTC.
        assert_eq!(
            slot(&zone, "2026-03-29T00:30:00Z", 1440),
            ["2026-03-28T23:00Z", "2026-03-29T22:00Z"]
        );
        assert_eq!(
            slot(&zone, "2026-03-29T01:30:00Z", 360),
            ["2026-03-28T23:00Z", "2026-03-29T04:00Z"]
        );
        assert_eq!(
            slot(&zone, "2026-03-29T00:59:00Z", 60),
            ["2026-03-29T00:00Z", "2026-03-29T01:00Z"]
        );
        // Set back from 03:00 to 02:00, at 01:00 UTC: the hour from 2 comes twice.
        assert_eq!(
            slot(&zone, "2026-10-25T00:30:00Z", 60),
            ["2026-10-25T00:00Z", "2026-10-25T01:00Z"]
        );
        assert_eq!(
            slot(&zone, "2026-10-25T01:30:00Z", 60),
            ["2026-10-25T01:00Z", "2026-10-25T02:00Z"]
        );
        assert_eq!(
            slot(&zone, "2026-10-25T12:00:00Z", 1440),
            ["2026-10-24T22:00Z", "2026-10-25T23:00Z"]
        );
    }

    #[test]
    fn days_and_months_are_those_of_the_zone() {
        let (zone, utc) = (berlin(), Zone::default());
        let late = at("2026-11-30T23:30:00Z");
        assert_eq!(zone.day(late), utc.day(late) + 1);
        assert_eq!(zone.month(late), utc.month(late) + 1);
        assert_eq!(utc.day(at("1970-01-02T00:00:00Z")), 1);
    }

    #[test]
    fn a_time_that_clocks_skip_is_later_and_one_that_comes_twice_is_the_first() {
        let moment = |date: Date| berlin().moment(date.at(2, 30, 0, 0)).to_rfc3339();
        assert_eq!(moment(Date::constant(2026, 3, 29)), "2026-03-29T01:30:00.000Z");
        assert_eq!(moment(Date::constant(2026, 10, 25)), "2026-10-25T00:30:00.000Z");
    }

    #[test]
    fn what_is_no_zone_or_no_slot_is_said() {
        assert!(Zone::parse("Europe/Berlim").unwrap_err().contains("`Europe/Berlin`"));
        for (seconds, fits) in [
            (60, true),
            (900, true),
            (86_400, true),
            (7 * 86_400, true),
            (7000, false),
            (90_000, false),
        ] {
            assert_eq!(fits_the_day(Duration::from_secs(seconds)), fits, "{seconds}");
        }
    }
}
