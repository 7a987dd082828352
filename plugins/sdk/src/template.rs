//! A topic with places to be filled in for each message: `site/{meta.device}/{payload.kind}`.
//!
//! Whoever sends a payload fills in one level and does not choose another topic: what would add a level or
//! a wildcard is refused.

use std::{borrow::Cow, sync::Arc};

use anyhow::{anyhow, bail};
use serde_json::Value;

use crate::{
    facts::FieldRead,
    message::Message,
    path::{Path, Step},
    payload::kind,
    topic::{MOST_BYTES, NoTopic, check_text, closes_connections, no_wildcard},
};

/// The entry of `meta` that has the levels of a message's topic. It is not kept anywhere: what reads it
/// looks at the topic.
pub const TOPIC_LEVELS: &str = "topic_levels";
/// What says where a field is.
const IN_PAYLOAD: &str = "payload.";
const IN_META: &str = "meta.";
/// How much of a value an error shows, in characters.
const MOST_SHOWN: usize = 60;

/// A topic, and what is to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// Nothing is: all messages get the same.
    Fixed(Arc<str>),
    /// Parts that are written one behind the other.
    Filled(Arc<[Part]>),
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it was written.
    Text(String),
    /// What is in the message.
    Field(Field),
    /// Levels of the topic that came in.
    Levels {
        /// The first of them, from 0.
        first: usize,
        /// All behind it too.
        is_rest: bool,
    },
}

/// A field that is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it is looked for.
    pub place: Place,
    /// The way to it from there.
    pub path: Path,
    /// Where the template names it, in characters from 0.
    at: usize,
}

/// Where a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the payload.
    Payload,
    /// In what is known beside it.
    Meta,
}

