//! What was counted.

use std::time::Duration;

use anyhow::bail;
use forebay_sdk::{
    By, Configured, Emitter, Fields, Input, Message, Node, Path, Saved, Sends, Series, Site,
    Timestamp, Topics, Transform, Value, Zone, clock, number, payload::kind,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// What a lower value than before means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnFall {
    /// The device began again at 0, and has counted this since: pulses, bytes.
    #[default]
    Reset,
    /// The value is wrong: meters that never begin anew. The message goes to `errors`, and counting goes on from
    /// the value before.
    Error,
}

/// A node that was understood.
#[derive(Clone)]
pub(crate) struct Counter {
    pub field: Path,
    pub rollover_at: Option<f64>,
    pub on_fall: OnFall,
    pub total: Option<String>,
    pub increase: Option<String>,
    pub rate: Option<String>,
    pub per: Duration,
    pub today: Option<String>,
    pub this_month: Option<String>,
    pub zone: Zone,
    pub by: By,
}

impl Counter {
    fn names(&self) -> impl Iterator<Item = &String> {
        let Counter { total, increase, rate, today, this_month, .. } = self;
        [total, increase, rate, today, this_month].into_iter().flatten()
    }
}

impl Configured for Counter {
    fn build(&self, site: Site) -> Node {
        let counted = site.remembered(VERSION).unwrap_or_default();
        Node::transform(Counting { counter: self.clone(), counted })
    }

    fn fields(&self) -> Fields {
        let reads = self.field.reads("field").into_iter().chain(self.by.reads()).collect();
        Fields { reads, sends: Sends::Also(self.names().cloned().collect()) }
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

struct Counting {
    counter: Counter,
    counted: Series<Option<Counted>>,
}

/// Of one counter. Sums are kept as what the device says and what is to be added to that, so that they
/// do not drift.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counted {
    /// The value of the device that came last.
    value: f64,
    /// What it counted before it began anew.
    before: f64,
    /// When it came, in nanoseconds since 1970. None when nobody knows, because the clock was not set.
    at: Option<i64>,
    day: Since,
    month: Since,
}

/// A day or a month, by its number, and the total when it began.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Since {
    number: Option<i64>,
    total: f64,
}

impl Transform for Counting {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let Counting { counter, counted } = self;
        let mut message = input.message;
        let value = match counter.field.find(&message.payload)? {
            // A device that sends what has changed, and nothing else.
            None => {
                out.emit(message);
                return Ok(());
            }
            Some(Value::Null) => None,
            Some(value) => match value.as_f64() {
                Some(value) => Some(value),
                None => bail!("`{}` is {}; expected a number", counter.field, kind(value)),
            },
        };
        let key = counter.by.of(&message)?;
        let figures = match value {
            // It could not be read, so nothing is known that follows from it.
            None => Figures::default(),
            Some(value) => {
                let (there, _) = counted.of(key);
                let (next, figures) = counter.count(there.as_ref(), value, time_of(&message))?;
                *there = Some(next);
                figures
            }
        };
        let members: Vec<(&str, Value)> = figures.named(counter).collect();
        message.payload = message.payload.with_members(&members)?;
        out.emit(message);
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(VERSION, &self.counted).ok()
    }
}

impl Counter {
    fn count(
        &self,
        there: Option<&Counted>,
        value: f64,
        time: Option<Timestamp>,
    ) -> anyhow::Result<(Counted, Figures)> {
        let at = time.map(Timestamp::unix_nanos);
        let before = match there {
            None => 0.0,
            Some(last) if value >= last.value => last.before,
            Some(last) => match (self.rollover_at, self.on_fall) {
                // Nearer by way of the end than back.
                (Some(end), _) if last.value <= end && value + end - last.value < end / 2.0 => {
                    last.before + end
                }
                (_, OnFall::Reset) => last.before + last.value,
                (_, OnFall::Error) => {
                    let (field, last) = (&self.field, last.value);
                    bail!("`{field}` fell from {last} to {value}, and never begins anew")
                }
            },
        };
        let total = before + value;
        let last_total = there.map(|last| last.before + last.value);
        let increase = last_total.map(|last| total - last);
        let passed = there.and_then(|last| Some(at? - last.at?)).filter(|passed| *passed > 0);
        let rate = increase.zip(passed).map(|(increase, passed)| {
            let per = self.per.as_nanos() as f64;
            increase * per / passed as f64
        });
        // What was counted over midnight is of the new day, in which it was seen.
        let base = last_total.unwrap_or(total);
        let since = |last: Option<Since>, number: Option<i64>| match last {
            // Neither an earlier day nor one that nobody knows begins a new one.
            Some(last)
                if number.is_none_or(|number| last.number.is_some_and(|last| number <= last)) =>
            {
                last
            }
            Some(last) if last.number.is_none() => Since { number, ..last },
            _ => Since { number, total: base },
        };
        let day = since(there.map(|last| last.day), time.map(|time| self.zone.day(time)));
        let month = since(there.map(|last| last.month), time.map(|time| self.zone.month(time)));
        let figures = Figures {
            total: Some(total),
            increase,
            rate,
            today: Some(total - day.total),
            this_month: Some(total - month.total),
        };
        Ok((Counted { value, before, at, day, month }, figures))
    }
}

/// What is added to a message. What is not known is null.
#[derive(Default)]
struct Figures {
    total: Option<f64>,
    increase: Option<f64>,
    rate: Option<f64>,
    today: Option<f64>,
    this_month: Option<f64>,
}

impl Figures {
    fn named<'a>(&self, counter: &'a Counter) -> impl Iterator<Item = (&'a str, Value)> {
        [
            (&counter.total, self.total),
            (&counter.increase, self.increase),
            (&counter.rate, self.rate),
            (&counter.today, self.today),
            (&counter.this_month, self.this_month),
        ]
        .into_iter()
        .filter_map(|(name, figure)| {
            Some((name.as_deref()?, figure.map_or(Value::Null, number::value)))
        })
    }
}

/// When a message was read, if anybody knows.
fn time_of(message: &Message) -> Option<Timestamp> {
    Some(clock::restamped(message.time)).filter(|time| time.clock_was_set())
}
