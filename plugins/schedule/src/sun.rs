//! When the sun rises and sets, by the sunrise equation, right to a minute or two up to the polar
//! circles. Constants as in the Astronomical Almanac; -0.833 degrees are refraction and half of the sun.

use forebay_sdk::{Timestamp, zone::Date};

/// The Julian date of 1970-01-01T00:00:00Z.
const JULIAN_1970: f64 = 2_440_587.5;
/// That of 2000-01-01T12:00:00Z, from where the equation counts.
const JULIAN_2000: f64 = 2_451_545.0;
const DAY_NANOS: f64 = 86_400e9;

/// A place on earth, in degrees: north and east are positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    pub latitude: f64,
    pub longitude: f64,
}

impl Place {
    /// Sunrise and sunset of a day. None where the sun stays up or down.
    pub(crate) fn sun(self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let since_2000 = day.duration_since(Date::constant(2000, 1, 1)).as_hours() / 24;
        let noon = since_2000 as f64 - self.longitude / 360.0;
        let anomaly = (357.5291 + 0.985_600_28 * noon).rem_euclid(360.0).to_radians();
        let center =
            1.9148 * anomaly.sin() + 0.02 * (2.0 * anomaly).sin() + 0.0003 * (3.0 * anomaly).sin();
        let ecliptic =
            (anomaly.to_degrees() + center + 180.0 + 102.9372).rem_euclid(360.0).to_radians();
        let transit = JULIAN_2000 + noon + 0.0053 * anomaly.sin() - 0.0069 * (2.0 * ecliptic).sin();
        let declination = (ecliptic.sin() * 23.4397_f64.to_radians().sin()).asin();
        let latitude = self.latitude.to_radians();
        let hour = ((-0.833_f64).to_radians().sin() - latitude.sin() * declination.sin())
            / (latitude.cos() * declination.cos());
        if !(-1.0..=1.0).contains(&hour) {
            return None;
        }
        let half_a_day = hour.acos().to_degrees() / 360.0;
        let moment =
            |julian: f64| Timestamp::from_unix_nanos(((julian - JULIAN_1970) * DAY_NANOS) as i64);
        Some((moment(transit - half_a_day), moment(transit + half_a_day)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sun_rises_and_sets_as_almanacs_say() {
        let berlin = Place { latitude: 52.52, longitude: 13.405 };
        let sydney = Place { latitude: -33.87, longitude: 151.21 };
        // Hours and minutes in UTC.
        for (place, day, rise, set) in [
            (berlin, Date::constant(2026, 6, 21), 2 * 60 + 43, 19 * 60 + 33),
            (berlin, Date::constant(2026, 12, 21), 7 * 60 + 15, 14 * 60 + 54),
            (sydney, Date::constant(2026, 12, 21), 18 * 60 + 41, 9 * 60 + 5),
        ] {
            let (rises, sets) = place.sun(day).unwrap();
            for (found, expected) in [(rises, rise), (sets, set)] {
                let minute = found.unix_nanos().div_euclid(60_000_000_000).rem_euclid(1440);
                assert!((minute - expected).abs() <= 2, "{day}: {minute} instead of {expected}");
            }
        }
        let tromso = Place { latitude: 69.65, longitude: 18.96 };
        assert_eq!(tromso.sun(Date::constant(2026, 12, 21)), None);
        assert_eq!(tromso.sun(Date::constant(2026, 6, 21)), None);
    }
}
