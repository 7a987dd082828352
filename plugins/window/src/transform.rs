//! Windows that are open.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use forebay_sdk::{
    By, Configured, Due, Emitter, Fields, Held, Input, Mark, Message, Node, OwnTime, Path, Port,
    Saved, Sends, Series, Site, TimeForm, Timestamp, Topics, Transform, Value, Zone, clock,
    clock::Now, number, payload::kind,
};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use tokio::time::Instant;

use crate::function::{Function, Values};

const VERSION: u32 = 1;
/// The most messages that all windows of a node hold.
const MOST_SAMPLES: usize = 100_000;
/// A message may be from as far ahead: clocks differ.
const MOST_AHEAD: Duration = Duration::from_secs(3600);

/// A node that was understood.
#[derive(Clone)]
pub(crate) struct Window {
    pub kind: Kind,
    pub fields: Arc<[Field]>,
    /// The time of which rates and integrals speak.
    pub per_nanos: f64,
    pub zone: Zone,
    pub by: By,
}

/// When a window ends.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// When the clock says so.
    Time { every: Duration, length: Duration, late: Duration },
    /// After so many messages, or when none has come for so long.
    Messages { count: Option<usize>, gap: Option<Duration> },
}

/// What is made of one field.
pub(crate) struct Field {
    pub path: Path,
    /// The names and how they are made.
    pub made: Vec<(String, Function)>,
}

impl Configured for Window {
    fn build(&self, site: Site) -> Node {
        let remembered = site.remembered(VERSION).map(Remembered::read).unwrap_or_default();
        let mut node =
            Windowing { window: self.clone(), series: remembered, samples: 0, due: Due::default() };
        node.begin();
        Node::transform(node)
    }

    fn fields(&self) -> Fields {
        let own = self.fields.iter();
        let own = own.filter_map(|field| field.path.reads(format!("fields.{}", field.path)));
        let made =
            self.fields.iter().flat_map(|field| field.made.iter().map(|(name, _)| name.clone()));
        let about = self.by.reads().map(|read| read.field);
        let sends = made.chain(["start", "end", "count"].map(str::to_owned)).chain(about);
        Fields { reads: own.chain(self.by.reads()).collect(), sends: Sends::Only(sends.collect()) }
    }

    fn meta(&self) -> Fields {
        // What it sends is made anew.
        Fields { reads: Vec::new(), sends: Sends::Only(Default::default()) }
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

struct Windowing {
    window: Window,
    series: Series<Open>,
    /// How many samples all of them hold.
    samples: usize,
    due: Due,
}

/// The window of one series, or several that overlap.
#[derive(Default, Serialize, Deserialize)]
struct Open {
    /// Of the message that came last.
    topic: String,
    /// What tells the series from others.
    about: Map<String, Value>,
    /// In the order of their times.
    samples: Vec<Sample>,
    /// Where the last window ended that was told, in nanoseconds since 1970.
    closed: Option<i64>,
    /// The values before those samples, and when each was read.
    before: Vec<Option<(i64, f64)>>,
    /// When a message came last.
    came: Option<Mark>,
}

#[derive(Serialize, Deserialize)]
struct Sample {
    /// In nanoseconds since 1970.
    at: i64,
    /// Whether the clock was set that gave it.
    is_set: bool,
    /// By the places of the fields.
    values: Vec<Option<f64>>,
    held: Held,
}

/// What is written down. Times of a clock that was not set count from when it was.
#[derive(Serialize, Deserialize)]
struct Remembered {
    at: Mark,
    wall_nanos: i64,
    series: Series<Open>,
}

impl Remembered {
    fn read(mut self) -> Series<Open> {
        let now = clock::now();
        let passed = i64::try_from(self.at.age(now.at).as_nanos()).unwrap_or(i64::MAX);
        let ahead = now.wall.unix_nanos() - self.wall_nanos - passed;
        for (_, open) in self.series.all_mut() {
            for sample in open.samples.iter_mut().filter(|sample| !sample.is_set) {
                sample.at += ahead;
                sample.is_set = now.wall.clock_was_set();
            }
        }
        self.series
    }
}

impl Transform for Windowing {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let message = input.message;
        let Some(values) = self.window.values_of(&message)? else { return Ok(()) };
        let key = self.window.by.of(&message)?;
        let now = out.now();
        let time = clock::restamped(message.time);
        // A stamp of another boot says nothing.
        let time = if time.is_comparable() { time } else { now.wall };
        self.window.check_time(time, now)?;
        if self.samples >= MOST_SAMPLES {
            bail!("all windows together hold {MOST_SAMPLES} messages, and no more fit in");
        }
        let (open, forgotten) = self.series.of(key.clone());
        if let Some(forgotten) = forgotten {
            self.samples -= forgotten.samples.len();
            self.window.close_now(forgotten, out);
        }
        if self.window.is_late(open, time.unix_nanos()) {
            bail!("its time, {}, lies in a window that was told before", time.to_rfc3339());
        }
        message.topic.as_ref().clone_into(&mut open.topic);
        open.about = self.window.by.members(&message);
        open.came = Some(Mark(now.at));
        open.add(Sample {
            at: time.unix_nanos(),
            is_set: time.clock_was_set(),
            values,
            held: out.hold(),
        });
        self.samples += 1;
        if let Kind::Messages { count: Some(count), .. } = self.window.kind
            && open.samples.len() >= count
        {
            self.samples -= open.samples.len();
            self.window.close_now(std::mem::take(open), out);
        }
        self.plan(&key, now);
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        self.due.next()
    }

    fn wake(&mut self, now: Now, out: &mut Emitter) -> anyhow::Result<()> {
        while let Some(key) = self.due.take(now.at) {
            let Some(open) = self.series.get_mut(&key) else { continue };
            let before = open.samples.len();
            match self.window.kind {
                Kind::Time { every, length, late } => {
                    let by_now = now.wall.unix_nanos().saturating_sub(nanos(late));
                    self.window.close_until(open, by_now, nanos(every), nanos(length), out);
                }
                Kind::Messages { .. } => self.window.close_now(std::mem::take(open), out),
            }
            self.samples -= before - open.samples.len();
            self.plan(&key, now);
        }
        Ok(())
    }

    fn clock_was_moved(&mut self, now: Now, _: &mut Emitter) -> anyhow::Result<()> {
        if now.wall.clock_was_set() {
            self.series.all_mut().for_each(|(_, open)| open.put_right());
        }
        self.plan_all(now);
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        let now = clock::now();
        #[derive(Serialize)]
        struct Borrowed<'a> {
            at: Mark,
            wall_nanos: i64,
            series: &'a Series<Open>,
        }
        let remembered =
            Borrowed { at: Mark(now.at), wall_nanos: now.wall.unix_nanos(), series: &self.series };
        Saved::of(VERSION, &remembered).ok()
    }
}

