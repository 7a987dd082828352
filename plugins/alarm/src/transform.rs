//! What is beyond a limit, since when, and who was told.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use forebay_sdk::{
    By, Capabilities, Configured, Due, Emitter, Expression, Fields, Held, Input, Mark, Message,
    Node, Path, Port, Problem, Saved, Sends, Series, Site, Timestamp, Transform, Value, Witness,
    clock, clock::Now, number,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use tokio::time::Instant;

use crate::condition::{Recent, Why};

const VERSION: u32 = 1;
/// What a message of this node has in its payload.
const FIELDS: [&str; 9] =
    ["alarm", "state", "active", "why", "field", "value", "limit", "since", "time"];

/// A node that was understood.
#[derive(Clone)]
pub(crate) struct Alarm {
    /// None when all that counts is `when`.
    pub field: Option<Path>,
    pub when: Option<When>,
    pub above: Option<f64>,
    pub below: Option<f64>,
    pub hysteresis: f64,
    pub is: Vec<Value>,
    pub changes_by: Option<(f64, Duration)>,
    pub silent_for: Option<Duration>,
    pub lasts: Duration,
    pub clear_for: Duration,
    pub repeat: Option<Duration>,
    pub acknowledge: Option<String>,
    pub storm: Option<Storm>,
    pub name: Option<String>,
    pub by: By,
}

/// A condition that its author wrote.
#[derive(Clone)]
pub(crate) struct When {
    pub text: Arc<str>,
    pub expression: Arc<dyn Expression>,
}

impl When {
    /// Whether a message has all fields that must be there to say something.
    fn is_about(&self, message: &Message) -> bool {
        let fields = message.payload.value().ok().and_then(Value::as_object);
        fields.is_none_or(|fields| {
            self.expression.reads().iter().all(|read| fields.contains_key(&read.field))
        })
    }
}

/// How many are too many.
#[derive(Clone, Copy)]
pub(crate) struct Storm {
    pub most: usize,
    pub within: Duration,
}

impl Configured for Alarm {
    fn build(&self, site: Site) -> Node {
        let remembered: Remembered = site.remembered(VERSION).unwrap_or_default();
        let (alarm, node, due) = (self.clone(), site.name, Due::default());
        let name = self.name.as_deref().map_or_else(|| Arc::clone(&node), Arc::from);
        let mut node = Alarming { alarm, node, name, remembered, due };
        node.plan_all();
        Node::transform(node)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { tells_inputs_apart: self.acknowledge.is_some(), ..Capabilities::default() }
    }

    fn check_inputs(&self, inputs: &[&str]) -> Vec<Problem> {
        let acknowledge = self.acknowledge.iter();
        acknowledge.filter_map(|name| Problem::unless_input("acknowledge", name, inputs)).collect()
    }

    fn fields(&self) -> Fields {
        let field = self.field.as_ref().and_then(|field| field.reads("field"));
        let when = self.when.iter().flat_map(|when| when.expression.reads());
        let reads = field.into_iter().chain(when).chain(self.by.reads()).collect();
        // Of several inputs one may have nothing but acknowledgements.
        let reads = if self.acknowledge.is_some() { Vec::new() } else { reads };
        let about = self.by.reads().map(|read| read.field);
        Fields {
            reads,
            sends: Sends::Only(FIELDS.map(str::to_owned).into_iter().chain(about).collect()),
        }
    }

    fn meta(&self) -> Fields {
        // What it sends is made anew.
        Fields { reads: Vec::new(), sends: Sends::Only(Default::default()) }
    }
}

struct Alarming {
    alarm: Alarm,
    node: Arc<str>,
    /// What the alarm is called.
    name: Arc<str>,
    remembered: Remembered,
    due: Due,
}

#[derive(Default, Serialize, Deserialize)]
struct Remembered {
    devices: Series<Device>,
    /// When alarms were told, not longer ago than a storm lasts.
    told: VecDeque<Mark>,
    /// How many were not told. None when there is no storm.
    untold: Option<u64>,
}