/// What stands in the place of a field.
pub enum Filling<'a> {
    /// A text, a number, `true` or `false`, as it stands in a topic.
    Word(Cow<'a, str>),
    /// Anything else, in words: `a list`.
    Other(&'static str),
}

impl<'a> From<&'a Value> for Filling<'a> {
    fn from(value: &'a Value) -> Filling<'a> {
        match value {
            Value::String(text) => Filling::Word(text.into()),
            Value::Number(_) | Value::Bool(_) => Filling::Word(value.to_string().into()),
            other => Filling::Other(kind(other)),
        }
    }
}

impl Template {
    /// Reads a template; says what would be right, and where, when it cannot.
    pub fn parse(text: &str) -> Result<Template, NoTopic> {
        check_text(text)?;
        let mut parts = Vec::new();
        let mut written = String::new();
        let mut rest = text;
        let place = |rest: &str| text[..text.len() - rest.len()].chars().count();
        while let Some(at) = rest.find(['{', '}']) {
            let (before, mark) = rest.split_at(at);
            no_wildcard(before, place(rest))?;
            written.push_str(before);
            if let Some(behind) = mark.strip_prefix("{{").or_else(|| mark.strip_prefix("}}")) {
                written.push_str(&mark[..1]);
                rest = behind;
                continue;
            }
            let Some((inside, behind)) =
                mark.strip_prefix('{').and_then(|inside| inside.split_once('}'))
            else {
                let expected = match mark.starts_with('{') {
                    true => format!("expected `{{field}}`, found `{mark}`, or `{{{{` for a brace"),
                    false => "expected `}}` for a brace".to_owned(),
                };
                return Err(NoTopic::new(expected, place(mark)));
            };
            if !written.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut written)));
            }
            let at = place(mark) + 1;
            parts.push(part(inside, at).map_err(|expected| NoTopic::new(expected, at))?);
            rest = behind;
        }
        no_wildcard(rest, place(rest))?;
        written.push_str(rest);
        if parts.is_empty() {
            return Ok(Template::Fixed(written.into()));
        }
        if !written.is_empty() {
            parts.push(Part::Text(written));
        }
        Ok(Template::Filled(parts.into()))
    }

    /// The fields that are filled in, in order.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        let parts = match self {
            Template::Fixed(_) => &[],
            Template::Filled(parts) => &parts[..],
        };
        parts.iter().filter_map(|part| match part {
            Part::Field(field) => Some(field),
            Part::Text(_) | Part::Levels { .. } => None,
        })
    }

    /// The fields of one place that it needs, for [`crate::Fields`]. `setting` holds the template.
    pub fn reads(&self, place: Place, setting: &'static str) -> Vec<FieldRead> {
        let fields = self.fields().filter(|field| field.place == place);
        let read = |field: &Field| {
            let read = field.path.reads(setting)?;
            Some(FieldRead { inside: Some((1, field.at + 1)), ..read })
        };
        fields.filter_map(read).collect()
    }

    /// The topics that can come out, as a filter: `+` stands for a level in which something is filled in.
    pub fn pattern(&self) -> String {
        let parts = match self {
            Template::Fixed(topic) => return topic.to_string(),
            Template::Filled(parts) => parts,
        };
        // Nobody can write this character into a template.
        const FILLED: char = '\0';
        let mut text = String::new();
        for part in &parts[..] {
            match part {
                Part::Text(written) => text.push_str(written),
                Part::Field(_) | Part::Levels { is_rest: false, .. } => text.push(FILLED),
                Part::Levels { is_rest: true, .. } => {
                    text.push(FILLED);
                    text.push_str("/#");
                    break;
                }
            }
        }
        let levels = text.split('/').map(|level| if level.contains(FILLED) { "+" } else { level });
        levels.collect::<Vec<_>>().join("/")
    }

    /// The topic for a message.
    ///
    /// # Errors
    ///
    /// When something is missing, or cannot stand in a topic.
    pub fn fill(&self, message: &Message) -> anyhow::Result<Arc<str>> {
        self.fill_with(message, |path| {
            let found = path.get(message.payload.value().map_err(|error| anyhow!(error.clone()))?);
            Ok(found.map(Filling::from))
        })
    }

    /// The same, for who looks up what is in the payload by other means.
    ///
    /// # Errors
    ///
    /// When something is missing, or cannot stand in a topic.
    pub fn fill_with<'a>(
        &self,
        message: &'a Message,
        mut payload: impl FnMut(&Path) -> anyhow::Result<Option<Filling<'a>>>,
    ) -> anyhow::Result<Arc<str>> {
        let parts = match self {
            Template::Fixed(topic) => return Ok(Arc::clone(topic)),
            Template::Filled(parts) => parts,
        };
        let mut topic = String::new();
        for part in &parts[..] {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Field(field) => {
                    let found = match field.place {
                        Place::Payload => payload(&field.path)?,
                        Place::Meta => in_meta(message, &field.path),
                    };
                    fill_in(field, found, &mut topic)?;
                }
                Part::Levels { first, is_rest } => {
                    let came = &message.topic;
                    let found = levels(came, *first, *is_rest).ok_or_else(|| {
                        let number = first + 1;
                        anyhow!(
                            "`topic` needs level {number} of the topic, and there are fewer: {came}"
                        )
                    })?;
                    if let Some(c) = found.chars().find(|c| is_refused(*c)) {
                        bail!(
                            "a level of the topic that came cannot stand in one: {} has {}",
                            shown(found),
                            name(c)
                        );
                    }
                    topic.push_str(found);
                }
            }
        }
        if topic.len() > MOST_BYTES {
            bail!("`topic` gets longer than {MOST_BYTES} bytes");
        }
        Ok(topic.into())
    }
}

impl Field {
    /// As users write it.
    pub fn shown(&self) -> String {
        match self.place {
            Place::Payload => self.path.to_string(),
            Place::Meta => format!("meta.{}", self.path),
        }
    }
}

