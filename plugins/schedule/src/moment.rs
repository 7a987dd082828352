//! Times of the day as users write them: `06:00`, `sunset`, `sunrise-30m`.

use std::{borrow::Cow, time::Duration};

use forebay_sdk::{
    Period, Timestamp, Zone, units,
    zone::{Date, Time, Weekday},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::sun::Place;

/// The farthest from the sun that somebody may want.
const LONGEST_OFFSET: Duration = Duration::from_secs(12 * 3600);

/// A time of the day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Moment {
    At(Time),
    /// The end of the day, `24:00`.
    End,
    /// So many nanoseconds after the sun rises.
    Sunrise(i64),
    Sunset(i64),
}

impl Moment {
    /// Reads a time of the day; says what would be right when it cannot.
    pub(crate) fn parse(text: &str) -> Result<Moment, String> {
        let wrong = || {
            format!("expected a time such as `06:00`, `sunset` or `sunrise-30m`, found `{text}`")
        };
        if text == "24:00" {
            return Ok(Moment::End);
        }
        for (word, of) in
            [("sunrise", Moment::Sunrise as fn(i64) -> Moment), ("sunset", Moment::Sunset)]
        {
            let Some(rest) = text.strip_prefix(word) else { continue };
            if rest.is_empty() {
                return Ok(of(0));
            }
            let (sign, rest) = match (rest.strip_prefix('+'), rest.strip_prefix('-')) {
                (Some(rest), _) => (1, rest),
                (_, Some(rest)) => (-1, rest),
                _ => return Err(wrong()),
            };
            let Period(offset) = Period::parse(rest).map_err(|_| wrong())?;
            if offset > LONGEST_OFFSET {
                return Err("expected at most 12h from the sun".to_owned());
            }
            return Ok(of(sign * i64::try_from(offset.as_nanos()).map_err(|_| wrong())?));
        }
        let parts: Option<Vec<i8>> = text.split(':').map(two_digits).collect();
        let time = match parts.as_deref() {
            Some([hour, minute]) => Time::new(*hour, *minute, 0, 0),
            Some([hour, minute, second]) => Time::new(*hour, *minute, *second, 0),
            _ => return Err(wrong()),
        };
        time.map(Moment::At).map_err(|_| wrong())
    }

    /// Whether it can only be told where one is.
    pub(crate) fn needs_a_place(self) -> bool {
        matches!(self, Moment::Sunrise(_) | Moment::Sunset(_))
    }

    /// When that is on a day. None where the sun does not rise or set.
    pub(crate) fn on(self, day: Date, zone: &Zone, place: Option<Place>) -> Option<Timestamp> {
        let shifted =
            |at: Timestamp, by: i64| Timestamp::from_unix_nanos(at.unix_nanos().saturating_add(by));
        match self {
            Moment::At(time) => Some(zone.moment(day.to_datetime(time))),
            Moment::End => Some(zone.moment(day.tomorrow().ok()?.to_datetime(Time::midnight()))),
            Moment::Sunrise(by) => place?.sun(day).map(|(rises, _)| shifted(rises, by)),
            Moment::Sunset(by) => place?.sun(day).map(|(_, sets)| shifted(sets, by)),
        }
    }
}

fn two_digits(part: &str) -> Option<i8> {
    let is_plain = (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    part.parse().ok().filter(|_| is_plain)
}

/// The days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn weekday(self) -> Weekday {
        match self {
            Day::Mon => Weekday::Monday,
            Day::Tue => Weekday::Tuesday,
            Day::Wed => Weekday::Wednesday,
            Day::Thu => Weekday::Thursday,
            Day::Fri => Weekday::Friday,
            Day::Sat => Weekday::Saturday,
            Day::Sun => Weekday::Sunday,
        }
    }

    /// Whether a day is among these. All are, when none is named.
    pub(crate) fn includes(days: &[Day], day: Date) -> bool {
        days.is_empty() || days.iter().any(|one| one.weekday() == day.weekday())
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        units::parsed(deserializer, Moment::parse)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "TimeOfDay".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}
