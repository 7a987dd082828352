//! Checks a tree against the JSON Schema of a settings struct: every problem, each at its place.
//!
//! Reads the part of JSON Schema that [`schema_of`] writes for such structs.

use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use crate::{
    finding::{Finding, Span, nearest},
    rules,
    secret::{
        Part, holds_secrets, is_hidden, is_of_variables, is_url, names_secret, places_in_url,
    },
    tree::{Content, Entry, Meaning, Scalar, Style, Yaml, plain_meaning},
    units::{form, form_of, is_digest},
    words::{self, Borrowed},
};

/// The JSON Schema of a settings struct, in one piece: without references to definitions.
pub fn schema_of<T: JsonSchema>() -> Value {
    in_one_piece(SchemaGenerator::subschema_for::<T>)
}

/// Once in the program, and not for each struct again.
fn in_one_piece(schema: fn(&mut SchemaGenerator) -> Schema) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
    });
    let mut schema = schema(&mut settings.into_generator()).to_value();
    flatten_alternatives(&mut schema);
    schema
}

/// An optional setting of two forms is one list of alternatives, not a list in a list.
fn flatten_alternatives(schema: &mut Value) {
    if let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") {
        let is_list = |schema: &Value| schema.as_object().is_some_and(|schema| schema.len() == 1);
        let inside = |mut schema: Value| match schema.get_mut("anyOf").map(Value::take) {
            Some(Value::Array(inner)) if is_list(&schema) => inner,
            Some(inner) => {
                schema["anyOf"] = inner;
                vec![schema]
            }
            None => vec![schema],
        };
        let flat = std::mem::take(alternatives).into_iter().flat_map(inside);
        *alternatives = flat.collect();
    }
    match schema {
        Value::Object(parts) => parts.values_mut().for_each(flatten_alternatives),
        Value::Array(parts) => parts.iter_mut().for_each(flatten_alternatives),
        _ => (),
    }
}

/// Reports everything in `yaml` that `schema` does not allow. `subject` names the thing whose
/// settings these are, as in `modbus source`; `owner` is marked when a setting is missing. Returns
/// what nobody may show.
pub fn check(
    yaml: &Yaml,
    schema: &Value,
    subject: &str,
    owner: Span,
    findings: &mut Vec<Finding>,
) -> Vec<Hidden> {
    let mut checker = Checker { subject, findings, secrets: Vec::new() };
    checker.value(yaml, schema, "", owner);
    checker.secrets
}

/// A text that stands in the file and is never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Where it stands.
    pub span: Span,
    /// The setting, when what it holds is a secret that others could read here.
    pub secret_in_clear: Option<String>,
}

/// What a schema has against a value by itself.
fn problems(value: &Yaml, schema: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    check(value, schema, "", value.span, &mut findings);
    findings
}

struct Checker<'a> {
    subject: &'a str,
    findings: &'a mut Vec<Finding>,
    secrets: Vec<Hidden>,
}

impl<'a> Checker<'a> {
    /// `name` is the setting at hand, empty at the top. `owner` is what lacks a missing setting.
    fn value(&mut self, yaml: &Yaml, schema: &'a Value, name: &str, owner: Span) {
        if is_hidden(schema) {
            self.secrets.extend(hidden(yaml, schema, name));
        }
        let types = self.types(schema);
        // Most settings, and none of these has alternatives.
        let is_plain =
            matches!(types.as_slice(), ["object" | "array" | "integer" | "number" | "boolean"]);
        if !is_plain {
            if let Some(choices) = self.choices(schema) {
                return self.word(yaml, &choices, name);
            }
            if let Some(alternatives) = schema.get("anyOf").or(schema.get("oneOf")) {
                return self.alternatives(yaml, alternatives, name, owner);
            }
        }
        let Some(kind) = types.iter().find(|kind| fits(yaml, kind)) else {
            // A schema without a type takes anything.
            match types.is_empty() {
                true => self.anything(yaml, name),
                false => self.wrong_type(yaml, &types, schema, name),
            }
            return;
        };
        match *kind {
            "object" => self.object(yaml, schema, name, owner),
            "array" => self.array(yaml, schema, name),
            "integer" | "number" => self.number(yaml, schema, name),
            "string" => self.string(yaml, schema, name),
            _ => (),
        }
    }

