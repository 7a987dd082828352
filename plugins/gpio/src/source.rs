//! The running source.

use std::{any::Any, collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{anyhow, bail};
use forebay_sdk::{
    Claim, Configured, Fields, Figure, Message, Node, Outlet, Payload, Period, Problem, Sends,
    Site, Source, Value, Voice, beside, clock,
    panel::{Panel, SharedPanel},
    world::gpio::{Edges, GpioChip},
};
use futures_util::future::{FutureExt, select_all};
use serde_json::{Map, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};

use crate::{
    chip::{Chip, ChipSettings, LOOK_EVERY},
    input::{Change, Input, Watched},
    line::{NotHeld, claim, is_gone, needs_name},
    pulses::{Counts, Meter, Pulses},
};

/// Stands for the name of the line in a topic.
pub const LINE: &str = "{line}";
/// How often a router is asked, when nobody said.
const PANEL_POLL: Duration = Duration::from_secs(1);
/// What was counted is written at most this often: flash wears.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// A source that was understood.
#[derive(Clone)]
pub struct GpioSource {
    pub inputs: Arc<[Input]>,
    /// How often all is sent.
    pub every: Option<Period>,
    /// None for the name of the node.
    pub topic: Option<Arc<str>>,
    /// Sends the levels as they are at first.
    pub initial: bool,
}

impl Configured for GpioSource {
    fn build(&self, site: Site) -> Node {
        let now = Instant::now();
        let lines = self.inputs.iter().map(|input| Line {
            input: input.clone(),
            watched: None,
            pulses: Pulses::new(now),
        });
        Node::source(Watching {
            chip: site.connection(),
            panel: site.connection(),
            topic: self.topic.clone().unwrap_or_else(|| Arc::clone(&site.name)),
            name: site.name,
            source: self.clone(),
            lines: lines.collect(),
            data: site.data,
            counts: None,
            saved_at: None,
            voice: site.voice,
        })
    }

    fn fields(&self) -> Fields {
        let rate = |input: &Input| input.meter.as_ref()?.rate.clone();
        let names = self.inputs.iter().map(|input| input.name.to_string());
        let sends = names.chain(self.inputs.iter().filter_map(rate)).collect();
        Fields { reads: Vec::new(), sends: Sends::Only(sends) }
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        let is_chip = connection.is::<ChipSettings>();
        let lines = self.inputs.iter().enumerate();
        let of = |(at, input): (usize, &Input)| match is_chip {
            true => needs_router(input, at),
            false => needs_name(&input.line, at).or_else(|| needs_chip(input, at)),
        };
        lines.filter_map(of).collect()
    }

    fn claims_on(&self, connection: &dyn Any) -> Vec<Claim> {
        let Some(chip) = connection.downcast_ref::<ChipSettings>() else { return Vec::new() };
        let lines = self.inputs.iter().enumerate();
        lines.map(|(at, input)| claim(&chip.chip, &input.line, at)).collect()
    }
}

struct Watching {
    /// None when the connection is something else.
    chip: Option<Arc<Chip>>,
    panel: Option<Arc<SharedPanel>>,
    name: Arc<str>,
    topic: Arc<str>,
    source: GpioSource,
    lines: Vec<Line>,
    data: Arc<Path>,
    /// None until they were read, and when nothing is counted.
    counts: Option<Counts>,
    saved_at: Option<Instant>,
    voice: Voice,
}

/// Why lines are told of that have not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// They are watched from now on.
    First,
    /// It is time.
    Beat,
}

/// What is known of lines.
#[derive(Default)]
struct Known {
    fields: Map<String, Value>,
    units: Map<String, Value>,
}

impl Known {
    fn message(self, topic: Arc<str>, why: Why) -> Message {
        let mut message = Message::new(topic, Payload::from(Value::Object(self.fields)));
        if why == Why::First {
            message.meta.insert("initial", true);
        }
        if !self.units.is_empty() {
            message.meta.insert("units", self.units);
        }
        message
    }
}

struct Line {
    input: Input,
    /// None when the line cannot be had.
    watched: Option<Watched>,
    pulses: Pulses,
}

impl Source for Watching {
    /// Tells what happens until the chip is gone, or the router does not answer.
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        self.read_counts().await;
        self.lines.iter_mut().for_each(|line| line.watched = None);
        match (self.chip.clone(), self.panel.clone()) {
            (Some(chip), _) => self.watch_chip(&chip, out).await,
            (None, Some(panel)) => self.watch_panel(&*panel.0, out).await,
            (None, None) => bail!("the connection has no inputs"),
        }
    }
}