impl Windowing {
    /// With what a predecessor left, perhaps of other fields.
    fn begin(&mut self) {
        let fields = self.window.fields.len();
        for (_, open) in self.series.all_mut() {
            open.before.resize(fields, None);
            open.samples.iter_mut().for_each(|sample| sample.values.resize(fields, None));
            self.samples += open.samples.len();
        }
        self.plan_all(clock::now());
    }

    fn plan_all(&mut self, now: Now) {
        let keys: Vec<String> = self.series.all_mut().map(|(key, _)| key.to_owned()).collect();
        keys.iter().for_each(|key| self.plan(key, now));
    }

    /// Works out when the next window of a series ends.
    fn plan(&mut self, key: &str, now: Now) {
        let Some(open) = self.series.get_mut(key) else { return };
        let at = match self.window.kind {
            _ if open.samples.is_empty() => None,
            Kind::Time { every, late, .. } => {
                let end = open.next_end(&self.window.zone, every);
                end.map(|end| {
                    now.at_wall(stamp(end.saturating_add(nanos(late)), now.wall.clock_was_set()))
                })
            }
            Kind::Messages { gap, .. } => gap.zip(open.came).map(|(gap, came)| came.0 + gap),
        };
        match at {
            Some(at) => self.due.set(key, at),
            None => self.due.clear(key),
        }
    }
}

impl Window {
    /// The values that count. None when there is none among them.
    fn values_of(&self, message: &Message) -> anyhow::Result<Option<Vec<Option<f64>>>> {
        let mut values = Vec::with_capacity(self.fields.len());
        for field in self.fields.iter() {
            values.push(match field.path.find(&message.payload)? {
                None | Some(Value::Null) => None,
                Some(value) => match value.as_f64() {
                    Some(number) => Some(number),
                    None => bail!("`{}` is {}; expected a number", field.path, kind(value)),
                },
            });
        }
        Ok(values.iter().any(Option::is_some).then_some(values))
    }

    /// A message from the future would keep its window open until then.
    fn check_time(&self, time: Timestamp, now: Now) -> anyhow::Result<()> {
        let ahead = time.unix_nanos().saturating_sub(now.wall.unix_nanos());
        let is_known = time.clock_was_set() && now.wall.clock_was_set();
        if matches!(self.kind, Kind::Time { .. }) && is_known && ahead > nanos(MOST_AHEAD) {
            bail!("the time of the message, {}, lies ahead of the clock", time.to_rfc3339());
        }
        Ok(())
    }

    fn is_late(&self, open: &Open, at: i64) -> bool {
        match self.kind {
            Kind::Time { every, length, .. } => {
                let (every, length) = (nanos(every), nanos(length));
                let is_over = |closed| match length == every {
                    true => at < closed,
                    false => at < self.next_start(closed, every, length),
                };
                open.closed.is_some_and(is_over)
            }
            Kind::Messages { .. } => false,
        }
    }

    /// Tells all windows that have ended by then.
    fn close_until(&self, open: &mut Open, by: i64, every: i64, length: i64, out: &mut Emitter) {
        let period = Duration::from_nanos(every.unsigned_abs());
        while let Some(end) = open.next_end(&self.zone, period).filter(|end| *end <= by) {
            let slot = self.zone.slot(stamp(end - 1, true), period);
            // A day when clocks change is as long as it is.
            let start = if length == every { slot.start.unix_nanos() } else { end - length };
            let until = if length == every { end } else { self.next_start(end, every, length) };
            self.tell(open, start, end, out, until);
            open.closed = Some(end);
        }
    }

