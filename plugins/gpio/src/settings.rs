//! What users write for `gpio` connections, sources and sinks, and what is wrong with it.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use forebay_sdk::{
    Configured, Period, Problem, Rate, Settings,
    orders::{Bounds, too_old},
    world::gpio::{Bias, Drive, Edges},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::{
    chip::ChipSettings,
    input::Input,
    line::{ChipName, LineId},
    output::Rules,
    outputs::{Hardware, Wanted},
    pulses::Meter,
    sink::GpioSink,
    source::{GpioSource, LINE},
};

/// A GPIO chip of this machine, by the kernel's character device (Linux 5.10 or later).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpioSettings {
    /// The chip: its device (`/dev/gpiochip0`, or a link to it), its name (`gpiochip0`), its number (`"0"`), or
    /// what its driver calls it (`pinctrl-bcm2711`), which stays the same when a USB adapter comes back under
    /// another number. `gpiodetect` shows them, and `forebay doctor` too.
    #[schemars(length(min = 1))]
    chip: String,
}

impl Settings for GpioSettings {
    fn resolve(self, _: &mut Vec<Problem>) -> Option<impl Configured> {
        Some(ChipSettings { chip: ChipName::parse(&self.chip) })
    }
}

/// Tells the levels of digital inputs as they change, with the time at which the kernel saw it, and counts the
/// pulses of meters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpioSourceSettings {
    /// The inputs, 1 to 64.
    #[schemars(length(min = 1, max = 64))]
    lines: Vec<InputSettings>,
    /// How often all is sent, changed or not, from `100ms` to `1d`. Totals and rates are sent only then: every
    /// `10s` unless given. Levels are sent when they change.
    every: Option<Period>,
    /// Topic of the messages. The node's name, as in `boiler-room/inputs`, when left out. `{line}` stands for the
    /// name of the line, and then each line has messages of its own.
    topic: Option<String>,
    /// Sends the levels at the start, and when a chip comes back, with `meta.initial`.
    #[serde(default = "yes")]
    initial: bool,
}

fn yes() -> bool {
    true
}

/// One input.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InputSettings {
    /// What it is called in messages.
    #[schemars(length(min = 1))]
    name: String,
    /// The line: its number on the chip, from 0, or the name that the board gives it, such as `GPIO17`.
    line: LineId,
    /// Whether low means on: a contact that closes to ground. Then `true` and a rising edge are when it closes.
    #[serde(default)]
    active_low: bool,
    /// What pulls the line while nobody drives it. As the board has it when left out.
    bias: Option<BiasSetting>,
    /// For how long a level must last before it is told, up to `1h`, by the kernel: contacts bounce for some
    /// milliseconds. All edges are told when left out.
    debounce: Option<Period>,
    /// Which edges are told, or counted. `both` when left out; `rising` with `count`.
    edge: Option<EdgeSetting>,
    /// Reads the line this often, from `5ms` to `1m`, instead of waiting for edges: for chips whose interrupts are not
    /// wired up. What is shorter is missed. A chip without interrupts is read every `100ms` when left out.
    poll: Option<Period>,
    /// Counts edges: the pulses of a meter.
    count: Option<CountSettings>,
}

/// How pulses are counted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountSettings {
    /// How many pulses are one unit: 1000 of a meter that sends one each litre are one m³.
    #[serde(default = "one")]
    per_unit: f64,
    /// What the meter showed when counting began. The message has this and what was counted since.
    #[serde(default)]
    start: f64,
    /// The unit, for `meta.units`, such as `m3` or `kWh`.
    unit: Option<String>,
    /// The name of a field to add: units in each `per`, by the time between pulses.
    rate: Option<String>,
    /// The time of which `rate` speaks: `1s`, `1m`, `1h`.
    #[serde(default = "hour")]
    per: Period,
    /// After how long without a pulse the rate is 0. Before that it falls as the pulse is late.
    #[serde(default = "five_minutes")]
    stops_after: Period,
    /// Takes what the impulse counter of the router has counted, which misses no pulse between two looks, nor while this
    /// program is away. The router says there which inputs and edges it counts. On a `router` connection.
    #[serde(default)]
    impulse_counter: bool,
}

fn one() -> f64 {
    1.0
}

fn hour() -> Period {
    Period::seconds(3600)
}

fn five_minutes() -> Period {
    Period::seconds(300)
}

