//! XML as values: an element is a map of what is in it, and one with nothing but a text is that text.

use std::borrow::Cow;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use forebay_sdk::{Problem, Value, payload::kind};
use quick_xml::{
    Reader, XmlVersion,
    escape::{escape, resolve_xml_entity},
    events::{BytesStart, Event},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

use crate::words::{MOST_VALUES, number, word};

/// How deep elements may be nested.
const MOST_LEVELS: usize = 64;
/// The text of an element that has attributes or elements, too.
const TEXT: &str = "#text";

/// How XML is read and written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct XmlSettings {
    /// The name of the outermost element for `encode`. When left out, the payload is a map of one member, which
    /// names it.
    root: Option<String>,
    /// What `decode` makes of texts.
    #[serde(default)]
    texts: Texts,
    /// Elements that are a list also when there is only one, by their names.
    #[serde(default)]
    lists: Vec<String>,
}

/// What becomes of the text in an element or an attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Texts {
    /// What is written as a number is one, but for `007` and the like.
    #[default]
    Numbers,
    /// All stay texts.
    Text,
}

#[derive(Clone, Debug)]
pub(crate) struct Xml(XmlSettings);

impl XmlSettings {
    pub(crate) fn resolve(self, problems: &mut Vec<Problem>) -> Xml {
        if let Some(root) = self.root.as_deref().filter(|root| !is_name(root)) {
            let message = format!("`{root}` is no name of an element");
            problems.push(Problem::new("xml.root", message, "expected a name such as `reading`"));
        }
        Xml(self)
    }
}

/// An element that has begun.
#[derive(Default)]
struct Open {
    name: String,
    members: Map<String, Value>,
    text: String,
}

impl Xml {
    pub(crate) fn read(&self, text: &str) -> anyhow::Result<Value> {
        let mut reader = Reader::from_str(text);
        let mut open = vec![Open::default()];
        let mut values = 0;
        loop {
            let at = usize::try_from(reader.buffer_position()).unwrap_or(0);
            let event = reader.read_event().map_err(|error| {
                let at = usize::try_from(reader.error_position()).unwrap_or(0);
                anyhow!("{}: {error}", place(text, at))
            })?;
            let wrong = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", place(text, at));
            match event {
                Event::Start(start) => {
                    if open.len() > MOST_LEVELS {
                        bail!("{}: nested deeper than {MOST_LEVELS} elements", place(text, at));
                    }
                    open.push(self.begin(&start, &mut values).map_err(|why| wrong(&why))?);
                }
                Event::Empty(start) => {
                    open.push(self.begin(&start, &mut values).map_err(|why| wrong(&why))?);
                    self.close(&mut open);
                }
                Event::End(_) => self.close(&mut open),
                Event::Text(part) => add(&mut open, &part.xml10_content()),
                Event::CData(part) => add(&mut open, &part.xml10_content()),
                Event::GeneralRef(named) => match named.resolve_char_ref() {
                    Ok(Some(c)) => add(&mut open, c.encode_utf8(&mut [0; 4])),
                    Err(error) => return Err(wrong(&error)),
                    Ok(None) => {
                        let name = named.xml10_content();
                        let known = resolve_xml_entity(&name);
                        add(
                            &mut open,
                            known.ok_or_else(|| wrong(&format!("`&{name};` is not known")))?,
                        );
                    }
                },
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => (),
                Event::Eof => break,
            }
            if values > MOST_VALUES {
                bail!("it has more than {MOST_VALUES} elements and attributes");
            }
        }
        if open.len() > 1 {
            let name = open.pop().map(|open| open.name).unwrap_or_default();
            bail!("it ends inside of `<{name}>`");
        }
        let whole = open.pop().unwrap_or_default();
        if whole.members.is_empty() {
            bail!("it has no element");
        }
        Ok(whole.members.into())
    }