impl Watching {
    /// Tells what the kernel tells.
    async fn watch_chip(&mut self, chip: &Chip, out: &Outlet) -> anyhow::Result<()> {
        let found = chip.there().await?;
        let fresh = self.watch(chip, &found).await?;
        out.ready();
        let mut beat = self.source.every.map(|every| steady(*every));
        self.tell_first(fresh, out).await;
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            tokio::select! {
                biased;
                (at, change) = next(&mut self.lines) => match change {
                    Ok(change) => self.tell(at, change, out).await,
                    Err(error) if is_gone(&error) => return Err(chip.lost().into()),
                    Err(error) => {
                        let why = anyhow::Error::new(error).context("waiting for its edges");
                        self.lines[at].give_up(&why, &self.voice);
                    }
                },
                () = tick(&mut beat) => self.tell_all(out).await,
                () = sleep_until(look_at) => {
                    look_at = Instant::now() + LOOK_EVERY;
                    self.look(chip)?;
                    self.catch_up(chip, out).await?;
                    let fresh = self.watch(chip, &found).await?;
                    self.tell_first(fresh, out).await;
                }
            }
        }
    }

    /// Tells what a router has, which has to be asked.
    async fn watch_panel(&mut self, panel: &dyn Panel, out: &Outlet) -> anyhow::Result<()> {
        panel.ready().await?;
        let polls = self.lines.iter().filter_map(|line| line.input.poll);
        let mut poll = steady(polls.min().unwrap_or(PANEL_POLL));
        let mut beat = None;
        loop {
            tokio::select! {
                biased;
                _ = poll.tick() => {
                    let is_counted = |line: &Line| line.input.is_counted_by_router();
                    if self.lines.iter().any(is_counted) {
                        self.show_counts(&panel.counts().await?);
                    }
                    if !self.lines.iter().all(is_counted) {
                        self.show(&panel.levels().await?, out).await;
                    }
                    if beat.is_none() {
                        out.ready();
                        beat = self.source.every.map(|every| steady(*every));
                    }
                }
                () = tick(&mut beat) => self.tell_all(out).await,
            }
        }
    }

    /// Takes in the levels of all that a router has.
    async fn show(&mut self, levels: &BTreeMap<String, bool>, out: &Outlet) {
        let mut fresh = Vec::new();
        for at in 0..self.lines.len() {
            let line = &mut self.lines[at];
            if line.input.is_counted_by_router() {
                continue;
            }
            let Some(level) = levels.get(&line.input.line.to_name()) else {
                let name = line.input.line.to_name();
                let all: Vec<String> = levels.keys().map(|name| format!("`{name}`")).collect();
                let why = match all.is_empty() {
                    true => anyhow!("the router tells of no inputs and outputs"),
                    false => anyhow!("the router has no `{name}`; it has {}", all.join(", ")),
                };
                line.give_up(&why, &self.voice);
                continue;
            };
            self.voice.trouble_is_over(&line.title());
            let level = *level != line.input.active_low;
            match &mut line.watched {
                None => {
                    line.watched = Some(Watched::shown(&line.input, level));
                    fresh.push(at);
                }
                Some(watched) => {
                    if let Some(change) = watched.show(level) {
                        self.tell(at, change, out).await;
                    }
                }
            }
        }
        self.tell_first(fresh, out).await;
    }

    /// Takes in what the impulse counter of a router has counted.
    fn show_counts(&mut self, shown: &BTreeMap<String, u64>) {
        for line in self.lines.iter_mut().filter(|line| line.input.is_counted_by_router()) {
            let name = line.input.line.to_name();
            let Some(count) = shown.get(&name) else {
                let why = "the router counts no pulses of it: its impulse counter is off, or has no such input";
                self.voice.trouble_lasts(&line.title(), &anyhow!("`{name}`: {why}"));
                continue;
            };
            self.voice.trouble_is_over(&line.title());
            let Some(counts) = &mut self.counts else { continue };
            let came = counts.show(&line.input.name, *count);
            line.pulses.look(came, Instant::now());
        }
    }

    async fn tell_all(&mut self, out: &Outlet) {
        self.save().await;
        let all = 0..self.lines.len();
        self.send(all, Why::Beat, out).await;
    }
}

/// The next change of any line. Never, when none is watched.
async fn next(lines: &mut [Line]) -> (usize, std::io::Result<Change>) {
    let watched = lines.iter_mut().enumerate().filter_map(|(at, line)| {
        let watched = line.watched.as_mut()?;
        Some(async move { (at, watched.next().await) }.boxed())
    });
    let watched: Vec<_> = watched.collect();
    match watched.is_empty() {
        true => std::future::pending().await,
        false => select_all(watched).await.0,
    }
}

fn steady(every: Duration) -> Interval {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}

