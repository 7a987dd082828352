//! What users write under a `schedule` source or transform.

use std::sync::Arc;

use forebay_sdk::{Configured, Problem, Settings, Value, Zone};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    moment::{Day, Moment},
    source::Schedule,
    sun::Place,
    transform::{Gate, Span},
};

/// The most times or spans of a node.
const MOST: usize = 100;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleSettings {
    /// Times of the day at which a message is sent: `"06:00"`, `sunrise`, `sunset-30m`.
    at: Vec<Moment>,
    /// The days on which it is: `[mon, tue, wed, thu, fri]`. All of them when left out.
    #[serde(default)]
    days: Vec<Day>,
    /// The time zone of the times and days, such as `Europe/Berlin`. UTC when left out.
    #[serde(default)]
    zone: Zone,
    /// Degrees north of the equator, south of it negative: for `sunrise` and `sunset`.
    latitude: Option<f64>,
    /// Degrees east of Greenwich, west of it negative: for `sunrise` and `sunset`.
    longitude: Option<f64>,
    /// Topic of the messages. The node's name, as in `garden/evening`, when left out.
    topic: Option<String>,
    /// Payload of each message: any text, number, list or map. `{at: …}` when left out, with the time of the
    /// event.
    payload: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GateSettings {
    /// When messages go on. At any other time they are dropped on purpose.
    open: Vec<SpanSettings>,
    /// The time zone of the times and days, such as `Europe/Berlin`. UTC when left out.
    #[serde(default)]
    zone: Zone,
    /// Degrees north of the equator, south of it negative: for `sunrise` and `sunset`.
    latitude: Option<f64>,
    /// Degrees east of Greenwich, west of it negative: for `sunrise` and `sunset`.
    longitude: Option<f64>,
}

/// A part of some days.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SpanSettings {
    /// The days on which it begins: `[sat, sun]`. All of them when left out.
    #[serde(default)]
    days: Vec<Day>,
    /// When it begins: `"06:00"`, `sunrise`, `sunset-30m`. At midnight when left out.
    #[serde(default = "midnight")]
    from: Moment,
    /// When it ends; on the next day, when that is not after `from`. At the end of the day when left out.
    #[serde(default = "end")]
    to: Moment,
}

fn midnight() -> Moment {
    Moment::At(forebay_sdk::zone::Time::midnight())
}

fn end() -> Moment {
    Moment::End
}

impl Settings for ScheduleSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        check_count("at", self.at.len(), problems);
        let place = place(self.latitude, self.longitude, problems);
        for (at, moment) in self.at.iter().enumerate() {
            check_place(format!("at[{at}]"), *moment, place, problems);
        }
        if let Some(end) = self.at.iter().position(|moment| *moment == Moment::End) {
            let message = "`at` has the end of a day, which is the beginning of the next";
            problems.push(
                Problem::new(format!("at[{end}]"), message, "expected `00:00`")
                    .instead("\"00:00\""),
            );
        }
        Some(Schedule {
            at: Arc::from(self.at),
            days: Arc::from(self.days),
            zone: self.zone,
            place,
            topic: self.topic.map(Arc::from),
            payload: self.payload,
        })
    }
}

impl Settings for GateSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        check_count("open", self.open.len(), problems);
        let place = place(self.latitude, self.longitude, problems);
        for (at, span) in self.open.iter().enumerate() {
            check_place(format!("open[{at}].from"), span.from, place, problems);
            check_place(format!("open[{at}].to"), span.to, place, problems);
        }
        let span = |span: SpanSettings| Span { days: span.days, from: span.from, to: span.to };
        let open = self.open.into_iter().map(span).collect();
        Some(Gate { open, zone: self.zone, place })
    }
}

fn check_count(setting: &'static str, count: usize, problems: &mut Vec<Problem>) {
    if !(1..=MOST).contains(&count) {
        let label = format!("expected 1 to {MOST} entries, found {count}");
        problems.push(Problem::new(setting, format!("`{setting}` names no time"), label));
    }
}

fn place(
    latitude: Option<f64>,
    longitude: Option<f64>,
    problems: &mut Vec<Problem>,
) -> Option<Place> {
    for (setting, degrees, most, other) in
        [("latitude", latitude, 90.0, longitude), ("longitude", longitude, 180.0, latitude)]
    {
        let Some(degrees) = degrees else { continue };
        problems.extend(Problem::unless_within(setting, &degrees, -most..=most));
        if other.is_none() {
            let message = format!("`{setting}` alone is no place");
            problems.push(Problem::new(setting, message, "expected `latitude` and `longitude`"));
        }
    }
    Some(Place { latitude: latitude?, longitude: longitude? })
}

fn check_place(setting: String, moment: Moment, place: Option<Place>, problems: &mut Vec<Problem>) {
    if moment.needs_a_place() && place.is_none() {
        let message = format!("`{setting}` speaks of the sun, and nothing says where");
        problems.push(Problem::new(
            setting,
            message,
            "expected `latitude` and `longitude` beside it",
        ));
    }
}
