//! YAML as a tree in which every key and value knows where it stands.

use std::{borrow::Cow, sync::Arc};

use serde_json::Value;

use crate::finding::Span;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Yaml {
    /// The text of the value.
    pub span: Span,
    /// The value.
    pub content: Content,
}

/// The three kinds of value.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text, a number, true or false, or nothing.
    Scalar(Scalar),
    /// `[a, b]`, or lines that begin with `-`.
    List(Vec<Yaml>),
    /// Keys and values, in the order of the file. No key stands twice.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// What it is set to.
    pub value: Yaml,
}

/// A value without parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// After escapes and folding, and after variables were filled in.
    pub text: String,
    /// How it was written.
    pub style: Style,
    /// The text as written, when variables were filled in. Then `text` may be secret: findings
    /// show this instead.
    pub template: Option<String>,
    /// The file that holds the text, when a path stood here and the file was read.
    pub included: Option<u32>,
    /// The files that a script imports, when they were read: each behind those that it imports itself.
    pub modules: Vec<Module>,
}

/// A file that a script imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// By which number spans call it.
    pub file: u32,
    /// What it is and says.
    pub source: ModuleSource,
}

/// A file that a script imports, as a script language sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModuleSource {
    /// What it is imported as: `lib/units`.
    pub name: Arc<str>,
    /// Where it stands, as users know it.
    pub path: Arc<str>,
    /// What it says.
    pub text: Arc<str>,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: may be a number, true, false or nothing.
    Plain,
    /// In quotes: always text.
    Quoted,
    /// A block of lines after `|`: always text. Its lines stand below each other in the file.
    Literal,
    /// A block of lines after `>`: always text.
    Folded,
}

/// What a scalar means by the core schema of YAML 1.2 (section 10.3.2). `yes`, `no`, `on` and
/// `off` are text.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning<'a> {
    /// `null`, `~`, or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Decimal, `0x` or `0o`.
    Int(i128),
    /// With a point, an exponent, `.inf` or `.nan`.
    Float(f64),
    /// Anything else.
    Text(&'a str),
}

impl Yaml {
    /// A map without entries, at a place.
    pub fn empty_map(span: Span) -> Yaml {
        Yaml { span, content: Content::Map(Vec::new()) }
    }

    /// The entries, when it is a map.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.content {
            Content::Map(entries) => Some(entries),
            Content::List(_) | Content::Scalar(_) => None,
        }
    }

    /// The value of a key, when it is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Yaml> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of a key, when it is a map that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key == key)
    }

    /// The scalar, when it is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.content {
            Content::Scalar(scalar) => Some(scalar),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    /// The text, when it is text or came out of a variable.
    pub fn text(&self) -> Option<&str> {
        self.scalar()?.as_text()
    }

    /// Whether nothing stands here.
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.meaning() == Meaning::Null)
    }

    /// The value at a path such as `registers[3].kind`, or the closest that exists above it.
    pub fn at(&self, path: &str) -> &Yaml {
        let (mut here, mut rest) = (self, path);
        while let Some((next, behind)) = here.step(rest) {
            (here, rest) = (next, behind.strip_prefix('.').unwrap_or(behind));
        }
        here
    }

    /// The value at the first step of a path, and the rest of the path.
    fn step<'p>(&self, path: &'p str) -> Option<(&Yaml, &'p str)> {
        match &self.content {
            Content::List(items) => {
                let (index, behind) = path.strip_prefix('[')?.split_once(']')?;
                Some((items.get(index.parse::<usize>().ok()?)?, behind))
            }
            // A key may have dots itself: the longest that fits is meant.
            Content::Map(entries) => entries
                .iter()
                .filter_map(|entry| Some((&entry.value, path.strip_prefix(&entry.key)?)))
                .filter(|(_, behind)| behind.is_empty() || behind.starts_with(['.', '[']))
                .min_by_key(|(_, behind)| behind.len()),
            Content::Scalar(_) => None,
        }
    }

    /// What stands here, in words: `a list`, `"no"`, `300`. A text that came out of a variable is
    /// never shown.
    pub fn describe(&self) -> String {
        match &self.content {
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
            Content::Scalar(scalar) => scalar.describe(),
        }
    }

    /// Calls `visit` for each scalar, depth first.
    pub fn each_scalar(&mut self, visit: &mut dyn FnMut(&mut Scalar, Span)) {
        match &mut self.content {
            Content::Scalar(scalar) => visit(scalar, self.span),
            Content::List(items) => items.iter_mut().for_each(|item| item.each_scalar(visit)),
            Content::Map(entries) => {
                entries.iter_mut().for_each(|entry| entry.value.each_scalar(visit));
            }
        }
    }

    /// The same value without positions, for comparing and hashing. Key order counts.
    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::List(items) => items.iter().map(Yaml::to_value).collect(),
            Content::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.to_value()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Content::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => Value::Null,
                Meaning::Bool(value) => value.into(),
                Meaning::Int(value) => {
                    serde_json::Number::from_i128(value).map_or(Value::Null, Value::Number)
                }
                Meaning::Float(value) => value.into(),
                Meaning::Text(text) => text.into(),
            },
        }
    }
}