async fn tick(beat: &mut Option<Interval>) {
    match beat {
        Some(beat) => _ = beat.tick().await,
        None => std::future::pending().await,
    }
}

impl Line {
    fn title(&self) -> String {
        format!("input `{}`", self.input.name)
    }

    fn give_up(&mut self, why: &anyhow::Error, voice: &Voice) {
        self.watched = None;
        voice.trouble_lasts(&self.title(), why);
    }
}

impl Watching {
    /// Begins to watch the lines that are not watched. Returns which those are. Fails when none can be had.
    async fn watch(&mut self, chip: &Chip, found: &GpioChip) -> anyhow::Result<Vec<usize>> {
        let mut fresh = Vec::new();
        let mut refused = None;
        for (at, line) in
            self.lines.iter_mut().enumerate().filter(|(_, line)| line.watched.is_none())
        {
            match line.input.watch(found, &chip.world, &self.name).await {
                Ok(watched) => {
                    let what = line.title();
                    match watched.is_polled_every().filter(|_| line.input.poll.is_none()) {
                        Some(every) => self.voice.trouble_lasts(&what, &no_interrupts(every)),
                        None => self.voice.trouble_is_over(&what),
                    }
                    line.watched = Some(watched);
                    fresh.push(at);
                }
                Err(NotHeld::Gone(_)) => return Err(chip.lost().into()),
                Err(other) => {
                    let why = other.into_error();
                    line.give_up(&why, &self.voice);
                    refused = Some(why);
                }
            }
        }
        if let Some(why) = refused.filter(|_| self.lines.iter().all(|line| line.watched.is_none()))
        {
            return Err(why);
        }
        if let Some(longest) = fresh.iter().map(|at| self.lines[*at].input.settles()).max() {
            sleep(longest).await;
        }
        for at in &fresh {
            if let Some(Err(error)) = self.lines[*at].watched.as_mut().map(Watched::begin) {
                match is_gone(&error) {
                    true => return Err(chip.lost().into()),
                    false => self.lines[*at].give_up(&error.into(), &self.voice),
                }
            }
        }
        Ok(fresh)
    }

    /// Looks whether the chip is still there, of which old kernels tell nobody.
    fn look(&self, chip: &Chip) -> anyhow::Result<()> {
        let first = self.lines.iter().find_map(|line| line.watched.as_ref());
        match first.map(Watched::look) {
            Some(Err(error)) if is_gone(&error) => Err(chip.lost().into()),
            _ => Ok(()),
        }
    }

    /// Tells changes whose edges were lost.
    async fn catch_up(&mut self, chip: &Chip, out: &Outlet) -> anyhow::Result<()> {
        for at in 0..self.lines.len() {
            let Some(watched) = &mut self.lines[at].watched else { continue };
            match watched.catch_up() {
                Ok(None) => (),
                Ok(Some(change)) => self.tell(at, change, out).await,
                Err(error) if is_gone(&error) => return Err(chip.lost().into()),
                Err(error) => self.lines[at].give_up(&error.into(), &self.voice),
            }
        }
        Ok(())
    }

    /// Sends the levels with which lines begin. What is sent at a beat is sent at once anyway.
    async fn tell_first(&mut self, fresh: Vec<usize>, out: &Outlet) {
        if !self.source.initial || self.source.every.is_some() {
            return;
        }
        let is_state = |at: &usize| {
            let input = &self.lines[*at].input;
            input.meter.is_none() && input.edges == Edges::Both
        };
        let states: Vec<usize> = fresh.into_iter().filter(is_state).collect();
        if !states.is_empty() {
            self.send(states, Why::First, out).await;
        }
    }

    async fn tell(&mut self, at: usize, change: Change, out: &Outlet) {
        let Line { input, pulses, .. } = &mut self.lines[at];
        if let Some(counts) = self.counts.as_mut().filter(|_| input.meter.is_some()) {
            // Those that were lost have been counted by the kernel.
            counts.add(&input.name, change.lost + 1);
            pulses.add(change.lost + 1, change.at);
            return;
        }
        if change.lost > 0 {
            let why = "edges of an input came faster than they were taken; a `debounce` helps against bouncing";
            self.voice.dropped(change.lost, why);
        }
        let payload = json!({ &*input.name: change.level });
        let mut message = Message::new(self.topic_of(at), Payload::from(payload));
        message.time = clock::now().wall_then(change.at);
        message.meta.insert("edge", if change.level { "rising" } else { "falling" });
        out.send(message).await;
    }