/// What is known of one device.
#[derive(Default, Serialize, Deserialize)]
struct Device {
    topic: String,
    /// What tells it from others.
    about: Map<String, Value>,
    /// When a value came last.
    heard: Option<Mark>,
    /// The value that came last, and when it was read.
    value: Value,
    recent: Recent,
    watches: BTreeMap<Why, Watch>,
}

/// One condition of a device.
#[derive(Default, Serialize, Deserialize)]
struct Watch {
    /// It holds, or it does not, but not for long enough yet: since then. The promise is that of the
    /// message that said so.
    changing: Option<(Mark, Held)>,
    /// It is there.
    raised: Option<Raised>,
    /// The one that was there before, and how the message of its end fared.
    cleared: Option<(Raised, Witness)>,
}

#[derive(Serialize, Deserialize)]
struct Raised {
    /// As people read it.
    since: String,
    /// When it was told last. None while a storm keeps it back.
    told: Option<Mark>,
    is_acknowledged: bool,
    /// It is over, and waits for somebody to acknowledge it.
    is_over: bool,
    /// Of its first message.
    witness: Witness,
}

/// What a message tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Raised,
    Repeated,
    Acknowledged,
    Cleared,
}

impl Transform for Alarming {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let Input { message, from } = input;
        if self.alarm.acknowledge.as_deref() == Some(&*from) {
            self.acknowledge(&message, out);
            return Ok(());
        }
        // What lacks the field says nothing about it.
        let value = match &self.alarm.field {
            Some(field) => field.find(&message.payload)?.cloned(),
            None => None,
        };
        let when = self.alarm.when.as_ref().filter(|when| when.is_about(&message));
        let when = when.map(|when| when.expression.holds(&message, &self.node));
        let when = when.transpose()?;
        if value.is_none() && when.is_none() {
            return Ok(());
        }
        let key = self.alarm.by.of(&message)?;
        let now = out.now();
        let (device, _) = self.remembered.devices.of(key.clone());
        message.topic.as_ref().clone_into(&mut device.topic);
        device.about = self.alarm.by.members(&message);
        let mut held: Vec<(Why, bool)> = Vec::new();
        if let Some(value) = value.filter(|value| !value.is_null()) {
            device.heard = Some(Mark(now.at));
            let time = clock::restamped(message.time);
            held.extend(self.alarm.judge(device, &value, time));
            device.value = value;
        }
        held.extend(when.map(|holds| (Why::When, holds)));
        for (why, holds) in held {
            self.step(&key, why, holds, now, out);
        }
        self.plan(&key);
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        let storm_ends = self.remembered.untold.and(self.storm_ends());
        [self.due.next(), storm_ends].into_iter().flatten().min()
    }

    fn wake(&mut self, now: Now, out: &mut Emitter) -> anyhow::Result<()> {
        while let Some(key) = self.due.take(now.at) {
            self.look_at(&key, now, out);
            self.plan(&key);
        }
        if self.storm_ends().is_some_and(|end| end <= now.at) {
            self.end_storm(now, out);
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(VERSION, &self.remembered).ok()
    }
}

impl Alarming {
    /// Takes note that a condition holds or not, and tells it when that has lasted.
    fn step(&mut self, key: &str, why: Why, holds: bool, now: Now, out: &mut Emitter) {
        let Some(device) = self.remembered.devices.get_mut(key) else { return };
        let watch = device.watches.entry(why).or_default();
        // What was lost on the way was told to nobody.
        if watch.raised.is_none()
            && !holds
            && let Some((raised, _)) = watch.cleared.take_if(|(_, told)| told.was_broken())
        {
            watch.raised = Some(raised);
            return self.tell(key, why, Told::Cleared, out.hold(), now, out);
        }
        if let Some(raised) = &mut watch.raised
            && raised.witness.was_broken()
        {
            raised.told = None;
        }
        match (&mut watch.raised, holds) {
            (Some(raised), true) => {
                raised.is_over = false;
                Watch::settle(&mut watch.changing);
                if raised.told.is_none() {
                    self.tell(key, why, Told::Raised, out.hold(), now, out);
                }
            }
            (None, false) => Watch::settle(&mut watch.changing),
            (Some(raised), false) if raised.is_over => (),
            (_, _) => {
                let (since, _) = watch.changing.get_or_insert_with(|| (Mark(now.at), out.hold()));
                if since.age(now.at) >= self.alarm.waits(why, holds) {
                    self.change(key, why, now, out);
                }
            }
        }
    }