/// What pulls a line.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum BiasSetting {
    /// To the supply.
    PullUp,
    /// To ground.
    PullDown,
    /// Nothing.
    Disabled,
}

impl From<BiasSetting> for Bias {
    fn from(bias: BiasSetting) -> Bias {
        match bias {
            BiasSetting::PullUp => Bias::PullUp,
            BiasSetting::PullDown => Bias::PullDown,
            BiasSetting::Disabled => Bias::Disabled,
        }
    }
}

/// Which edges count.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum EdgeSetting {
    /// From off to on.
    Rising,
    /// From on to off.
    Falling,
    /// All.
    Both,
}

impl Settings for GpioSourceSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let rates = |line: &InputSettings| line.count.as_ref()?.rate.clone();
        let names = self.lines.iter().enumerate().map(|(at, line)| (at, "name", line.name.clone()));
        let rates = self
            .lines
            .iter()
            .enumerate()
            .filter_map(|(at, line)| Some((at, "count.rate", rates(line)?)));
        problems.extend(twice(names.chain(rates), "values", "messages name them"));
        let lines =
            self.lines.iter().enumerate().map(|(at, line)| (at, "line", line.line.to_string()));
        problems.extend(twice(lines, "inputs", "it is read once"));
        let (least, day) = (Period(Duration::from_millis(100)), Period::seconds(86_400));
        let within = |every| Problem::unless_within("every", &every, least..=day);
        problems.extend(self.every.and_then(within));
        let topic = self.topic.filter(|topic| !topic.is_empty());
        let unknown = topic.as_ref().filter(|topic| topic.replace(LINE, "").contains(['{', '}']));
        if let Some(topic) = unknown {
            let message = "`topic` has a place that nothing is filled in for";
            let label = format!("expected no other than `{LINE}`, found `{topic}`");
            problems.push(Problem::new("topic", message, label));
        }
        let counts = self.lines.iter().any(|line| line.count.is_some());
        for (at, line) in self.lines.iter().enumerate() {
            line.check(&format!("lines[{at}]"), problems);
        }
        Some(GpioSource {
            inputs: self.lines.into_iter().map(InputSettings::input).collect(),
            every: self.every.or(counts.then_some(Period::seconds(10))),
            topic: topic.map(Arc::from),
            initial: self.initial,
        })
    }
}

impl InputSettings {
    fn check(&self, path: &str, problems: &mut Vec<Problem>) {
        let millis = |millis| Period(Duration::from_millis(millis));
        let bounds = [
            ("debounce", self.debounce, millis(0), Period::seconds(3600)),
            ("poll", self.poll, millis(5), Period::seconds(60)),
        ];
        for (setting, period, least, most) in bounds {
            let setting = format!("{path}.{setting}");
            let within = |period| Problem::unless_within(setting, &period, least..=most);
            problems.extend(period.and_then(within));
        }
        let Some(count) = &self.count else { return };
        if !count.per_unit.is_finite() || count.per_unit <= 0.0 {
            let message = format!("input `{}` has no unit", self.name);
            let label = format!("expected a number above 0, found {}", count.per_unit);
            problems.push(Problem::new(format!("{path}.count.per_unit"), message, label));
        }
        if !count.start.is_finite() {
            let message = format!("input `{}` has no start", self.name);
            problems.push(Problem::new(
                format!("{path}.count.start"),
                message,
                "expected a number",
            ));
        }
        let own = [("edge", self.edge.is_some()), ("debounce", self.debounce.is_some())];
        for (setting, _) in own.iter().filter(|(_, is_said)| count.impulse_counter && *is_said) {
            let message = format!("the router counts the pulses of input `{}`", self.name);
            let label =
                format!("expected no `{setting}` beside `impulse_counter`: the router has it");
            problems.push(Problem::new(format!("{path}.{setting}"), message, label));
        }
        for (setting, period) in [("per", count.per), ("stops_after", count.stops_after)] {
            let setting = format!("{path}.count.{setting}");
            let (least, most) = (Period::seconds(1), Period::seconds(31 * 86_400));
            problems.extend(Problem::unless_within(setting, &period, least..=most));
        }
    }