    /// Sends what is known of some lines: in one message, or in one each where topics differ.
    async fn send(&mut self, lines: impl IntoIterator<Item = usize>, why: Why, out: &Outlet) {
        let is_each = self.topic.contains(LINE);
        let mut known = Known::default();
        for at in lines {
            self.add_line(at, &mut known);
            if is_each {
                let message = std::mem::take(&mut known).message(self.topic_of(at), why);
                out.send(message).await;
            }
        }
        if !known.fields.is_empty() {
            out.send(known.message(Arc::clone(&self.topic), why)).await;
        }
    }

    /// Adds what one line has to say.
    fn add_line(&mut self, at: usize, known: &mut Known) {
        let Line { input, watched, pulses } = &mut self.lines[at];
        let name = input.name.to_string();
        let Some(meter) = &input.meter else {
            let level = watched.as_ref().map(|watched| watched.level);
            known.fields.insert(name, level.into());
            return;
        };
        let count = self.counts.as_ref().map_or(0, |counts| counts.of(&input.name));
        if let Some(unit) = &meter.unit {
            known.units.insert(name.clone(), unit.as_str().into());
        }
        known.fields.insert(name, meter.total(count));
        if let Some(rate) = &meter.rate {
            let per_second = pulses.per_second(Instant::now(), meter.stops_after);
            let value = per_second.map_or(Value::Null, |rate| meter.rate(rate));
            known.fields.insert(rate.clone(), value);
            known.units.extend(meter.unit_of_rate().map(|unit| (rate.clone(), unit.into())));
        }
    }

    fn topic_of(&self, at: usize) -> Arc<str> {
        match self.topic.contains(LINE) {
            true => self.topic.replace(LINE, &self.lines[at].input.name).into(),
            false => Arc::clone(&self.topic),
        }
    }

    /// Reads what was counted before the start, once.
    async fn read_counts(&mut self) {
        let counts_any = self.lines.iter().any(|line| line.input.meter.is_some());
        if self.counts.is_some() || !counts_any {
            return;
        }
        let (data, voice) = (Arc::clone(&self.data), self.voice.clone());
        match beside(move || Counts::read(&data, voice)).await {
            Ok((counts, read)) => {
                if let Err(error) = read {
                    let why = "reading what was counted before the start; counting begins anew";
                    self.voice.trouble(&anyhow::Error::new(error).context(why));
                }
                self.counts = Some(counts);
            }
            Err(error) => self.voice.trouble(&error.into()),
        }
    }

    /// Writes what was counted, before anybody hears of it: a total never goes back then.
    async fn save(&mut self) {
        let Some(counts) = self.counts.as_mut().filter(|counts| counts.is_behind()) else { return };
        if self.saved_at.is_some_and(|at| at.elapsed() < SAVE_EVERY) {
            return;
        }
        let pulses = counts.pulses.clone();
        let wrote = beside(counts.writing()).await;
        self.saved_at = Some(Instant::now());
        let wrote = wrote.map_err(anyhow::Error::from).and_then(|wrote| Ok(wrote?));
        match wrote {
            Ok(bytes) => {
                counts.written(pulses);
                self.voice.count(Figure::BytesToDisk, bytes);
                self.voice.trouble_is_over("counting");
            }
            Err(error) => {
                let why = error.context("writing what was counted, which a restart forgets");
                self.voice.trouble_lasts("counting", &why);
            }
        }
    }
}

fn no_interrupts(every: Duration) -> anyhow::Error {
    anyhow!(
        "its chip raises no interrupts, so it is read every {}, and what is shorter is missed; `poll:` says how \
         often",
        Period(every)
    )
}

/// What only a router has.
fn needs_router(input: &Input, at: usize) -> Option<Problem> {
    if !input.is_counted_by_router() {
        return None;
    }
    let message = format!("input `{}` of a chip has no `impulse_counter`", input.name);
    let label = "expected a connection of type `router`: of a chip, pulses are counted here";
    Some(Problem::new(format!("lines[{at}].count.impulse_counter"), message, label))
}

/// What only a chip has.
fn needs_chip(input: &Input, at: usize) -> Option<Problem> {
    input.bias?;
    let message = format!("input `{}` of a router has no `bias`", input.name);
    let label = "expected a line of a chip: a router pulls its inputs as it was built";
    Some(Problem::new(format!("lines[{at}].bias"), message, label))
}

impl Meter {
    /// `m3/h`.
    fn unit_of_rate(&self) -> Option<String> {
        let unit = self.unit.as_ref()?;
        Some(match self.per.as_secs() {
            1 => format!("{unit}/s"),
            60 => format!("{unit}/min"),
            3600 => format!("{unit}/h"),
            86_400 => format!("{unit}/d"),
            _ => format!("{unit}/{}", Period(self.per)),
        })
    }
}
