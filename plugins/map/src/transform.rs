//! Makes the new payload and topic of each message.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{anyhow, bail};
use forebay_sdk::{
    Configured, Emitter, Expression, FieldRead, Fields, Format, Input, Message, Node, OwnTime,
    Path, Payload, Sends, Site, Template, TimeForm, Topics, Transform, Value, json, number,
    template::{self, Place},
};

use crate::piece::{self, Members, Piece, Wanted};

/// From here on a whole number is written with an exponent: it has more than 21 digits.
const LONGEST_WHOLE: f64 = 1e21;

/// A node that was understood. It remembers nothing.
pub(crate) struct MapNode(pub Arc<Mapping>);

struct Mapped {
    name: Arc<str>,
    mapping: Arc<Mapping>,
}

/// All that settings can say, worked out beforehand.
#[derive(Default)]
pub(crate) struct Mapping {
    /// What is read of a payload. Each distinct path has a slot.
    wanted: Wanted,
    paths: Vec<Path>,
    /// For the lint: the fields among them that have to be there.
    reads: Vec<FieldRead>,
    fields: Vec<Made>,
    level: Level,
    rest: Rest,
    /// The payload does not stay as it is.
    changes_payload: bool,
    /// Some field takes the whole payload, so it need not be a map.
    takes_whole: bool,
    topic: Option<Template>,
    /// What is computed, each by the place of its value.
    expressions: Vec<Arc<dyn Expression>>,
}

/// What becomes of fields that nobody takes.
#[derive(Default, PartialEq, Eq)]
enum Rest {
    #[default]
    Stays,
    Goes,
}

/// A field that is made.
struct Made {
    /// For errors.
    name: String,
    how: How,
    /// JSON for when there is nothing to make it of. The field is left out when None.
    default: Option<Vec<u8>>,
}

/// What a field is made of.
pub(crate) enum How {
    Take {
        slot: usize,
        arithmetic: Option<Arithmetic>,
    },
    /// Always this JSON.
    Fixed(Vec<u8>),
    /// What an expression gives.
    Compute {
        place: usize,
        arithmetic: Option<Arithmetic>,
    },
    /// The time of the message.
    Time(TimeForm),
    /// A level of the topic that came in, from 0.
    TopicLevel(usize),
}

/// `number * scale + offset`, rounded.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    pub scale: f64,
    pub offset: f64,
    /// To so many digits behind the point. When None, to what a float can hold.
    pub digits: Option<u8>,
}

/// What becomes of the members of a map that goes out.
#[derive(Default)]
struct Level(Vec<Member>);

struct Member {
    name: String,
    /// `"name":`, as it is written.
    name_json: Vec<u8>,
    /// The index of the field that is made here.
    made: Option<usize>,
    /// What came in under this name does not go out: it was taken, or is to be removed.
    is_gone: bool,
    /// What becomes of what is inside.
    inside: Level,
}

/// What settings say, one after the other.
impl Mapping {
    /// Fields that nobody takes do not go out.
    pub(crate) fn drop_rest(&mut self) {
        self.rest = Rest::Goes;
    }

    /// What is at a path of names does not go out.
    pub(crate) fn remove(&mut self, path: &Path) {
        self.changes_payload = true;
        // A list keeps all of its items, as their places count.
        match path.names().as_deref() {
            Some([first, rest @ ..]) => self.level.at(first, rest).is_gone = true,
            Some([]) => self.drop_rest(),
            None => (),
        }
    }

    /// Makes a field, at a path of names.
    pub(crate) fn make(&mut self, path: &Path, how: How, default: Option<&Value>) {
        self.changes_payload = true;
        if let Some([first, rest @ ..]) = path.names().as_deref() {
            self.level.at(first, rest).made = Some(self.fields.len());
        }
        self.fields.push(Made { name: path.to_string(), how, default: default.map(as_json) });
    }

    /// Takes what is at a path, so that it does not go out there. `setting` says so.
    pub(crate) fn take(
        &mut self,
        path: &Path,
        setting: String,
        arithmetic: Option<Arithmetic>,
    ) -> How {
        self.reads.extend(path.reads(setting));
        self.take_if_there(path, arithmetic)
    }

    /// The same of what may be missing.
    pub(crate) fn take_if_there(&mut self, path: &Path, arithmetic: Option<Arithmetic>) -> How {
        self.takes_whole |= path.0.is_empty();
        self.remove(path);
        How::Take { slot: self.slot(path), arithmetic }
    }

    /// What an expression gives. It sees any payload.
    pub(crate) fn compute(
        &mut self,
        expression: Arc<dyn Expression>,
        arithmetic: Option<Arithmetic>,
    ) -> How {
        self.reads.extend(expression.reads());
        self.takes_whole = true;
        self.expressions.push(expression);
        How::Compute { place: self.expressions.len() - 1, arithmetic }
    }

    /// The topic of what goes out. What it is filled with stays in the payload.
    pub(crate) fn set_topic(&mut self, topic: Template) {
        self.reads.extend(topic.reads(Place::Payload, "topic"));
        for path in in_payload(&topic) {
            self.takes_whole |= path.0.is_empty();
            self.slot(path);
        }
        self.topic = Some(topic);
    }