/// What stands between braces, of which the first character is at `at`.
fn part(inside: &str, at: usize) -> Result<Part, String> {
    if let Some((word, number)) = inside.split_once(':')
        && word.trim() == "topic_level"
    {
        let number = number.trim();
        let (digits, is_rest) = match number.strip_suffix("..") {
            Some(digits) => (digits, true),
            None => (number, false),
        };
        let first = digits.parse::<usize>().ok().and_then(|level| level.checked_sub(1));
        let wrong = || {
            format!("expected `topic_level: 1` or more, or `topic_level: 2..`, found `{inside}`")
        };
        return Ok(Part::Levels { first: first.ok_or_else(wrong)?, is_rest });
    }
    let field = |place, path, at| Part::Field(Field { place, path, at });
    if inside == "payload" {
        return Ok(field(Place::Payload, Path::default(), at));
    }
    if let Some(behind) = inside.strip_prefix(IN_PAYLOAD) {
        return Ok(field(Place::Payload, Path::parse(behind)?, at + IN_PAYLOAD.len()));
    }
    let Some(inside) = inside.strip_prefix(IN_META) else {
        return Ok(field(Place::Payload, Path::parse(inside)?, at));
    };
    let path = Path::parse(inside)?;
    match path.0.as_slice() {
        [Step::Name(name), steps @ ..] if name == TOPIC_LEVELS => match steps {
            [Step::Index(first)] => Ok(Part::Levels { first: *first, is_rest: false }),
            _ => Err(format!("expected one of them, such as `meta.{TOPIC_LEVELS}[0]`")),
        },
        _ => Ok(field(Place::Meta, path, at + IN_META.len())),
    }
}

fn in_meta<'a>(message: &'a Message, path: &Path) -> Option<Filling<'a>> {
    let (Step::Name(name), steps) = path.0.split_first()? else { return None };
    if name == "source" && steps.is_empty() {
        return message.meta.source.as_deref().map(|source| Filling::Word(source.into()));
    }
    let entry = message.meta.get(name)?;
    Path(steps.to_vec()).get(entry).map(Filling::from)
}

fn fill_in(field: &Field, found: Option<Filling<'_>>, topic: &mut String) -> anyhow::Result<()> {
    let path = field.shown();
    let word = match found {
        None => bail!("`topic` needs `{path}`, which is not there"),
        Some(Filling::Other(kind)) => {
            bail!("`topic` needs `{path}` as a text or number, and it is {kind}")
        }
        Some(Filling::Word(word)) => word,
    };
    let begins_with_dollar = topic.is_empty() && word.starts_with('$');
    let why = match word.chars().find(|c| *c == '/' || is_refused(*c)) {
        _ if word.is_empty() => "is empty".to_owned(),
        Some(c) => format!("has {}", name(c)),
        None if begins_with_dollar => "begins with `$`".to_owned(),
        None => {
            topic.push_str(&word);
            return Ok(());
        }
    };
    bail!("`{path}` cannot stand in a topic: {} {why}", shown(&word))
}

fn is_refused(c: char) -> bool {
    matches!(c, '+' | '#') || closes_connections(c)
}

