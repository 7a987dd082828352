//! Makes the new payload and topic of each message.

use anyhow::{anyhow, bail};
use forebay_sdk::{Emitter, Format, Message, Payload, Transform, Value, json, number};

use crate::{
    Clock, Field, MapSettings, Rest, Written,
    path::Path,
    piece::{Members, Piece, Wanted},
    topic::{self, Template},
};

/// A `map` node, with everything that settings can say worked out beforehand.
pub(crate) struct MapNode {
    /// What is read of a payload. Each distinct path has a slot.
    wanted: Wanted,
    paths: Vec<Path>,
    fields: Vec<Made>,
    level: Level,
    keeps_rest: bool,
    /// The payload stays as it is.
    only_topic: bool,
    /// Some field takes the whole payload, so it need not be a map.
    takes_whole: bool,
    topic: Option<Template>,
}

/// A field that is made.
struct Made {
    /// For errors.
    name: String,
    how: How,
    /// JSON for when there is nothing to make it of. The field is left out when None.
    default: Option<Vec<u8>>,
}

enum How {
    Take {
        slot: usize,
        arithmetic: Option<Arithmetic>,
    },
    /// Always this JSON.
    Fixed(Vec<u8>),
    Time(Clock),
    TopicLevel(usize),
}

/// `number * scale + offset`, rounded.
#[derive(Clone, Copy)]
struct Arithmetic {
    scale: f64,
    offset: f64,
    /// To so many digits behind the point. When None, to what a float can hold.
    digits: Option<u8>,
}

/// What becomes of the members of a map that goes out.
#[derive(Default)]
struct Level(Vec<(String, Member)>);

#[derive(Default)]
struct Member {
    /// The index of the field that is made here.
    made: Option<usize>,
    /// What came in under this name does not go out: it was taken, or is to be removed.
    gone: bool,
    /// What becomes of what is inside.
    inside: Level,
}

impl MapNode {
    /// From settings that were checked: what cannot be read in them is left out.
    pub(crate) fn new(settings: MapSettings) -> MapNode {
        let mut node = MapNode {
            wanted: Wanted::default(),
            paths: Vec::new(),
            fields: Vec::new(),
            level: Level::default(),
            keeps_rest: settings.rest == Rest::Keep,
            only_topic: settings.fields.is_empty() && settings.remove.is_empty(),
            takes_whole: false,
            topic: None,
        };
        for name in &settings.remove {
            node.gone(&Path::parse_names(name).unwrap_or_default());
        }
        for (name, Written(field)) in settings.fields {
            node.add(name, field);
        }
        let template = settings.topic.map(|text| Template::parse(&text, |path| node.slot(path)));
        node.topic = template.and_then(Result::ok);
        node
    }

    fn add(&mut self, name: String, field: Field) {
        let how = if let Some(path) = &field.from {
            let path = Path::parse(path).unwrap_or_default();
            self.takes_whole |= path.0.is_empty();
            self.gone(&path);
            How::Take { slot: self.slot(&path), arithmetic: Arithmetic::of(&field) }
        } else if let Some(clock) = field.time {
            How::Time(clock)
        } else if let Some(number) = field.topic_level {
            How::TopicLevel(number.into())
        } else {
            How::Fixed(as_json(&field.value.unwrap_or_default()))
        };
        let path = Path::parse_names(&name).unwrap_or_default();
        if let Some([first, rest @ ..]) = path.names().as_deref() {
            self.level.at(first, rest).made = Some(self.fields.len());
        }
        self.fields.push(Made { name, how, default: field.default.as_ref().map(as_json) });
    }

    /// What is at a path does not go out under its old name.
    fn gone(&mut self, path: &Path) {
        // A list keeps all of its items, as their places count.
        match path.names().as_deref() {
            Some([first, rest @ ..]) => self.level.at(first, rest).gone = true,
            Some([]) => self.keeps_rest = false,
            None => (),
        }
    }

    fn slot(&mut self, path: &Path) -> usize {
        self.paths.iter().position(|there| there == path).unwrap_or_else(|| {
            let slot = self.paths.len();
            self.wanted.add(path, slot);
            self.paths.push(path.clone());
            slot
        })
    }

    /// The new topic and the new payload, where there is one.
    fn map(&self, message: &Message) -> anyhow::Result<(Option<String>, Option<Vec<u8>>)> {
        let reads_payload = !self.only_topic || !self.paths.is_empty();
        let mut slots = vec![None; self.paths.len()];
        let mut members = Members::new();
        if reads_payload {
            let (payload, inside) = Piece::of(&message.payload)?;
            if !payload.is_map() && !self.takes_whole {
                bail!("payload is {}; expected a map", payload.kind());
            }
            self.wanted.read(payload, &inside, &mut slots);
            members = inside;
        }
        let topic = self.topic.as_ref().map(|topic| topic.fill(&message.topic, &slots));
        let payload = match self.only_topic {
            true => None,
            false => {
                let mut out = Vec::with_capacity(message.payload.size_bytes());
                Writing { node: self, message, slots: &slots }.level(
                    &self.level,
                    &members,
                    &mut out,
                )?;
                Some(out)
            }
        };
        Ok((topic.transpose()?, payload))
    }
}