    fn slot(&mut self, path: &Path) -> usize {
        self.paths.iter().position(|there| there == path).unwrap_or_else(|| {
            let slot = self.paths.len();
            self.wanted.add(path, slot);
            self.paths.push(path.clone());
            slot
        })
    }
}

/// Each message.
impl Mapping {
    fn apply(&self, mut message: Message, node: &Arc<str>) -> anyhow::Result<Message> {
        let computed = self.expressions.iter().map(|expression| expression.value(&message, node));
        let computed: Vec<Value> = computed.collect::<Result<_, _>>()?;
        let mut slots = vec![None; self.paths.len()];
        let mut members = Members::new();
        if self.changes_payload || !self.paths.is_empty() {
            let (payload, inside) = Piece::of(&message.payload)?;
            if !payload.is_map() && !self.takes_whole {
                bail!("payload is {}; expected a map", payload.kind());
            }
            self.wanted.read(payload, &inside, &mut slots)?;
            members = inside;
        }
        let found = |path: &Path| {
            let slot = self.paths.iter().position(|there| there == path);
            slot.and_then(|slot| slots[slot]).map(Piece::filling).transpose()
        };
        let topic = self.topic.as_ref().map(|topic| topic.fill_with(&message, found));
        let topic = topic.transpose()?;
        if self.changes_payload {
            let writing =
                Writing { mapping: self, message: &message, slots: &slots, computed: &computed };
            let mut out = Vec::with_capacity(message.payload.size_bytes());
            writing.level(&self.level, &members, &mut out)?;
            message.payload = Payload::encoded(out, Format::Json);
        }
        if let Some(topic) = topic {
            message.topic = topic;
        }
        if !message.time.clock_was_set() {
            self.note_times(&mut message);
        }
        Ok(message)
    }

    /// Says where times stand now that were written before the clock was set, so that they can be put
    /// right: those that are made here, and those that are taken to another place.
    fn note_times(&self, message: &mut Message) {
        let came = message.meta.own_times().to_vec();
        for field in &self.fields {
            let path = || Path::parse_names(&field.name).ok();
            match &field.how {
                How::Time(form) => {
                    let (form, unix_nanos) = (*form, message.time.unix_nanos());
                    message.meta.add_own_time(OwnTime { path: path(), form, unix_nanos });
                }
                How::Take { slot, arithmetic: None } => {
                    let taken = |own: &&OwnTime| own.path.as_ref() == Some(&self.paths[*slot]);
                    for own in came.iter().filter(taken) {
                        message.meta.add_own_time(OwnTime { path: path(), ..own.clone() });
                    }
                }
                How::Compute { place, .. } if self.expressions[*place].reads_time() => {
                    message.note_own_time(message.time);
                }
                How::Take { .. } | How::Compute { .. } | How::Fixed(_) | How::TopicLevel(_) => (),
            }
        }
        for path in self.topic.iter().flat_map(in_payload) {
            for own in came.iter().filter(|own| own.path.as_ref() == Some(path)) {
                message.meta.add_own_time(OwnTime { path: None, ..own.clone() });
            }
        }
    }
}

impl Configured for MapNode {
    fn build(&self, site: Site) -> Node {
        Node::transform(Mapped { name: site.name, mapping: Arc::clone(&self.0) })
    }

    fn fields(&self) -> Fields {
        let made = self.0.level.0.iter().filter(|member| member.makes());
        let made: BTreeSet<String> = made.map(|member| member.name.clone()).collect();
        let sends = match self.0.rest {
            Rest::Stays => Sends::Also(made),
            Rest::Goes => Sends::Only(made),
        };
        Fields { reads: self.0.reads.clone(), sends }
    }

    fn topics(&self) -> Topics {
        self.0.topic.as_ref().map_or(Topics::Kept, |topic| Topics::Made(topic.pattern()))
    }

    fn meta(&self) -> Fields {
        Fields::passing(self.0.topic.iter().flat_map(|topic| topic.reads(Place::Meta, "topic")))
    }
}

impl Transform for Mapped {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        out.emit(self.mapping.apply(input.message, &self.name)?);
        Ok(())
    }
}

impl Level {
    /// The member at the end of a path of names, which is made when it is not there.
    fn at(&mut self, first: &str, rest: &[&str]) -> &mut Member {
        let at = self.0.iter().position(|member| member.name == first).unwrap_or_else(|| {
            self.0.push(Member::new(first));
            self.0.len() - 1
        });
        match rest {
            [] => &mut self.0[at],
            [first, rest @ ..] => self.0[at].inside.at(first, rest),
        }
    }
}

impl Member {
    fn new(name: &str) -> Member {
        let mut name_json = as_json(&name.into());
        name_json.push(b':');
        let name = name.to_owned();
        Member { name, name_json, made: None, is_gone: false, inside: Level::default() }
    }

    /// Whether some field is made here or inside.
    fn makes(&self) -> bool {
        self.made.is_some() || self.inside.0.iter().any(Member::makes)
    }
}