fn name(c: char) -> String {
    match closes_connections(c) {
        true => format!("the character U+{:04X}", u32::from(c)),
        false => format!("a `{c}`"),
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A level of a topic, from 0, or all from there on.
pub fn levels(topic: &str, first: usize, is_rest: bool) -> Option<&str> {
    match is_rest {
        true => topic.splitn(first + 1, '/').nth(first),
        false => topic.split('/').nth(first),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::payload::{Format, Payload};

    fn message() -> Message {
        let payload = r#"{"kind":"power","n":7.50,"on":true,"list":[{"a":"x"}],"none":null,"meta":{"device":"other"}}"#;
        let mut message = Message::new("/site/hall 3/raw", Payload::encoded(payload, Format::Json));
        message.meta.insert("device", "pump-1");
        message.meta.insert("mqtt", json!({"user": {"zone": "b"}}));
        message.meta.source = Some("p/node".into());
        message
    }

    #[track_caller]
    fn check(template: &str, expected: Result<&str, &str>) {
        let topic = Template::parse(template).unwrap().fill(&message());
        let topic = topic.map_err(|error| error.to_string());
        assert_eq!(topic.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn what_a_message_has_is_filled_in() {
        check("site/{meta.device}/{payload.kind}", Ok("site/pump-1/power"));
        check("{kind}-{n}/{on}", Ok("power-7.5/true"));
        check("{list[0].a}{payload.meta.device}", Ok("xother"));
        check("{meta.mqtt.user.zone}", Ok("b"));
        check("a/{topic_level:3}/{meta.topic_levels[1]}", Ok("a/hall 3/site"));
        check("x/{topic_level: 2..}/y", Ok("x/site/hall 3/raw/y"));
        check("{topic_level: 1..}", Ok("/site/hall 3/raw"));
        check("a/{{b}}/}}", Ok("a/{b}/}"));
        check("a/{{{kind}}}", Ok("a/{power}"));
    }

    #[test]
    fn what_cannot_be_filled_in_says_which_field_and_what_it_is() {
        check("{kid}", Err("`topic` needs `kid`, which is not there"));
        check("{meta.dev}", Err("`topic` needs `meta.dev`, which is not there"));
        check("{list}", Err("`topic` needs `list` as a text or number, and it is a list"));
        check("{none}", Err("`topic` needs `none` as a text or number, and it is null"));
        check("{payload}", Err("`topic` needs `.` as a text or number, and it is a map"));
        check("{meta.source}", Err("`meta.source` cannot stand in a topic: \"p/node\" has a `/`"));
        check(
            "{topic_level: 9}",
            Err("`topic` needs level 9 of the topic, and there are fewer: /site/hall 3/raw"),
        );
        for (value, why) in [
            ("a/b", "\"a/b\" has a `/`"),
            ("+", "\"+\" has a `+`"),
            ("a#", "\"a#\" has a `#`"),
            ("", "\"\" is empty"),
            ("a\0", "\"a\\0\" has the character U+0000"),
            ("a\u{85}", "\"a\\u{85}\" has the character U+0085"),
            ("$SYS", "\"$SYS\" begins with `$`"),
        ] {
            let message = Message::new("t", Payload::from(json!({"id": value})));
            let error = Template::parse("{id}/x").unwrap().fill(&message).unwrap_err().to_string();
            assert_eq!(error, format!("`id` cannot stand in a topic: {why}"));
        }
        let message = Message::new("t", Payload::from(json!({"id": "x".repeat(100)+"/"})));
        let error = Template::parse("{id}").unwrap().fill(&message).unwrap_err().to_string();
        assert_eq!(error, format!("`id` cannot stand in a topic: {:?}… has a `/`", "x".repeat(60)));
        // A script can give a message any topic.
        let message = Message::new("a/+", Payload::from(json!(1)));
        let error = Template::parse("{topic_level: 1..}").unwrap().fill(&message).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a level of the topic that came cannot stand in one: \"a/+\" has a `+`"
        );
    }

    #[test]
    fn a_template_that_is_none_says_what_would_be_right_and_where() {
        let said = |text: &str| {
            let wrong = Template::parse(text).unwrap_err();
            format!("{}: {}", wrong.at, wrong.expected)
        };
        assert_eq!(said(""), "0: expected a topic, found nothing");
        assert_eq!(said("ä/{b"), "2: expected `{field}`, found `{b`, or `{{` for a brace");
        assert_eq!(said("a/b}"), "3: expected `}}` for a brace");
        assert_eq!(said("a/+"), "2: expected a topic without `+` and `#`");
        assert_eq!(said("{a}/#"), "4: expected a topic without `+` and `#`");
        assert_eq!(said("{{/+/{a}"), "3: expected a topic without `+` and `#`");
        assert_eq!(said("{}"), "1: expected a path such as `power` or `phases[0].volts`, found ``");
        assert_eq!(
            said("{topic_level: 0}"),
            "1: expected `topic_level: 1` or more, or `topic_level: 2..`, found `topic_level: 0`"
        );
        assert_eq!(
            said("{meta.topic_levels}"),
            "1: expected one of them, such as `meta.topic_levels[0]`"
        );
        assert!(Template::parse("{a+b}").is_ok(), "a field may have any name");
    }

    #[test]
    fn lint_hears_which_fields_are_read_and_where_the_topic_leads() {
        let template = Template::parse("ü/{meta.device.x}/{payload.kind}-{id}/b").unwrap();
        let reads = |place| {
            let reads = template.reads(place, "topic").into_iter();
            reads.map(|read| (read.field, read.inside)).collect::<Vec<_>>()
        };
        assert_eq!(reads(Place::Meta), [("device".to_owned(), Some((1, 9)))]);
        let payload = [("kind".to_owned(), Some((1, 28))), ("id".to_owned(), Some((1, 35)))];
        assert_eq!(reads(Place::Payload), payload);
        assert_eq!(template.pattern(), "ü/+/+/b");
        assert_eq!(Template::parse("a/x{topic_level: 2..}/z").unwrap().pattern(), "a/+/#");
        assert_eq!(Template::parse("a/{{b").unwrap().pattern(), "a/{b");
    }
}
