//! Chips and lines as users name them, and what is said when one cannot be had.

use std::{borrow::Cow, fmt, io, path::Path};

use anyhow::{Context, anyhow, bail};
use forebay_sdk::{
    Claim, Problem, World,
    finding::nearest,
    world::gpio::{GpioChip, GpioLine, GpioRequest, HeldLine},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// The most names that an error lists.
const MOST_SHOWN: usize = 8;
/// Error numbers of the system.
const EBUSY: i32 = 16;
const ENODEV: i32 = 19;
const ENOTTY: i32 = 25;

/// A chip as a user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChipName {
    /// A device file, or a link to one.
    Path(String),
    /// `gpiochip0`, or its number.
    System(String),
    /// What its driver calls it.
    Label(String),
}

impl ChipName {
    /// Every text is one.
    pub fn parse(text: &str) -> ChipName {
        let number = text.strip_prefix("/dev/gpiochip").or(text.strip_prefix("gpiochip"));
        match number.unwrap_or(text).parse::<u32>() {
            Ok(number) => ChipName::System(format!("gpiochip{number}")),
            Err(_) if text.starts_with('/') => ChipName::Path(text.to_owned()),
            Err(_) => ChipName::Label(text.to_owned()),
        }
    }

    /// The chip as it is now.
    pub async fn find(&self, world: &World) -> anyhow::Result<GpioChip> {
        match self {
            ChipName::Path(path) => look_at(world, path).await,
            ChipName::System(name) => {
                let found = look_at(world, &format!("/dev/{name}")).await;
                match found {
                    Ok(chip) => Ok(chip),
                    Err(error) if is_missing(&error) => {
                        bail!("there is no {name}; {}", chips_there(world).await)
                    }
                    Err(error) => Err(error),
                }
            }
            ChipName::Label(label) => {
                let all = world.gpio_chips().await.map_err(|error| no_chip(error, "/dev"))?;
                let mut found = all.into_iter().filter(|chip| chip.label == *label);
                match (found.next(), found.next()) {
                    (Some(chip), None) => Ok(chip),
                    (Some(one), Some(other)) => bail!(
                        "{} and {} are both labelled `{label}`: name one of them",
                        one.name,
                        other.name
                    ),
                    (None, _) => {
                        bail!("no GPIO chip is labelled `{label}`; {}", chips_there(world).await)
                    }
                }
            }
        }
    }
}

impl fmt::Display for ChipName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ChipName::Path(name) | ChipName::System(name) | ChipName::Label(name)) = self;
        f.write_str(name)
    }
}

async fn look_at(world: &World, path: &str) -> anyhow::Result<GpioChip> {
    world.gpio_chip(Path::new(path)).await.map_err(|error| no_chip(error, path))
}

/// The chips of this machine, in words.
async fn chips_there(world: &World) -> String {
    const NONE: &str = "this machine shows no GPIO chip (/dev/gpiochip*); a container needs `--device \
                        /dev/gpiochip0`, and a router's own inputs and outputs are had by its API";
    match world.gpio_chips().await {
        Ok(chips) if chips.is_empty() => NONE.to_owned(),
        Ok(chips) => {
            let each = chips.iter().map(|GpioChip { name, label, lines }| {
                format!("{name} (`{label}`, {} lines)", lines.len())
            });
            format!("here are {}", each.collect::<Vec<_>>().join(", "))
        }
        Err(error) => no_chip(error, "/dev").to_string(),
    }
}

fn no_chip(error: io::Error, path: &str) -> anyhow::Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let why = "this program may not open it: it must be in the group that owns the device (`ls -l \
                   /dev/gpiochip*`), and a container be given it by `--device`";
        return anyhow::Error::new(error).context(why).context(format!("opening {path}"));
    }
    if error.raw_os_error() == Some(ENOTTY) {
        return anyhow!("{path} is no GPIO chip, or this kernel is older than Linux 5.10");
    }
    anyhow::Error::new(error).context(format!("opening {path}"))
}

fn is_missing(error: &anyhow::Error) -> bool {
    let system = error.downcast_ref::<io::Error>();
    system.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether an error says that the chip is gone.
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ENODEV) || error.kind() == io::ErrorKind::NotFound
}

/// A line as a user names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineId {
    /// Its number on the chip.
    Number(u32),
    /// What the board calls it.
    Name(String),
}

impl fmt::Display for LineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineId::Number(number) => write!(f, "line {number}"),
            LineId::Name(name) => write!(f, "line `{name}`"),
        }
    }
}

impl<'de> Deserialize<'de> for LineId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LineId, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = LineId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number or the name of a line")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<LineId, E> {
                let number = u32::try_from(number);
                number.map(LineId::Number).map_err(|_| E::custom("no line has such a number"))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<LineId, E> {
                let number = u32::try_from(number);
                number.map(LineId::Number).map_err(|_| E::custom("no line has such a number"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LineId, E> {
                let number = text.parse().map(LineId::Number);
                Ok(number.unwrap_or_else(|_| LineId::Name(text.to_owned())))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for LineId {
    fn schema_name() -> Cow<'static, str> {
        "LineId".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": 65535 },
            { "type": "string", "minLength": 1 },
        ] })
    }
}