    /// What has lasted long enough by the clock alone.
    fn look_at(&mut self, key: &str, now: Now, out: &mut Emitter) {
        let Some(device) = self.remembered.devices.get_mut(key) else { return };
        let mut changed = Vec::new();
        let mut repeated = Vec::new();
        for (why, watch) in &device.watches {
            let holds = watch.raised.is_none();
            match (&watch.changing, &watch.raised) {
                (Some((since, _)), _) if since.age(now.at) >= self.alarm.waits(*why, holds) => {
                    changed.push(*why)
                }
                (_, Some(raised)) => {
                    repeated.extend(
                        raised
                            .repeats_at(self.alarm.repeat)
                            .filter(|at| at.0 <= now.at)
                            .map(|_| *why),
                    );
                }
                _ => (),
            }
        }
        let is_silent = device.silent_at(&self.alarm).is_some_and(|at| at.0 <= now.at);
        for why in changed {
            self.change(key, why, now, out);
        }
        for why in repeated {
            self.tell(key, why, Told::Repeated, Held::default(), now, out);
        }
        if is_silent {
            self.step(key, Why::Silent, true, now, out);
        }
    }

    /// A condition has held, or not, for as long as it must.
    fn change(&mut self, key: &str, why: Why, now: Now, out: &mut Emitter) {
        let Some(device) = self.remembered.devices.get_mut(key) else { return };
        let watch = device.watches.entry(why).or_default();
        let held = watch.changing.take().map(|(_, held)| held).unwrap_or_default();
        match &mut watch.raised {
            None => {
                let since = now.wall.to_rfc3339();
                watch.raised = Some(Raised {
                    since,
                    told: None,
                    is_acknowledged: false,
                    is_over: false,
                    witness: Witness::default(),
                });
                self.tell(key, why, Told::Raised, held, now, out);
            }
            Some(raised) if self.alarm.acknowledge.is_some() && !raised.is_acknowledged => {
                raised.is_over = true;
                held.settle();
            }
            Some(_) => self.tell(key, why, Told::Cleared, held, now, out),
        }
    }

    /// Somebody has seen it: the alarms of the device that the message speaks of, or all.
    fn acknowledge(&mut self, message: &Message, out: &mut Emitter) {
        let now = out.now();
        let named = self.alarm.by.of(message).ok();
        let is_known =
            named.as_ref().is_some_and(|key| self.remembered.devices.get_mut(key).is_some());
        let keys: Vec<String> = match named.filter(|_| is_known) {
            Some(key) => vec![key],
            None => self.remembered.devices.all_mut().map(|(key, _)| key.to_owned()).collect(),
        };
        for key in keys {
            let Some(device) = self.remembered.devices.get_mut(&key) else { continue };
            let raised = device
                .watches
                .iter_mut()
                .filter_map(|(why, watch)| Some((*why, watch.raised.as_mut()?)));
            let news: Vec<(Why, bool)> = raised
                .filter(|(_, raised)| !raised.is_acknowledged)
                .map(|(why, raised)| {
                    raised.is_acknowledged = true;
                    (why, raised.is_over)
                })
                .collect();
            for (why, is_over) in news {
                self.tell(&key, why, Told::Acknowledged, out.hold(), now, out);
                if is_over {
                    self.tell(&key, why, Told::Cleared, out.hold(), now, out);
                }
            }
            self.plan(&key);
        }
    }