    fn begin(&self, start: &BytesStart<'_>, values: &mut usize) -> Result<Open, String> {
        *values += 1;
        let name = start.name().as_ref().to_owned();
        let mut members = Map::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|error| error.to_string())?;
            members.insert(format!("@{}", attribute.key.as_ref()), self.text(&value));
            *values += 1;
        }
        Ok(Open { name, members, text: String::new() })
    }

    fn close(&self, open: &mut Vec<Open>) {
        let Some(Open { name, mut members, text }) = open.pop() else { return };
        let Some(outer) = open.last_mut() else { return };
        let trimmed = text.trim();
        let value = if members.is_empty() {
            if trimmed.is_empty() { Value::Null } else { self.text(trimmed) }
        } else {
            if !trimmed.is_empty() {
                members.insert(TEXT.to_owned(), self.text(trimmed));
            }
            members.into()
        };
        let is_list = self.0.lists.contains(&name);
        match outer.members.get_mut(&name) {
            None if is_list => drop(outer.members.insert(name, vec![value].into())),
            None => drop(outer.members.insert(name, value)),
            // What is in an element is never a list itself.
            Some(Value::Array(items)) => items.push(value),
            Some(first) => {
                let items = vec![first.take(), value];
                *first = items.into();
            }
        }
    }

    fn text(&self, text: &str) -> Value {
        let as_number = match self.0.texts {
            Texts::Numbers => number(text.trim()),
            Texts::Text => None,
        };
        as_number.unwrap_or_else(|| text.into())
    }

    pub(crate) fn write(&self, value: &Value) -> anyhow::Result<Bytes> {
        let mut out = String::from(r#"<?xml version="1.0" encoding="UTF-8"?>"#);
        match (&self.0.root, value) {
            (Some(root), value) => element(root, value, 1, &mut out)?,
            (None, Value::Object(members)) if members.len() == 1 => {
                for (name, value) in members {
                    if value.is_array() {
                        bail!(
                            "`{name}` is a list, and XML has one outermost element; name it by `root`"
                        );
                    }
                    element(name, value, 1, &mut out)?;
                }
            }
            (None, Value::Object(members)) => {
                bail!(
                    "{} members, and XML has one outermost element; name it by `root`",
                    members.len()
                )
            }
            (None, other) => {
                bail!(
                    "{}, and the outermost element has no name; give it one by `root`",
                    kind(other)
                )
            }
        }
        Ok(out.into())
    }
}

fn add(open: &mut [Open], text: &str) {
    if let Some(open) = open.last_mut() {
        open.text.push_str(text);
    }
}

fn element(name: &str, value: &Value, level: usize, out: &mut String) -> anyhow::Result<()> {
    if !is_name(name) {
        bail!("`{name}` is no name of an element");
    }
    if level > MOST_LEVELS {
        bail!("nested deeper than {MOST_LEVELS} elements");
    }
    if let Value::Array(items) = value {
        return items.iter().try_for_each(|item| element(name, item, level + 1, out));
    }
    out.push('<');
    out.push_str(name);
    let Value::Object(members) = value else {
        let text = word(value).unwrap_or_default();
        match text.is_empty() {
            true => out.push_str("/>"),
            false => {
                out.push('>');
                out.push_str(&escaped(&text)?);
                close(name, out);
            }
        }
        return Ok(());
    };
    for (attribute, value) in members {
        let Some(key) = attribute.strip_prefix('@') else { continue };
        let Some(text) = word(value).filter(|_| is_name(key)) else {
            bail!("`{attribute}` cannot be an attribute");
        };
        out.push_str(&format!(" {key}=\"{}\"", escaped(&text)?));
    }
    out.push('>');
    for (member, value) in members.iter().filter(|(name, _)| !name.starts_with('@')) {
        match (member.as_str(), word(value)) {
            (TEXT, Some(text)) => out.push_str(&escaped(&text)?),
            (TEXT, None) => bail!("`{TEXT}` is {}; expected a text", kind(value)),
            (member, _) => element(member, value, level + 1, out)?,
        }
    }
    close(name, out);
    Ok(())
}

fn escaped(text: &str) -> anyhow::Result<Cow<'_, str>> {
    match text.chars().find(|c| c.is_control() && !"\t\n\r".contains(*c)) {
        None => Ok(escape(text)),
        Some(c) => bail!("a text has the character {}, which XML cannot hold", c.escape_unicode()),
    }
}

fn close(name: &str, out: &mut String) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || "_-.:".contains(c))
}

fn place(text: &str, at: usize) -> String {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    format!("line {line}, column {column}")
}