impl LineId {
    /// What something that knows no numbers would call it.
    pub fn to_name(&self) -> String {
        match self {
            LineId::Number(number) => number.to_string(),
            LineId::Name(name) => name.clone(),
        }
    }

    /// The number of the line on a chip, and what is known of it.
    pub fn find<'a>(&self, chip: &'a GpioChip) -> anyhow::Result<(u32, &'a GpioLine)> {
        let mut all = (0..).zip(&chip.lines);
        match self {
            LineId::Number(number) => all.find(|(at, _)| at == number).with_context(|| {
                let count = chip.lines.len();
                format!("{} has {count} lines, counted from 0, and no line {number}", chip.name)
            }),
            LineId::Name(name) => {
                let mut found = all.filter(|(_, line)| line.name == *name);
                match (found.next(), found.next()) {
                    (Some(line), None) => Ok(line),
                    (Some((one, _)), Some((other, _))) => bail!(
                        "lines {one} and {other} of {} are both called `{name}`: use the number",
                        chip.name
                    ),
                    (None, _) => Err(anyhow!(
                        "no line of {} is called `{name}`; {}",
                        chip.name,
                        lines_there(chip, name)
                    )),
                }
            }
        }
    }
}

fn lines_there(chip: &GpioChip, wanted: &str) -> String {
    let names = || chip.lines.iter().map(|line| line.name.as_str()).filter(|name| !name.is_empty());
    let count = names().count();
    if let Some(near) = nearest(wanted, names()) {
        return format!("did you mean `{near}`?");
    }
    match count {
        0 => format!("its {} lines have no names: use the number", chip.lines.len()),
        _ => {
            let shown: Vec<String> =
                names().take(MOST_SHOWN).map(|name| format!("`{name}`")).collect();
            let rest = if count > MOST_SHOWN { ", …" } else { "" };
            format!("it has {}{rest}", shown.join(", "))
        }
    }
}

/// That a line has a number, on a connection that knows only names.
pub fn needs_name(line: &LineId, at: usize) -> Option<Problem> {
    let LineId::Number(number) = line else { return None };
    let message = format!("a router has no line {number}");
    let label = "expected a name, such as `din1`";
    Some(Problem::new(format!("lines[{at}].line"), message, label))
}

/// That a node holds a line of its chip.
pub fn claim(chip: &ChipName, line: &LineId, at: usize) -> Claim {
    Claim::named(format!("{line} of {chip}"), format!("lines[{at}].line"))
}

/// A line that can be held, and how it is named to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The number on the chip.
    pub number: u32,
    /// `line 17 (`GPIO17`) of gpiochip0`.
    pub title: String,
}

impl Found {
    /// Looks for a line on a chip.
    pub fn on(chip: &GpioChip, id: &LineId) -> anyhow::Result<Found> {
        let (number, line) = id.find(chip)?;
        let title = match &*line.name {
            "" => format!("line {number} of {}", chip.name),
            name => format!("line {number} (`{name}`) of {}", chip.name),
        };
        Ok(Found { number, title })
    }

    /// Holds the line, or says who does.
    pub async fn hold(
        &self,
        world: &World,
        wanted: GpioRequest,
    ) -> Result<Box<dyn HeldLine>, NotHeld> {
        let chip = wanted.chip.clone();
        let error = match world.gpio_line(wanted).await {
            Ok(held) => return Ok(held),
            Err(error) => error,
        };
        if is_gone(&error) {
            return Err(NotHeld::Gone(error));
        }
        let line = world.gpio_chip(Path::new("/dev").join(&chip)).await.ok();
        let line = line.and_then(|chip| chip.lines.into_iter().nth(self.number as usize));
        let holder = line.and_then(|line| line.holder);
        let title = &self.title;
        Err(match (holder, error.raw_os_error()) {
            (Some(holder), Some(EBUSY)) => {
                NotHeld::Busy(anyhow!("{title} is in use by {}", in_words(&holder)))
            }
            _ => NotHeld::Refused(anyhow::Error::new(error).context(format!("asking for {title}"))),
        })
    }
}

/// Who holds a line.
pub fn in_words(holder: &str) -> String {
    match holder {
        "" => "a driver of the kernel, or a program that gives no name".to_owned(),
        "sysfs" => {
            "`sysfs`: somebody exported it below /sys/class/gpio, where it must be unexported"
                .to_owned()
        }
        holder => format!("`{holder}`"),
    }
}

/// Why a line is not held.
#[derive(Debug)]
pub enum NotHeld {
    /// The chip is not there any more.
    Gone(io::Error),
    /// Somebody else has it.
    Busy(anyhow::Error),
    /// The driver does not do what was asked for.
    Refused(anyhow::Error),
}

impl NotHeld {
    /// What a line says that is held.
    pub fn of(error: io::Error) -> NotHeld {
        match is_gone(&error) {
            true => NotHeld::Gone(error),
            false => NotHeld::Refused(error.into()),
        }
    }

    /// Why, in words.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            NotHeld::Gone(error) => error.into(),
            NotHeld::Busy(error) | NotHeld::Refused(error) => error,
        }
    }
}