    fn tell(&mut self, key: &str, why: Why, told: Told, held: Held, now: Now, out: &mut Emitter) {
        let is_kept_back = told == Told::Raised && self.is_storm(now, out);
        let Some(device) = self.remembered.devices.get_mut(key) else { return };
        let Some(watch) = device.watches.get_mut(&why) else { return };
        let Some(raised) = &mut watch.raised else { return };
        if is_kept_back {
            held.settle();
            return;
        }
        let was_told = raised.told.is_some();
        let mut payload = device.about.clone();
        payload.extend(self.alarm.members(&self.name, why, told, raised, &device.value, now));
        let mut message = Message::new(device.topic.as_str(), Value::Object(payload));
        message.note_own_time(now.wall);
        let (held, witness) = held.witnessed();
        match told {
            Told::Raised => {
                raised.told = Some(Mark(now.at));
                raised.witness = witness;
                if self.alarm.storm.is_some() {
                    self.remembered.told.push_back(Mark(now.at));
                }
            }
            Told::Repeated => raised.told = Some(Mark(now.at)),
            Told::Acknowledged => (),
            Told::Cleared => watch.cleared = watch.raised.take().map(|raised| (raised, witness)),
        }
        // Nobody is told the end of what nobody was told of.
        match told == Told::Raised || was_told {
            true => out.emit_held(held, Port::MAIN, message),
            false => held.settle(),
        }
    }

    /// Whether one more is one too many. Tells when that begins.
    fn is_storm(&mut self, now: Now, out: &mut Emitter) -> bool {
        let Some(Storm { most, within }) = self.alarm.storm else { return false };
        let Remembered { told, untold, .. } = &mut self.remembered;
        while told.front().is_some_and(|told| told.age(now.at) >= within) {
            told.pop_front();
        }
        if told.len() < most && untold.is_none() {
            return false;
        }
        if untold.is_none() {
            out.emit_held(
                Held::default(),
                Port::MAIN,
                self.alarm.storm_message(&self.name, "storm", now),
            );
        }
        *untold = Some(untold.unwrap_or(0) + 1);
        true
    }

    /// When as few were told lately as may be.
    fn storm_ends(&self) -> Option<Instant> {
        let Storm { within, .. } = self.alarm.storm?;
        self.remembered.untold?;
        Some(self.remembered.told.back().map_or_else(Instant::now, |last| last.0 + within))
    }

    /// What is still there is told now.
    fn end_storm(&mut self, now: Now, out: &mut Emitter) {
        self.remembered.untold = None;
        self.remembered.told.clear();
        out.emit_held(
            Held::default(),
            Port::MAIN,
            self.alarm.storm_message(&self.name, "storm over", now),
        );
        let devices = self.remembered.devices.all_mut();
        let untold = devices.flat_map(|(key, device)| {
            let raised =
                |watch: &Watch| watch.raised.as_ref().is_some_and(|raised| raised.told.is_none());
            let whys = device.watches.iter().filter(|(_, watch)| raised(watch));
            whys.map(|(why, _)| (key.to_owned(), *why)).collect::<Vec<_>>()
        });
        for (key, why) in untold.collect::<Vec<_>>() {
            self.tell(&key, why, Told::Raised, Held::default(), now, out);
            self.plan(&key);
        }
    }

    fn plan_all(&mut self) {
        let keys: Vec<String> =
            self.remembered.devices.all_mut().map(|(key, _)| key.to_owned()).collect();
        keys.iter().for_each(|key| self.plan(key));
    }

    /// Works out when a device is to be looked at.
    fn plan(&mut self, key: &str) {
        let Some(device) = self.remembered.devices.get_mut(key) else { return };
        let alarm = &self.alarm;
        let changes = device.watches.iter().filter_map(|(why, watch)| {
            let (since, _) = watch.changing.as_ref()?;
            Some(since.0 + alarm.waits(*why, watch.raised.is_none()))
        });
        let raised = device.watches.values().filter_map(|watch| watch.raised.as_ref());
        let repeats = raised.filter_map(|raised| Some(raised.repeats_at(alarm.repeat)?.0));
        let silent = device.silent_at(alarm).map(|at| at.0);
        match changes.chain(repeats).chain(silent).min() {
            Some(at) => self.due.set(key, at),
            None => self.due.clear(key),
        }
    }
}

