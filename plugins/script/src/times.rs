//! Functions of scripts for times and time zones. A time is a whole number: milliseconds since 1970, UTC.

use std::time::Duration;

use forebay_sdk::{Timestamp, Zone};
use rhai::{Engine, EvalAltResult, Map};

type Answer<T> = Result<T, Box<EvalAltResult>>;

const DAY: Duration = Duration::from_secs(86_400);
/// A longer form is a mistake.
const MOST_FORM_BYTES: usize = 256;

pub(crate) fn register(engine: &mut Engine) {
    engine.register_fn("local_time", |millis: i64| {
        Ok::<_, Box<EvalAltResult>>(clocks(millis, &Zone::default()))
    });
    engine.register_fn("local_time", |millis: i64, zone: &str| -> Answer<Map> {
        Ok(clocks(millis, &named(zone)?))
    });
    engine.register_fn("format_time", |millis: i64, form: &str| {
        format(millis, form, &Zone::default())
    });
    engine.register_fn("format_time", |millis: i64, form: &str, zone: &str| {
        format(millis, form, &named(zone)?)
    });
    // A division gives a decimal number.
    engine.register_fn("format_time", |millis: f64, form: &str| {
        format(whole(millis)?, form, &Zone::default())
    });
    engine.register_fn("format_time", |millis: f64, form: &str, zone: &str| {
        format(whole(millis)?, form, &named(zone)?)
    });
    engine.register_fn("local_time", |millis: f64, zone: &str| -> Answer<Map> {
        Ok(clocks(whole(millis)?, &named(zone)?))
    });
    engine.register_fn("parse_time", |text: &str| read(text, &Zone::default()));
    engine.register_fn("parse_time", |text: &str, word: &str| match word.contains('%') {
        true => read_as(text, word, &Zone::default()),
        false => read(text, &named(word)?),
    });
    engine.register_fn("parse_time", |text: &str, form: &str, zone: &str| {
        read_as(text, form, &named(zone)?)
    });
    engine.register_fn("day_start", |millis: i64| day_start(millis, &Zone::default()));
    engine.register_fn("day_start", |millis: i64, zone: &str| -> Answer<i64> {
        Ok(day_start(millis, &named(zone)?))
    });
}

fn named(zone: &str) -> Answer<Zone> {
    Zone::parse(zone).map_err(Into::into)
}

fn moment(millis: i64) -> Timestamp {
    Timestamp::from_unix_nanos(millis.saturating_mul(1_000_000))
}

fn clocks(millis: i64, zone: &Zone) -> Map {
    let local = zone.local(moment(millis));
    let members = [
        ("year", local.year().into()),
        ("month", local.month().into()),
        ("day", local.day().into()),
        ("hour", local.hour().into()),
        ("minute", local.minute().into()),
        ("second", local.second().into()),
        ("weekday", local.weekday().to_monday_one_offset().into()),
        ("day_of_year", i64::from(local.day_of_year())),
        ("offset", i64::from(local.offset().seconds())),
    ];
    members.into_iter().map(|(name, value): (&str, i64)| (name.into(), value.into())).collect()
}

fn format(millis: i64, form: &str, zone: &Zone) -> Answer<String> {
    if form.len() > MOST_FORM_BYTES {
        return Err(format!("the form of a time has {MOST_FORM_BYTES} bytes at most").into());
    }
    zone.format(moment(millis), form)
        .map_err(|why| format!("`{form}` is no form of a time: {why}").into())
}

fn read(text: &str, zone: &Zone) -> Answer<i64> {
    zone.read(text).map(Timestamp::unix_millis).map_err(Into::into)
}

fn read_as(text: &str, form: &str, zone: &Zone) -> Answer<i64> {
    if form.len() > MOST_FORM_BYTES || text.len() > MOST_FORM_BYTES {
        return Err(format!("a time and its form have {MOST_FORM_BYTES} bytes at most").into());
    }
    let read = zone.read_as(text, form).map(Timestamp::unix_millis);
    read.map_err(|why| format!("\"{text}\" is no time of the form `{form}`: {why}").into())
}

/// The whole milliseconds of a decimal number.
fn whole(millis: f64) -> Answer<i64> {
    const MOST: f64 = 9e15;
    match millis.round() {
        whole if whole.abs() <= MOST => Ok(whole as i64),
        _ => Err(format!("{millis} is no time in milliseconds").into()),
    }
}

fn day_start(millis: i64, zone: &Zone) -> i64 {
    zone.slot(moment(millis), DAY).start.unix_millis()
}