    /// How far back the window looks that comes after one.
    fn next_start(&self, end: i64, every: i64, length: i64) -> i64 {
        let next = self.zone.slot(stamp(end, true), Duration::from_nanos(every.unsigned_abs()));
        next.end.unix_nanos().saturating_sub(length)
    }

    /// Tells a window that ends with its last message.
    fn close_now(&self, mut open: Open, out: &mut Emitter) {
        if let (Some(first), Some(last)) = (open.samples.first(), open.samples.last()) {
            let (start, end) = (first.at, last.at);
            self.tell(&mut open, start, end + 1, out, i64::MAX);
        }
    }

    /// Tells of the samples between, and forgets those from before `until`: no later window has them.
    fn tell(&self, open: &mut Open, start: i64, end: i64, out: &mut Emitter, until: i64) {
        let inside: Vec<&Sample> =
            open.samples.iter().filter(|sample| (start..end).contains(&sample.at)).collect();
        let is_set = inside.iter().all(|sample| sample.is_set);
        let shown_end = match self.kind {
            Kind::Time { .. } => end,
            Kind::Messages { .. } => end - 1,
        };
        let mut payload = open.about.clone();
        let times = [("start", start), ("end", shown_end)];
        for (name, at) in times {
            payload.insert(name.to_owned(), stamp(at, is_set).to_rfc3339().into());
        }
        payload.insert("count".to_owned(), inside.len().into());
        for (place, field) in self.fields.iter().enumerate() {
            let value = |sample: &&Sample| Some((sample.at, sample.values[place]?));
            // A value from long before says nothing about the beginning.
            let before = open.before.get(place).copied().flatten();
            let before = before.filter(|(at, _)| *at >= start - (end - start));
            let earlier = open.samples.iter().take_while(|sample| sample.at < start);
            let before = earlier
                .filter_map(|sample| Some((sample.at, sample.values[place]?)))
                .last()
                .or(before);
            let values = Values {
                samples: inside.iter().filter_map(value).collect(),
                before: before.map(|(_, value)| value),
                start,
                end: shown_end,
                per_nanos: self.per_nanos,
            };
            for (name, function) in &field.made {
                let made = function.of(&values).map_or(Value::Null, number::value);
                payload.insert(name.clone(), made);
            }
        }
        let is_empty = inside.is_empty();
        let held = open.forget_until(until, self.fields.len());
        if is_empty {
            held.settle();
            return;
        }
        let mut message = Message::new(open.topic.as_str(), Value::Object(payload));
        message.time = stamp(shown_end, is_set);
        if !is_set {
            for (name, at) in times {
                let path = Path::parse_names(name).ok();
                message.meta.add_own_time(OwnTime { path, form: TimeForm::Iso, unix_nanos: at });
            }
        }
        out.emit_held(held, Port::MAIN, message);
    }
}

impl Open {
    fn add(&mut self, sample: Sample) {
        let place = self.samples.partition_point(|there| there.at <= sample.at);
        self.samples.insert(place, sample);
    }

    /// The end of the first window that was not told and has something in it.
    fn next_end(&self, zone: &Zone, every: Duration) -> Option<i64> {
        let first = self.samples.first()?.at;
        let at = self.closed.map_or(first, |closed| closed.max(first));
        Some(zone.slot(stamp(at, true), every).end.unix_nanos())
    }

    /// Forgets samples from before, and gives back their promises.
    fn forget_until(&mut self, until: i64, fields: usize) -> Held {
        let count = self.samples.partition_point(|sample| sample.at < until);
        self.before.resize(fields, None);
        let gone: Vec<Sample> = self.samples.drain(..count).collect();
        for sample in &gone {
            for (before, value) in self.before.iter_mut().zip(&sample.values) {
                *before = value.map(|value| (sample.at, value)).or(*before);
            }
        }
        Held::join(gone.into_iter().map(|sample| sample.held))
    }

    /// The clock was set: what it stamped before gets its real time, and is in another window.
    fn put_right(&mut self) {
        let mut is_moved = false;
        for sample in self.samples.iter_mut().filter(|sample| !sample.is_set) {
            let time = clock::restamped(Timestamp::before_clock_was_set(sample.at));
            (sample.at, sample.is_set) = (time.unix_nanos(), time.clock_was_set());
            is_moved |= sample.is_set;
        }
        if is_moved {
            self.samples.sort_by_key(|sample| sample.at);
            self.before.fill(None);
        }
        // Windows that were told by that clock were others.
        let now = Timestamp::now().unix_nanos();
        self.closed = self.closed.filter(|closed| !is_moved && *closed <= now);
    }
}

fn stamp(nanos: i64, is_set: bool) -> Timestamp {
    match is_set {
        true => Timestamp::from_unix_nanos(nanos),
        false => Timestamp::before_clock_was_set(nanos),
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