impl Device {
    /// When it has been silent for too long, unless that was told.
    fn silent_at(&self, alarm: &Alarm) -> Option<Mark> {
        let is_told = self.watches.get(&Why::Silent).is_some_and(|watch| watch.raised.is_some());
        let heard = self.heard.filter(|_| !is_told)?;
        Some(Mark(heard.0 + alarm.silent_for?))
    }
}

impl Watch {
    fn settle(changing: &mut Option<(Mark, Held)>) {
        if let Some((_, held)) = changing.take() {
            held.settle();
        }
    }
}

impl Raised {
    /// When it is told again.
    fn repeats_at(&self, repeat: Option<Duration>) -> Option<Mark> {
        let told = self.told.filter(|_| !self.is_acknowledged)?;
        Some(Mark(told.0 + repeat?))
    }
}

impl Alarm {
    /// Which conditions hold for a value that came.
    fn judge<'a>(
        &'a self,
        device: &'a mut Device,
        value: &'a Value,
        time: Timestamp,
    ) -> impl Iterator<Item = (Why, bool)> + 'a {
        let Device { recent, watches, .. } = device;
        let back = |why: Why| {
            let is_raised = watches.get(&why).is_some_and(|watch| watch.raised.is_some());
            if is_raised { self.hysteresis } else { 0.0 }
        };
        let number = value.as_f64();
        let above = self.above.zip(number).map(|(limit, value)| value > limit - back(Why::Above));
        let below = self.below.zip(number).map(|(limit, value)| value < limit + back(Why::Below));
        let is = (!self.is.is_empty()).then(|| self.is.iter().any(|one| same(one, value)));
        let changes = self
            .changes_by
            .zip(number)
            .map(|((by, within), value)| recent.spread(value, time, within) >= by);
        // A value came.
        let silent = self.silent_for.map(|_| false);
        [
            (Why::Above, above),
            (Why::Below, below),
            (Why::Is, is),
            (Why::Changes, changes),
            (Why::Silent, silent),
        ]
        .into_iter()
        .filter_map(|(why, holds)| Some((why, holds?)))
    }

    /// How long a condition must hold, or not, before that counts.
    fn waits(&self, why: Why, holds: bool) -> Duration {
        match (why, holds) {
            (Why::Silent, _) => Duration::ZERO,
            (_, true) => self.lasts,
            (_, false) => self.clear_for,
        }
    }

    fn members(
        &self,
        name: &str,
        why: Why,
        told: Told,
        raised: &Raised,
        value: &Value,
        now: Now,
    ) -> Map<String, Value> {
        let limit = match why {
            Why::Above => self.above.map(number::value),
            Why::Below => self.below.map(number::value),
            Why::Is => Some(self.is.clone().into()),
            Why::Changes => self.changes_by.map(|(by, _)| number::value(by)),
            Why::Silent => self.silent_for.map(|time| number::value(time.as_secs_f64())),
            Why::When => None,
        };
        let (field, value) = match (why, &self.when) {
            (Why::When, Some(when)) => (json!(&*when.text), json!(told != Told::Cleared)),
            _ => (json!(self.field.as_ref().map(Path::to_string)), value.clone()),
        };
        let members = [
            ("alarm", json!(name)),
            ("state", json!(told.word())),
            ("active", json!(told != Told::Cleared && !raised.is_over)),
            ("why", json!(why)),
            ("field", field),
            ("value", value),
            ("limit", json!(limit)),
            ("since", json!(raised.since)),
            ("time", json!(now.wall.to_rfc3339())),
        ];
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn storm_message(&self, name: &Arc<str>, state: &str, now: Now) -> Message {
        let payload = json!({ "alarm": &**name, "state": state, "time": now.wall.to_rfc3339() });
        Message::new(Arc::clone(name), payload)
    }
}

impl Told {
    fn word(self) -> &'static str {
        match self {
            Told::Raised => "raised",
            Told::Repeated => "repeated",
            Told::Acknowledged => "acknowledged",
            Told::Cleared => "cleared",
        }
    }
}

/// Whether two values are the same: 1 is 1.0.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}