    fn input(self) -> Input {
        let usual = if self.count.is_some() { Edges::Rising } else { Edges::Both };
        Input {
            name: self.name.into(),
            line: self.line,
            active_low: self.active_low,
            bias: self.bias.map(Bias::from),
            debounce: self.debounce.map_or(Duration::ZERO, |debounce| *debounce),
            edges: self.edge.map_or(usual, |edge| match edge {
                EdgeSetting::Rising => Edges::Rising,
                EdgeSetting::Falling => Edges::Falling,
                EdgeSetting::Both => Edges::Both,
            }),
            poll: self.poll.map(|poll| *poll),
            meter: self.count.map(|count| Meter {
                per_unit: count.per_unit,
                start: count.start,
                unit: count.unit,
                rate: count.rate,
                per: *count.per,
                stops_after: *count.stops_after,
                is_counted_by_router: count.impulse_counter,
            }),
        }
    }
}

/// Switches outputs, and only when a message says so. A message is a map from names to levels: `true`, `1` or `"on"`,
/// `false`, `0` or `"off"`, or `"toggle"`; `null` asks for the level. Of a sink with one line it may be the level alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpioSinkSettings {
    /// The outputs, 1 to 64.
    #[schemars(length(min = 1, max = 64))]
    lines: Vec<OutputSettings>,
    /// Reads back what was switched, and makes it an error when the line has another level: one that is shorted, or that
    /// only pulls one way.
    #[serde(default)]
    verify: bool,
    /// Refuses a message that is older, up to `31d`: a command that waited through an outage.
    expires_after: Option<Period>,
    /// The most messages that are carried out, such as `1/s` or `20/m`. Further ones wait.
    rate: Option<Rate>,
    /// Checks, logs and answers everything, and neither takes nor switches a line.
    #[serde(default)]
    dry_run: bool,
}

/// One output.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OutputSettings {
    /// What it is called in messages.
    #[schemars(length(min = 1))]
    name: String,
    /// The line: its number on the chip, from 0, or the name that the board gives it, such as `GPIO27`.
    line: LineId,
    /// Whether low means on: many relay boards.
    #[serde(default)]
    active_low: bool,
    /// How the line is driven.
    #[serde(default)]
    drive: DriveSetting,
    /// What pulls the line while nobody drives it. As the board has it when left out.
    bias: Option<BiasSetting>,
    /// The level when the program takes the line: at its start, and when the chip comes back. A reload that leaves
    /// the line as it is changes no level.
    #[serde(default)]
    initial: Initial,
    /// The level when nobody is there to give commands: when the program is stopped, when the output is taken out of the
    /// pipeline, and with `safe_after` when commands stay away. As it is, when left out.
    safe: Option<Level>,
    /// How long without a command until the output goes to `safe`, from `1s` to `31d`. The same command again
    /// counts.
    safe_after: Option<Period>,
    /// How long the output stays on when it is switched on, from `1ms` to `1d`; a further command for on makes it
    /// longer. Until it is switched off, when left out.
    pulse: Option<Period>,
    /// How long it stays on at least, up to `1d`. A command for off waits; of several the last counts.
    min_on: Option<Period>,
    /// How long it stays off at least, up to `1d`: compressors. It counts from the start of the program, too.
    min_off: Option<Period>,
}

/// How a line is driven.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum DriveSetting {
    /// Up and down.
    #[default]
    PushPull,
    /// Down only; something else pulls it up.
    OpenDrain,
    /// Up only; something else pulls it down.
    OpenSource,
}

/// A level, `on` or `off`, which some programs that write YAML make `true` and `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Off,
    On,
}

/// The level at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Initial {
    Level(Level),
    /// As the line is, as far as its chip keeps that.
    Keep,
}

impl Default for Initial {
    fn default() -> Initial {
        Initial::Level(Level::Off)
    }
}

impl<'de> Deserialize<'de> for Initial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Initial, D::Error> {
        struct Written;
        impl de::Visitor<'_> for Written {
            type Value = Initial;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`on`, `off` or `keep`")
            }

            fn visit_bool<E: de::Error>(self, is_on: bool) -> Result<Initial, E> {
                Ok(Initial::Level(if is_on { Level::On } else { Level::Off }))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Initial, E> {
                match text {
                    "on" => Ok(Initial::Level(Level::On)),
                    "off" => Ok(Initial::Level(Level::Off)),
                    "keep" => Ok(Initial::Keep),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Level, D::Error> {
        match Initial::deserialize(deserializer)? {
            Initial::Level(level) => Ok(level),
            Initial::Keep => Err(de::Error::custom("expected `on` or `off`")),
        }
    }
}

impl JsonSchema for Level {
    fn schema_name() -> Cow<'static, str> {
        "Level".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["off", "on", false, true] })
    }
}