    /// The words of an enum without data, or None when it is something else.
    fn choices(&self, schema: &'a Value) -> Option<Vec<&'a str>> {
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return Some(words.iter().filter_map(Value::as_str).collect());
        }
        if let Some(word) = schema.get("const").and_then(Value::as_str) {
            return Some(vec![word]);
        }
        // Words with a description each come as a list of alternatives.
        let alternatives = schema.get("oneOf")?.as_array()?;
        let words = alternatives.iter().map(|schema| self.choices(schema));
        Some(words.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn types(&self, schema: &'a Value) -> Vec<&'a str> {
        match schema.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn word(&mut self, yaml: &Yaml, choices: &[&str], name: &str) {
        let scalar = yaml.scalar();
        let written = scalar.and_then(|scalar| scalar.as_text()).map(str::to_owned);
        if written.as_deref().is_some_and(|word| choices.contains(&word)) {
            return;
        }
        let label = format!("expected {}, found {}", list(choices), yaml.describe());
        let message = format!("{} is not one of its choices", self.title(name));
        let mut finding = Finding::error(&rules::SETTING_TYPE, yaml.span, message, label);
        let secret = scalar.is_some_and(|scalar| scalar.template.is_some());
        let number = scalar.map(|scalar| scalar.text.clone());
        if let Some(word) = written.or(number).filter(|_| !secret)
            && let Some(near) =
                nearest(&word, choices.iter().copied()).or_else(|| words::choice(&word, choices))
        {
            finding = finding.edit("a choice with a similar name exists", yaml.span, near);
        }
        self.findings.push(finding);
    }

    /// Goes on with the alternative of the same kind, so that a problem inside it is reported as
    /// that problem.
    fn alternatives(&mut self, yaml: &Yaml, alternatives: &'a Value, name: &str, owner: Span) {
        let alternatives: Vec<&'a Value> = alternatives.as_array().into_iter().flatten().collect();
        let kinds = |schema: &'a Value| match self.choices(schema) {
            Some(_) => vec!["string"],
            None => self.types(schema),
        };
        match alternatives.iter().find(|schema| kinds(schema).iter().any(|kind| fits(yaml, kind))) {
            Some(schema) => self.value(yaml, schema, name, owner),
            None => {
                // The alternative `null` only says that the setting may be left out.
                let real: Vec<&str> = alternatives
                    .iter()
                    .flat_map(|schema| kinds(schema))
                    .filter(|kind| *kind != "null")
                    .collect();
                let first = alternatives.first().copied().unwrap_or(&Value::Null);
                self.wrong_type(yaml, &real, first, name);
            }
        }
    }

    fn object(&mut self, yaml: &Yaml, schema: &'a Value, name: &str, owner: Span) {
        let Content::Map(entries) = &yaml.content else { return };
        let properties = schema.get("properties").and_then(Value::as_object);
        let known = known(schema);
        for entry in entries {
            let path =
                if name.is_empty() { entry.key.clone() } else { format!("{name}.{}", entry.key) };
            let old = properties.and_then(|properties| now_called(properties, &entry.key));
            match (properties.and_then(|properties| properties.get(&entry.key)), old) {
                (Some(property), _) => {
                    let before = self.findings.len();
                    self.value(&entry.value, property, &path, entry.key_span);
                    if is_left_empty(&entry.value) {
                        if holds_secrets(property) {
                            // A secret that begins with `#` or `&` is a comment or an anchor.
                            let end = entry.key_span.range().end;
                            let span = Span::new(entry.key_span.file, end..end);
                            self.secrets.push(Hidden { span, secret_in_clear: None });
                        }
                        if self.findings.len() == before {
                            self.empty(entry, &path);
                        }
                    }
                }
                (None, Some((now, property))) => {
                    self.old_name(entry, yaml.entry(now), now);
                    self.value(&entry.value, property, &path, entry.key_span);
                }
                (None, None) => match schema.get("additionalProperties") {
                    None | Some(Value::Bool(true)) => (),
                    Some(Value::Bool(false)) => {
                        self.unknown_setting(entry, entries, properties, name)
                    }
                    Some(each) => {
                        self.odd_name(entry, name);
                        self.value(&entry.value, each, &path, entry.key_span);
                    }
                },
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for missing in required.into_iter().flatten().filter_map(Value::as_str) {
            // Misspelt is not missing.
            let misspelt = entries.iter().any(|entry| {
                !known.contains(&entry.key.as_str())
                    && (nearest(&entry.key, [missing]).is_some()
                        || words::is_called(&entry.key, missing))
            });
            let is_old = |entry: &Entry| {
                let now = properties.and_then(|properties| now_called(properties, &entry.key));
                now.is_some_and(|(now, _)| now == missing)
            };
            if yaml.get(missing).is_some() || misspelt || entries.iter().any(is_old) {
                continue;
            }
            let whose = if name.is_empty() { self.subject.to_owned() } else { format!("`{name}`") };
            let message = format!("{whose} needs `{missing}`");
            let span = if name.is_empty() { owner } else { yaml.span };
            let label = format!("`{missing}` is missing");
            let finding = Finding::error(&rules::MISSING_SETTING, span, message, label);
            let about = properties.and_then(|all| all.get(missing)?.get("description")?.as_str());
            self.findings.push(match about {
                Some(about) => finding.help(format!("`{missing}`: {}", first_sentence(about))),
                None => finding,
            });
        }
    }

    /// The key is a name that its author chose: of a header, a user, a field.
    fn odd_name(&mut self, entry: &Entry, name: &str) {
        let Some(odd) = entry.key.chars().find(|c| is_odd(*c)) else { return };
        let message = format!("a name in {} holds {}", self.title(name), character(odd));
        let label = "expected a name of one line without control characters";
        self.findings.push(Finding::error(&rules::SETTING_TYPE, entry.key_span, message, label));
    }

    fn empty(&mut self, entry: &Entry, name: &str) {
        let message = format!("{} has no value", self.title(name));
        let label = "as if it were not there";
        let finding = Finding::warning(&rules::EMPTY_SETTING, entry.key_span, message, label);
        self.findings.push(finding.help("a value that begins with `#` needs quotes"));
    }

    /// The old name of a setting still works, until the new one stands beside it.
    fn old_name(&mut self, entry: &Entry, new: Option<&Entry>, now: &str) {
        let message = format!("`{}` is now called `{now}`", entry.key);
        self.findings.push(match new {
            Some(new) => {
                Finding::error(&rules::DUPLICATE_KEY, entry.key_span, message, "the old name")
                    .context(new.key_span, "the new one stands here too")
            }
            None => Finding::warning(&rules::DEPRECATED_NAME, entry.key_span, message, "").edit(
                "the new name",
                entry.key_span,
                now,
            ),
        });
    }

    /// Reports a setting that has the name of another program.
    fn borrowed(
        &mut self,
        entry: &Entry,
        entries: &[Entry],
        properties: Option<&Map<String, Value>>,
        name: &str,
    ) -> bool {
        let Some(properties) = properties else { return false };
        let borrowed = self.borrow(entry, entries, properties, name);
        let Some(finding) = borrowed.finding() else { return false };
        let may_be_secret = |ours: &str| match ours {
            "url" => !borrowed.is_plain_address(),
            ours => holds_secrets(&properties[ours]),
        };
        if borrowed.meant().is_some_and(may_be_secret) {
            self.secrets.push(Hidden { span: entry.value.span, secret_in_clear: None });
        }
        self.findings.push(finding);
        true
    }

    fn borrow<'b>(
        &self,
        entry: &'b Entry,
        entries: &'b [Entry],
        properties: &'b Map<String, Value>,
        name: &str,
    ) -> Borrowed<'b> {
        let whose = if name.is_empty() { self.subject.to_owned() } else { format!("`{name}`") };
        Borrowed { whose, entry, entries, properties, problems }
    }

    /// Hides what has the name of a secret in a map or list that no schema describes.
    fn hide_named_secrets(&mut self, value: &Yaml) {
        for entry in value.entries().into_iter().flatten() {
            match names_secret(&entry.key) {
                true => self.secrets.push(Hidden { span: entry.value.span, secret_in_clear: None }),
                false => self.hide_named_secrets(&entry.value),
            }
        }
        if let Content::List(items) = &value.content {
            items.iter().for_each(|item| self.hide_named_secrets(item));
        }
    }

    fn unknown_setting(
        &mut self,
        entry: &Entry,
        entries: &[Entry],
        properties: Option<&Map<String, Value>>,
        name: &str,
    ) {
        let known: Vec<&str> =
            properties.into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
        let meant = nearest(&entry.key, known.iter().copied());
        let meant = meant.and_then(|meant| properties?.get(meant));
        let is_plain = || {
            properties.is_some_and(|all| {
                let is_url = meant.is_some_and(is_url);
                is_url && self.borrow(entry, entries, all, name).is_plain_address()
            })
        };
        if names_secret(&entry.key) || meant.is_some_and(holds_secrets) && !is_plain() {
            self.secrets.push(Hidden { span: entry.value.span, secret_in_clear: None });
        }
        self.hide_named_secrets(&entry.value);
        if self.borrowed(entry, entries, properties, name) {
            return;
        }
        let whose = if name.is_empty() { self.subject.to_owned() } else { format!("`{name}`") };
        let message = format!("{whose} has no setting `{}`", entry.key);
        let finding = Finding::error(&rules::UNKNOWN_SETTING, entry.key_span, message, "");
        let unused = known.iter().copied().filter(|known| entries.iter().all(|e| e.key != **known));
        let finding = match nearest(&entry.key, unused) {
            Some(near) => match properties {
                Some(all) => self.borrow(entry, entries, all, name).misspelt(near),
                None => finding,
            },
            None if known.is_empty() => finding.help("it takes no settings"),
            None if entry.key.bytes().all(|byte| byte.is_ascii_digit()) => {
                finding.help("a `,` separates settings; the decimal point of a number is `.`")
            }
            None => finding.help(format!("settings here are {}", list(&known))),
        };
        self.findings.push(finding);
    }

    fn array(&mut self, yaml: &Yaml, schema: &'a Value, name: &str) {
        let Content::List(items) = &yaml.content else { return };
        if let Some(least) = schema
            .get("minItems")
            .and_then(Value::as_u64)
            .filter(|least| (items.len() as u64) < *least)
        {
            let message = format!("{} has too few entries", self.title(name));
            let label = format!("expected at least {least}, found {}", items.len());
            self.findings.push(Finding::error(&rules::SETTING_TYPE, yaml.span, message, label));
        }
        if let Some(most) =
            schema.get("maxItems").and_then(Value::as_u64).filter(|most| items.len() as u64 > *most)
        {
            let message = format!("{} has too many entries", self.title(name));
            let label = format!("expected at most {most}, found {}", items.len());
            self.findings.push(Finding::error(&rules::SETTING_TYPE, yaml.span, message, label));
        }
        if let Some(each) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(item, each, &format!("{name}[{index}]"), item.span);
            }
        }
    }

    fn number(&mut self, yaml: &Yaml, schema: &'a Value, name: &str) {
        let Some(number) = yaml.scalar().map(|scalar| scalar.unquoted_meaning()).and_then(
            |meaning| match meaning {
                Meaning::Int(number) => Some(number as f64),
                Meaning::Float(number) => Some(number),
                _ => None,
            },
        ) else {
            return;
        };
        let Some(expected) = out_of_range(schema, number) else { return };
        let message = format!("{} is out of range", self.title(name));
        let label = format!("{expected}, found {}", yaml.describe());
        let mut finding = Finding::error(&rules::SETTING_TYPE, yaml.span, message, label);
        // What editors show in place of their own words.
        finding.note = schema.get("errorMessage").and_then(Value::as_str).map(str::to_owned);
        self.findings.push(finding);
    }

    fn string(&mut self, yaml: &Yaml, schema: &'a Value, name: &str) {
        let Some(scalar) = yaml.scalar() else { return };
        let Some(text) = scalar.as_text() else { return };
        if scalar.template.is_none() {
            self.secrets.extend(secrets_of_url(yaml, text, schema, name));
        }
        if text.is_empty() && needs_text(schema, name) {
            let message = format!("{} is empty", self.title(name));
            let label = "expected a text that is not empty";
            return self.findings.push(self.text_problem(yaml, message, label));
        }
        if let Some(odd) = text.chars().find(|c| is_odd(*c)).filter(|_| is_of_one_line(schema)) {
            return self.findings.push(self.odd_character(yaml, scalar, odd, name));
        }
        let form = form_of(schema);
        let Some(expected) = form.and_then(|form| (form.in_place_of)(text)) else { return };
        let mut finding = self.cannot_be_read(yaml, name, &expected);
        // What came out of a variable is not offered back, for it may be secret.
        if let Some(meant) = form.and_then(|form| (form.meant)(text))
            && scalar.template.is_none()
        {
            finding = finding.edit("this would be right", yaml.span, meant);
        }
        self.findings.push(finding);
    }

    /// What is wrong with a text that may be secret.
    fn text_problem(&self, yaml: &Yaml, message: String, expected: &str) -> Finding {
        let label = match yaml.scalar().and_then(|scalar| scalar.template.as_ref()) {
            Some(_) => format!("{expected}, found {}", yaml.describe()),
            None => expected.to_owned(),
        };
        Finding::error(&rules::SETTING_TYPE, yaml.span, message, label)
    }

    fn odd_character(&self, yaml: &Yaml, scalar: &Scalar, odd: char, name: &str) -> Finding {
        let message = format!("{} holds {}", self.title(name), character(odd));
        let expected = match odd {
            '\n' | '\r' => "expected text of one line",
            _ => "expected text without control characters",
        };
        let finding = self.text_problem(yaml, message, expected);
        match (scalar.style, scalar.text.trim_end().contains(is_odd)) {
            (Style::Literal | Style::Folded, false) => finding.help(
                "a text below `|` or `>` ends in a line break: write it behind the key, or `|-`",
            ),
            _ => finding,
        }
    }

    /// A value that is sent as it stands here. JSON does not have all numbers that YAML has.
    fn anything(&mut self, yaml: &Yaml, name: &str) {
        match &yaml.content {
            Content::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.anything(item, &format!("{name}[{index}]"));
                }
            }
            Content::Map(entries) => {
                for entry in entries {
                    self.anything(&entry.value, &format!("{name}.{}", entry.key));
                }
            }
            Content::Scalar(scalar) => {
                let expected = match scalar.meaning() {
                    Meaning::Float(number) if number.is_nan() => "JSON has no such number",
                    Meaning::Float(number) if number.is_infinite() => match scalar.text.as_str() {
                        text if text.ends_with(|c: char| c.is_ascii_digit()) => {
                            "expected less than 1.8e308"
                        }
                        _ => "JSON has no such number",
                    },
                    // A whole number of so many digits would be rounded.
                    Meaning::Float(_) if is_whole(&scalar.text) => {
                        "expected at most 18446744073709551615"
                    }
                    Meaning::Int(number) if number < i64::MIN.into() => {
                        "expected at least -9223372036854775808"
                    }
                    _ => return,
                };
                let message = format!("{} cannot be sent as a number", self.title(name));
                let finding =
                    |label| Finding::error(&rules::SETTING_TYPE, yaml.span, message, label);
                self.findings.push(match scalar.template {
                    Some(_) => finding(format!("{expected}; quotes make it text")),
                    None => {
                        let quoted = format!("\"{}\"", scalar.text);
                        finding(expected.to_owned()).edit("quotes make it text", yaml.span, quoted)
                    }
                });
            }
        }
    }

    fn cannot_be_read(&self, yaml: &Yaml, name: &str, expected: &str) -> Finding {
        let message = format!("{} cannot be read", self.title(name));
        let label = format!("{expected}, found {}", yaml.describe());
        Finding::error(&rules::SETTING_TYPE, yaml.span, message, label)
    }

    fn wrong_type(&mut self, yaml: &Yaml, kinds: &[&str], schema: &Value, name: &str) {
        let expected: Vec<&str> =
            kinds.iter().filter(|kind| **kind != "null").map(|kind| noun(kind)).collect();
        if holds_secrets(schema) {
            // Whatever stands here is probably the secret.
            let message = format!("{} has the wrong type", self.title(name));
            let label = match is_hidden(schema) && yaml.scalar().is_some() {
                true => "expected text; quotes make it text".to_owned(),
                false => format!("expected {}", expected.join(" or ")),
            };
            self.secrets.push(Hidden { span: yaml.span, secret_in_clear: None });
            self.findings.push(Finding::error(&rules::SETTING_TYPE, yaml.span, message, label));
            return;
        }
        let meaning = yaml.scalar().map(|scalar| scalar.meaning());
        // `every: 5` and `max_bytes: 4096` lack a unit, nothing else.
        if let Some(Meaning::Int(_) | Meaning::Float(_)) = meaning
            && let Some(expected) = form_of(schema).and_then(|form| form.in_place_of_a_number)
        {
            return self.findings.push(self.cannot_be_read(yaml, name, expected));
        }
        let message = format!("{} has the wrong type", self.title(name));
        let label = format!("expected {}, found {}", expected.join(" or "), yaml.describe());
        let finding = Finding::error(&rules::SETTING_TYPE, yaml.span, message, label);
        if yaml.scalar().is_some_and(|scalar| scalar.template.is_some()) {
            // What came out of a variable is not offered back, for it may be secret.
            return self.findings.push(finding);
        }
        let finding = match (expected.as_slice(), meaning) {
            (["text"], Some(Meaning::Bool(_) | Meaning::Int(_) | Meaning::Float(_))) => {
                let written = yaml.scalar().map(|scalar| scalar.text.as_str()).unwrap_or_default();
                finding.edit("quotes make it text", yaml.span, format!("\"{written}\""))
            }
            (["`true` or `false`"], Some(Meaning::Text(word))) => {
                match word.to_lowercase().as_str() {
                    "yes" | "on" | "y" => {
                        finding.edit("YAML 1.2 knows two words", yaml.span, "true")
                    }
                    "no" | "off" | "n" => {
                        finding.edit("YAML 1.2 knows two words", yaml.span, "false")
                    }
                    word @ ("true" | "false") => {
                        finding.edit("it stands without quotes", yaml.span, word)
                    }
                    _ => finding,
                }
            }
            (["a whole number"] | ["a number"], Some(Meaning::Text(text)))
                if can_stand_there(schema, text) =>
            {
                finding.edit("numbers stand without quotes", yaml.span, text.to_owned())
            }
            (["a whole number"], Some(Meaning::Text(text)))
                if is_hexadecimal(text) && !text.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                let number = format!("0x{}", text.trim_end_matches(['h', 'H']));
                finding.edit("a hexadecimal number begins with `0x`", yaml.span, number)
            }
            (["a whole number"] | ["a number"], Some(Meaning::Text(text)))
                if text.trim_end_matches([';', ',']).parse::<f64>().is_ok()
                    && text.ends_with([';', ',']) =>
            {
                let number = text.trim_end_matches([';', ',']).to_owned();
                finding.edit("the line ends with the number", yaml.span, number)
            }
            // A list of one is written as a list too.
            (["a list"], Some(Meaning::Text(text))) if is_simple(text) => {
                finding.edit("brackets make it a list", yaml.span, format!("[\"{text}\"]"))
            }
            (["a list"], None) => finding.help("each entry of a list begins with `- `"),
            (["a map"], _) => match known(schema).as_slice() {
                [] => finding,
                known => finding.help(format!("settings here are {}", list(known))),
            },
            _ => finding,
        };
        self.findings.push(finding);
    }

    fn title(&self, name: &str) -> String {
        match name {
            "" => self.subject.to_owned(),
            _ => format!("`{name}`"),
        }
    }
}