impl How {
    /// Always the same.
    pub(crate) fn fixed(value: &Value) -> How {
        How::Fixed(as_json(value))
    }
}

impl Arithmetic {
    /// Rounds to so many digits behind the point, and computes nothing else.
    pub(crate) fn rounding(digits: u8) -> Arithmetic {
        Arithmetic { scale: 1.0, offset: 0.0, digits: Some(digits) }
    }

    /// Rounding leaves a whole number as it is, however many digits it has.
    fn leaves(self, piece: Piece) -> bool {
        self.scale == 1.0 && self.offset == 0.0 && piece.is_whole_number()
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
            Some(0) if number.abs() < LONGEST_WHOLE => {
                // Zero has no sign then.
                out.extend_from_slice(format!("{:.0}", number + 0.0).as_bytes());
            }
            _ => json::write(&number, out),
        }
        Ok(())
    }
}

/// What is at hand while a payload is written.
struct Writing<'a> {
    mapping: &'a Mapping,
    message: &'a Message,
    slots: &'a [Option<Piece<'a>>],
    computed: &'a [Value],
}

impl Writing<'_> {
    /// Writes a map. `members` is what came in at its place.
    fn level(&self, level: &Level, members: &Members, out: &mut Vec<u8>) -> anyhow::Result<()> {
        out.push(b'{');
        match self.mapping.rest {
            Rest::Goes => {
                level.0.iter().try_for_each(|member| self.member(member, None, out))?;
            }
            Rest::Stays => self.level_with_rest(level, members, out)?,
        }
        out.push(b'}');
        Ok(())
    }

    fn level_with_rest(
        &self,
        level: &Level,
        members: &Members,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let mut is_written = vec![false; level.0.len()];
        for came in members {
            let (name, _) = came;
            match level.0.iter().position(|member| member.name == *name) {
                None => piece::write_member(came, out),
                // Of two members of the same name the last one counts.
                Some(at) if !is_written[at] => {
                    is_written[at] = true;
                    let last = members.iter().rfind(|(there, _)| there == name);
                    self.member(&level.0[at], last.map(|(_, piece)| *piece), out)?;
                }
                Some(_) => (),
            }
        }
        let new = level.0.iter().zip(is_written).filter(|(_, is_written)| !is_written);
        new.map(|(member, _)| member).try_for_each(|member| self.member(member, None, out))
    }

    /// Writes a member, or nothing when there is nothing to say. `came` is what came in at its place.
    fn member(
        &self,
        member: &Member,
        came: Option<Piece>,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let came = came.filter(|_| !member.is_gone);
        if came.is_none() && !member.makes() {
            return Ok(());
        }
        let before = out.len();
        json::begin_member(out);
        out.extend_from_slice(&member.name_json);
        let value_at = out.len();
        let is_written = match (member.made, came) {
            (Some(made), _) => self.made(&self.mapping.fields[made], out)?,
            // Only parts of a map can be taken or made; anything else stays.
            (None, Some(came)) if !came.is_map() && !member.makes() => {
                came.write(out);
                true
            }
            (None, came) => {
                let members = came.map(Piece::members).transpose()?;
                self.level(&member.inside, &members.unwrap_or_default(), out)?;
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
            How::Time(form) => json::write(&form.value(self.message.time), out),
            How::TopicLevel(number) => {
                match template::levels(&self.message.topic, *number, false) {
                    Some(level) => json::write(level, out),
                    None => return Ok(field.write_default(out)),
                }
            }
            How::Compute { place, arithmetic } => {
                field.write(Piece::Value(&self.computed[*place]), *arithmetic, out)?;
            }
            How::Take { slot, arithmetic } => match self.slots[*slot] {
                None => return Ok(field.write_default(out)),
                Some(piece) => field.write(piece, *arithmetic, out)?,
            },
        }
        Ok(true)
    }
}

impl Made {
    fn write(
        &self,
        piece: Piece<'_>,
        arithmetic: Option<Arithmetic>,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let computes = |by: &Arithmetic| !piece.is_null() && !by.leaves(piece);
        let Some(arithmetic) = arithmetic.filter(computes) else {
            piece.write(out);
            return Ok(());
        };
        let name = &self.name;
        let number = piece.number().map_err(|_| anyhow!("`{name}` is too large"))?;
        let number = number.ok_or_else(|| {
            anyhow!("`{name}` is {}; expected a number to compute with", piece.kind())
        })?;
        arithmetic.write(number, out).map_err(|error| anyhow!("`{name}` {error}"))
    }

    fn write_default(&self, out: &mut Vec<u8>) -> bool {
        self.default.as_ref().inspect(|json| out.extend_from_slice(json)).is_some()
    }
}

/// The fields of the payload that a topic is filled with.
fn in_payload(topic: &Template) -> impl Iterator<Item = &Path> {
    let fields = topic.fields().filter(|field| field.place == Place::Payload);
    fields.map(|field| &field.path)
}

fn as_json(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(value, &mut out);
    out
}