impl Scalar {
    /// A text as it was written.
    pub fn new(text: &str, style: Style) -> Scalar {
        Scalar { text: text.to_owned(), style, template: None, included: None, modules: Vec::new() }
    }

    /// What it means by the core schema. What came out of a variable is never nothing.
    pub fn meaning(&self) -> Meaning<'_> {
        match self.style {
            Style::Plain if self.included.is_none() => match plain_meaning(&self.text) {
                Meaning::Null if self.template.is_some() => Meaning::Text(&self.text),
                meaning => meaning,
            },
            _ => Meaning::Text(&self.text),
        }
    }

    /// What it means where a number, `true` or `false` is wanted. In JSON, and inside of brackets, a
    /// variable stands in quotes whatever it holds.
    pub fn unquoted_meaning(&self) -> Meaning<'_> {
        match (self.style, &self.template) {
            (Style::Quoted, Some(_)) if plain_meaning(&self.text) != Meaning::Null => {
                plain_meaning(&self.text)
            }
            _ => self.meaning(),
        }
    }

    /// As text, where text is wanted: so a password of digits that came out of a variable is still a
    /// password.
    pub fn as_text(&self) -> Option<&str> {
        match self.meaning() {
            Meaning::Text(text) => Some(text),
            _ if self.template.is_some() => Some(&self.text),
            _ => None,
        }
    }

    fn describe(&self) -> String {
        if let Some(template) = &self.template {
            return format!("the value of {template}");
        }
        match self.meaning() {
            Meaning::Null => "nothing".to_owned(),
            Meaning::Text(text) => format!("\"{}\"", shorten(text)),
            _ => self.text.clone(),
        }
    }
}

/// At most 40 characters of one line, for showing.
fn shorten(text: &str) -> Cow<'_, str> {
    const MOST: usize = 40;
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]).into(),
        None if line.len() < text.trim_end().len() => format!("{line}…").into(),
        None => line.into(),
    }
}

pub(crate) fn plain_meaning(text: &str) -> Meaning<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" => return Meaning::Bool(true),
        "false" | "False" | "FALSE" => return Meaning::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Meaning::Float(f64::NAN),
        _ => (),
    }
    let (sign, digits) = match text.as_bytes()[0] {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Meaning::Float(f64::from(sign) * f64::INFINITY);
    }
    let number = match digits.get(..2) {
        Some("0x") if digits == text => i128::from_str_radix(&digits[2..], 16).ok(),
        Some("0o") if digits == text => i128::from_str_radix(&digits[2..], 8).ok(),
        _ if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<i128>().ok(),
        _ => None,
    };
    if let Some(number) = number.filter(|number| *number <= u64::MAX.into()) {
        return Meaning::Int(number * i128::from(sign));
    }
    // Rust also reads `inf` and `nan` as floats; YAML does not.
    let is_float = digits.bytes().any(|b| b.is_ascii_digit())
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(number) if is_float => Meaning::Float(number),
        _ => Meaning::Text(text),
    }
}