/// The setting that once had this name. Said in a settings struct by
/// `#[serde(alias = "old")] #[schemars(extend("x-forebay-was" = ["old"]))]`.
fn now_called<'a>(properties: &'a Map<String, Value>, old: &str) -> Option<(&'a str, &'a Value)> {
    let had = |schema: &Value| {
        let names = schema.get("x-forebay-was").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|name| name == old))
    };
    properties.iter().find(|(_, schema)| had(schema)).map(|(now, schema)| (now.as_str(), schema))
}

/// The names of the settings of a map.
fn known(schema: &Value) -> Vec<&str> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(|map| map.keys()).map(String::as_str).collect()
}

/// Whether nothing at all stands behind the key. `null` and `~` are written on purpose.
fn is_left_empty(yaml: &Yaml) -> bool {
    yaml.is_null() && yaml.span.start == yaml.span.end
}

/// `1A` and `34h`.
fn is_hexadecimal(text: &str) -> bool {
    let digits = text.trim_end_matches(['h', 'H']);
    text.starts_with(|c: char| c.is_ascii_digit())
        && digits.len() <= 8
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a number is written in digits alone.
fn is_whole(number: &str) -> bool {
    number.trim_start_matches(['-', '+']).bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text of one line needs no care when it is put in double quotes.
fn is_simple(text: &str) -> bool {
    !text.is_empty() && !text.contains(['"', '\\', '$']) && !text.chars().any(char::is_control)
}

/// Whether nothing can be done with a text that is empty.
fn needs_text(schema: &Value, name: &str) -> bool {
    match schema.get("format").and_then(Value::as_str) {
        Some(form::SECRET | form::PEM | form::PASSWORD) => true,
        Some(form::HIDDEN) => sounds_secret(name),
        _ => schema.get("minLength").is_some(),
    }
}

/// Whether a text stands in a message, a request or a path, which breaks off at a line break.
fn is_of_one_line(schema: &Value) -> bool {
    let format = schema.get("format").and_then(Value::as_str);
    matches!(format, None | Some(form::SECRET | form::HIDDEN | form::PASSWORD | form::URL))
}

/// A character that does not show. None of them can be in a topic, a header or a name.
fn is_odd(c: char) -> bool {
    c.is_control() || c == '\u{feff}'
}

/// A character that does not show, in words.
fn character(c: char) -> String {
    match c {
        '\n' => "a line break".to_owned(),
        '\r' => "a carriage return".to_owned(),
        '\t' => "a tab".to_owned(),
        '\0' => "a zero byte".to_owned(),
        '\u{feff}' => "a byte order mark".to_owned(),
        other => format!("the control character U+{:04X}", u32::from(other)),
    }
}

/// None when a variable stands here in place of the text.
fn hidden(yaml: &Yaml, schema: &Value, name: &str) -> Option<Hidden> {
    let Some(scalar) = yaml.scalar() else {
        // Whatever stands here is probably the secret.
        return Some(Hidden { span: yaml.span, secret_in_clear: None });
    };
    if scalar.template.as_ref().is_some_and(|template| is_of_variables(template)) {
        return None;
    }
    let is_secret = scalar.template.is_none()
        && !scalar.text.is_empty()
        && match schema.get("format").and_then(Value::as_str) {
            Some(form::HIDDEN) => sounds_secret(name),
            Some(form::PEM) => scalar.text.contains("PRIVATE KEY"),
            Some(form::PASSWORD) => !is_digest(&scalar.text),
            _ => true,
        };
    Some(Hidden { span: yaml.span, secret_in_clear: is_secret.then(|| name.to_owned()) })
}

/// User and password of a url, its path when it is the address of a service, and what its query calls
/// a token or key.
fn secrets_of_url(yaml: &Yaml, url: &str, schema: &Value, name: &str) -> Vec<Hidden> {
    if !is_url(schema) && !url.contains("://") {
        return Vec::new();
    }
    // Where the text is not as it was written, all of it is hidden.
    let written = yaml.span.range();
    let quote = written.len().saturating_sub(url.len()) / 2;
    let is_as_written = written.len() == url.len() + 2 * quote && quote < 2;
    let span = |place: Range<usize>| match is_as_written {
        true => {
            let start = written.start + quote + place.start;
            Span::new(yaml.span.file, start..start + place.len())
        }
        false => yaml.span,
    };
    let part = if is_url(schema) { Part::Path } else { Part::User };
    let mut found: Vec<Hidden> = places_in_url(url, part)
        .into_iter()
        .map(|place| Hidden { span: span(place), secret_in_clear: None })
        .collect();
    let Some((address, query)) = url.split_once('?') else { return found };
    let mut at = address.len() + 1;
    for pair in query.split('&') {
        if let Some((key, value)) = pair.split_once('=')
            && sounds_secret(key)
            && !value.is_empty()
        {
            let start = at + key.len() + 1;
            let secret_in_clear = Some(format!("{name}.{key}"));
            found.push(Hidden { span: span(start..start + value.len()), secret_in_clear });
        }
        at += pair.len() + 1;
    }
    found
}

/// By such names people call what lets somebody in.
fn sounds_secret(name: &str) -> bool {
    const WORDS: [&str; 6] = ["authorization", "cookie", "key", "passw", "secret", "token"];
    let name = name.to_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// Whether a value is of a JSON type. What came out of a variable is text where text is wanted.
fn fits(yaml: &Yaml, kind: &str) -> bool {
    match (&yaml.content, kind) {
        (Content::Map(_), "object") | (Content::List(_), "array") => true,
        (Content::Scalar(scalar), "string") => scalar.as_text().is_some(),
        (Content::Scalar(scalar), _) => matches!(
            (scalar.unquoted_meaning(), kind),
            (Meaning::Null, "null")
                | (Meaning::Bool(_), "boolean")
                | (Meaning::Int(_), "integer" | "number")
                | (Meaning::Float(_), "number")
        ),
        _ => false,
    }
}

fn noun(kind: &str) -> &str {
    match kind {
        "object" => "a map",
        "array" => "a list",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "string" => "text",
        other => other,
    }
}

/// What would be right in place of a number that the schema does not allow.
fn out_of_range(schema: &Value, number: f64) -> Option<String> {
    if !number.is_finite() {
        return Some("expected a finite number".to_owned());
    }
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let width = schema.get("format").and_then(Value::as_str).and_then(width);
    let least = bound("minimum").or(width.map(|(least, _)| least));
    let most = bound("maximum").or(width.map(|(_, most)| most));
    let above = bound("exclusiveMinimum");
    let fits = least.is_none_or(|least| number >= least)
        && most.is_none_or(|most| number <= most)
        && above.is_none_or(|above| number > above);
    (!fits).then(|| match (least, most, above) {
        (_, _, Some(above)) => format!("expected more than {above}"),
        // The bounds of a wide type say nothing to a person.
        (Some(least), Some(most), _) if most < 1e12 => format!("expected {least} to {most}"),
        (Some(least), _, _) if number < least => format!("expected at least {least}"),
        (_, Some(most), _) => format!("expected at most {most}"),
        _ => "out of range".to_owned(),
    })
}

/// Whether a text in quotes would be right without them, where a number is wanted.
fn can_stand_there(schema: &Value, text: &str) -> bool {
    let types = schema.get("type").map(Value::to_string).unwrap_or_default();
    match plain_meaning(text) {
        Meaning::Int(number) => out_of_range(schema, number as f64).is_none(),
        Meaning::Float(number) => {
            types.contains("number") && out_of_range(schema, number).is_none()
        }
        _ => false,
    }
}

/// The range of Rust's integers that schemars names and gives no bounds for.
fn width(format: &str) -> Option<(f64, f64)> {
    match format {
        "uint8" => Some((0.0, u8::MAX.into())),
        "uint16" => Some((0.0, u16::MAX.into())),
        "uint32" => Some((0.0, u32::MAX.into())),
        "int8" => Some((i8::MIN.into(), i8::MAX.into())),
        "int16" => Some((i16::MIN.into(), i16::MAX.into())),
        "int32" => Some((i32::MIN.into(), i32::MAX.into())),
        "uint64" | "uint" => Some((0.0, u64::MAX as f64)),
        "int64" | "int" => Some((i64::MIN as f64, i64::MAX as f64)),
        _ => None,
    }
}

fn list(words: &[&str]) -> String {
    const MOST: usize = 12;
    let mut quoted: Vec<String> = words.iter().take(MOST).map(|word| format!("`{word}`")).collect();
    if words.len() > MOST {
        quoted.push("…".to_owned());
    }
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [front @ .., last] => format!("{} or {last}", front.join(", ")),
    }
}

fn first_sentence(text: &str) -> String {
    let end = text.find(". ").or(text.find(".\n")).map_or(text.len(), |end| end + 1);
    text[..end].split_whitespace().collect::<Vec<_>>().join(" ")
}