impl JsonSchema for Initial {
    fn schema_name() -> Cow<'static, str> {
        "Initial".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["off", "on", "keep", false, true] })
    }
}

impl Settings for GpioSinkSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let names = self.lines.iter().enumerate().map(|(at, line)| (at, "name", line.name.clone()));
        problems.extend(twice(names, "outputs", "messages name them"));
        let lines =
            self.lines.iter().enumerate().map(|(at, line)| (at, "line", line.line.to_string()));
        problems.extend(twice(lines, "outputs", "it has one level"));
        let bounds = Bounds { expires_after: self.expires_after, rate: self.rate };
        problems.extend(too_old(bounds.expires_after));
        for (at, line) in self.lines.iter().enumerate() {
            line.check(&format!("lines[{at}]"), problems);
        }
        Some(GpioSink {
            outputs: self.lines.into_iter().map(OutputSettings::wanted).collect(),
            verify: self.verify,
            bounds,
            dry_run: self.dry_run,
        })
    }
}

impl OutputSettings {
    fn check(&self, path: &str, problems: &mut Vec<Problem>) {
        let millis = |millis| Period(Duration::from_millis(millis));
        let day = Period::seconds(86_400);
        let bounds = [
            ("safe_after", self.safe_after, Period::seconds(1), Period::seconds(31 * 86_400)),
            ("pulse", self.pulse, millis(1), day),
            ("min_on", self.min_on, millis(0), day),
            ("min_off", self.min_off, millis(0), day),
        ];
        for (setting, period, least, most) in bounds {
            let setting = format!("{path}.{setting}");
            let within = |period| Problem::unless_within(setting, &period, least..=most);
            problems.extend(period.and_then(within));
        }
        let name = &self.name;
        if self.safe_after.is_some() && self.safe.is_none() {
            let message = format!("nobody knows what is safe for output `{name}`");
            problems.push(Problem::new(
                format!("{path}.safe_after"),
                message,
                "expected `safe: off` or `safe: on` beside it",
            ));
        }
        if let (Some(pulse), Some(min_on)) = (self.pulse, self.min_on)
            && pulse < min_on
        {
            let message = format!("a pulse of output `{name}` ends before it may");
            let label = format!("expected at least {min_on}, which is `min_on`, found {pulse}");
            problems.push(Problem::new(format!("{path}.pulse"), message, label));
        }
        let begins_on = self.initial == Initial::Level(Level::On);
        let is_on = begins_on || self.safe == Some(Level::On);
        if self.pulse.is_some() && is_on {
            let message =
                format!("output `{name}` is on for the time of a `pulse`, and is to stay on");
            let setting = if begins_on { "initial" } else { "safe" };
            let label = "expected `off`, or no `pulse`";
            problems.push(Problem::new(format!("{path}.{setting}"), message, label));
        }
    }

    fn wanted(self) -> Wanted {
        let time = |period: Option<Period>| period.map_or(Duration::ZERO, |period| *period);
        Wanted {
            name: self.name,
            line: self.line,
            hardware: Hardware {
                active_low: self.active_low,
                bias: self.bias.map(Bias::from),
                drive: match self.drive {
                    DriveSetting::PushPull => Drive::PushPull,
                    DriveSetting::OpenDrain => Drive::OpenDrain,
                    DriveSetting::OpenSource => Drive::OpenSource,
                },
            },
            rules: Rules {
                safe: self.safe.map(|safe| safe == Level::On),
                safe_after: self.safe_after.map(|after| *after),
                pulse: self.pulse.map(|pulse| *pulse),
                min_on: time(self.min_on),
                min_off: time(self.min_off),
            },
            initial: match self.initial {
                Initial::Level(level) => Some(level == Level::On),
                Initial::Keep => None,
            },
        }
    }
}

/// What stands there twice: names, each with the place of its line and its setting there.
fn twice(
    names: impl Iterator<Item = (usize, &'static str, String)>,
    nouns: &str,
    why: &str,
) -> Vec<Problem> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut problems = Vec::new();
    for (at, setting, name) in names {
        let path = format!("lines[{at}].{setting}");
        match seen.get(&name) {
            None => _ = seen.insert(name, path),
            Some(first) => {
                let shown = if setting == "line" { name.clone() } else { format!("`{name}`") };
                let message = format!("two {nouns} are {shown}");
                let label = format!("expected another: {why}");
                problems.push(Problem::new(path, message, label).also(first.clone(), "first here"));
            }
        }
    }
    problems
}