impl Transform for MapNode {
    fn apply(&mut self, mut message: Message, out: &mut Emitter) -> anyhow::Result<()> {
        let (topic, payload) = self.map(&message)?;
        if let Some(topic) = topic {
            message.topic = topic.into();
        }
        if let Some(payload) = payload {
            message.payload = Payload::encoded(payload, Format::Json);
        }
        out.emit(message);
        Ok(())
    }
}

impl Level {
    /// The member at the end of a path of names, which is made when it is not there.
    fn at(&mut self, first: &str, rest: &[&str]) -> &mut Member {
        let at = self.0.iter().position(|(name, _)| name == first).unwrap_or_else(|| {
            self.0.push((first.to_owned(), Member::default()));
            self.0.len() - 1
        });
        match rest {
            [] => &mut self.0[at].1,
            [first, rest @ ..] => self.0[at].1.inside.at(first, rest),
        }
    }

    /// Whether some field is made in it.
    fn makes(&self) -> bool {
        self.0.iter().any(|(_, member)| member.made.is_some() || member.inside.makes())
    }
}

impl Arithmetic {
    fn of(field: &Field) -> Option<Arithmetic> {
        let Field { scale, offset, round, .. } = *field;
        let is_wanted = scale.is_some() || offset.is_some() || round.is_some();
        is_wanted.then(|| Arithmetic {
            scale: scale.unwrap_or(1.0),
            offset: offset.unwrap_or(0.0),
            digits: round,
        })
    }

    fn write(self, raw: f64, out: &mut Vec<u8>) -> anyhow::Result<()> {
        let number = raw * self.scale + self.offset;
        let number = match self.digits {
            Some(digits) => number::round(number, digits.into()),
            None => number::round_to_15_digits(number),
        };
        if !number.is_finite() {
            bail!("is too large");
        }
        match self.digits {
            // Without digits behind the point it is a whole number, and looks like one.
            Some(0) if number.abs() < 1e15 => json::write(&(number as i64), out),
            _ => json::write(&number, out),
        }
        Ok(())
    }
}

/// What is at hand while a payload is written.
struct Writing<'a> {
    node: &'a MapNode,
    message: &'a Message,
    slots: &'a [Option<Piece<'a>>],
}

impl Writing<'_> {
    /// Writes a map. `members` is what came in at its place.
    fn level(&self, level: &Level, members: &Members, out: &mut Vec<u8>) -> anyhow::Result<()> {
        out.push(b'{');
        let mut is_written = vec![false; level.0.len()];
        let kept = if self.node.keeps_rest { members.as_slice() } else { &[] };
        for (name, piece) in kept {
            match level.0.iter().position(|(there, _)| there == name) {
                None => {
                    json::write_name(name, out);
                    piece.write(out);
                }
                // Of two members of the same name the last one counts.
                Some(at) if !is_written[at] => {
                    is_written[at] = true;
                    let last = members.iter().rfind(|(there, _)| there == name);
                    self.member(&level.0[at], last.map(|(_, piece)| *piece), out)?;
                }
                Some(_) => (),
            }
        }
        for (member, _) in level.0.iter().zip(is_written).filter(|(_, is_written)| !is_written) {
            self.member(member, None, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    /// Writes a member, or nothing when there is nothing to say. `came` is what came in at its place.
    fn member(
        &self,
        (name, member): &(String, Member),
        came: Option<Piece>,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let before = out.len();
        json::write_name(name, out);
        let value_at = out.len();
        let came = came.filter(|_| !member.gone);
        let is_written = match (member.made, came) {
            (Some(made), _) => self.made(&self.node.fields[made], out)?,
            // Only parts of a map can be taken or made; anything else stays.
            (None, Some(came)) if !came.is_map() && !member.inside.makes() => {
                came.write(out);
                true
            }
            (None, came) => {
                let members = came.map(Piece::members).unwrap_or_default();
                self.level(&member.inside, &members, out)?;
                out[value_at..] != *b"{}"
            }
        };
        if !is_written {
            out.truncate(before);
        }
        Ok(())
    }

    /// Writes the value of a field. False when there is none.
    fn made(&self, field: &Made, out: &mut Vec<u8>) -> anyhow::Result<bool> {
        match &field.how {
            How::Fixed(json) => out.extend_from_slice(json),
            How::Time(Clock::Iso) => json::write(&self.message.time.to_rfc3339(), out),
            How::Time(Clock::UnixMs) => json::write(&self.message.time.unix_millis(), out),
            How::Time(Clock::UnixS) => json::write(&(self.message.time.unix_millis() / 1000), out),
            How::TopicLevel(number) => match topic::level(&self.message.topic, *number) {
                Some(level) => json::write(level, out),
                None => return Ok(field.write_default(out)),
            },
            How::Take { slot, arithmetic } => match (self.slots[*slot], arithmetic) {
                (None, _) => return Ok(field.write_default(out)),
                (Some(piece), Some(arithmetic)) if !piece.is_null() => {
                    let name = &field.name;
                    let number = piece.number().ok_or_else(|| {
                        anyhow!("`{name}` is {}; expected a number to compute with", piece.kind())
                    })?;
                    arithmetic.write(number, out).map_err(|error| anyhow!("`{name}` {error}"))?;
                }
                (Some(piece), _) => piece.write(out),
            },
        }
        Ok(true)
    }
}

impl Made {
    fn write_default(&self, out: &mut Vec<u8>) -> bool {
        self.default.as_ref().inspect(|json| out.extend_from_slice(json)).is_some()
    }
}

fn as_json(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(value, &mut out);
    out
}
