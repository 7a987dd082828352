//! JSON Schema, as far as it says something about one payload: the keywords of 2020-12 that need no other file.

use std::{collections::BTreeMap, sync::Arc};

use forebay_sdk::{Problem, Value, finding::nearest, payload::kind};
use regex_lite::Regex;
use serde_json::{Map, Number};

/// How deep a schema may refer to itself for one value. A value has no more levels.
const MOST_LEVELS: usize = 128;
/// The most misfits that are looked for.
const MOST_MISFITS: usize = 100;
/// Larger lists are not compared item by item.
const MOST_UNIQUE: usize = 10_000;
/// The most values that are compared with schemas for one message: `anyOf` within `anyOf` would take without end.
const MOST_CHECKS: usize = 1_000_000;

/// What says something about a value.
const CHECKED: [&str; 33] = [
    "type",
    "enum",
    "const",
    "properties",
    "patternProperties",
    "additionalProperties",
    "required",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "dependentRequired",
    "items",
    "prefixItems",
    "contains",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "$ref",
];
/// What only says something to people and programs.
const NOTES: [&str; 14] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "$vocabulary",
];

/// A schema that was understood.
#[derive(Clone)]
pub(crate) struct Schema {
    root: Arc<Check>,
    /// What `$ref` can name, by its pointer.
    defined: Arc<BTreeMap<String, Arc<Check>>>,
}

/// One schema among others.
#[derive(Default)]
struct Check {
    /// False fits nothing, true everything.
    never: bool,
    reference: Option<String>,
    types: Vec<&'static str>,
    choices: Option<Vec<Value>>,
    properties: Vec<(String, Arc<Check>)>,
    patterns: Vec<(Regex, Arc<Check>)>,
    others: Option<Arc<Check>>,
    names: Option<Arc<Check>>,
    required: Vec<String>,
    together: Vec<(String, Vec<String>)>,
    prefix: Vec<Arc<Check>>,
    items: Option<Arc<Check>>,
    contains: Option<Arc<Check>>,
    are_unique: bool,
    /// How many members, items and characters there are.
    members: Between,
    length: Between,
    characters: Between,
    minimum: Option<Number>,
    maximum: Option<Number>,
    above: Option<Number>,
    below: Option<Number>,
    multiple_of: Option<f64>,
    pattern: Option<Regex>,
    all: Vec<Arc<Check>>,
    any: Vec<Arc<Check>>,
    one: Vec<Arc<Check>>,
    not: Option<Arc<Check>>,
    condition: Option<[Option<Arc<Check>>; 3]>,
}

#[derive(Default)]
struct Between {
    least: Option<u64>,
    most: Option<u64>,
}

const TYPES: [(&str, &str); 7] = [
    ("null", "null"),
    ("boolean", "true or false"),
    ("integer", "a whole number"),
    ("number", "a number"),
    ("string", "a text"),
    ("array", "a list"),
    ("object", "a map"),
];

impl Schema {
    /// Reads a schema, and reports what is wrong with it.
    pub(crate) fn resolve(schema: Value, problems: &mut Vec<Problem>) -> Option<Schema> {
        let before = problems.len();
        let mut reading = Reading { problems, named: Vec::new() };
        let root = reading.check(&schema, "schema");
        let named = reading.named;
        let mut defined = BTreeMap::from([("#".to_owned(), Arc::clone(&root))]);
        let mut open: Vec<(String, String)> = named;
        while let Some((pointer, setting)) = open.pop() {
            if defined.contains_key(&pointer) {
                continue;
            }
            let found = pointer.strip_prefix('#').and_then(|path| schema.pointer(path));
            let Some(found) = found else {
                let message = format!("`$ref` names `{pointer}`, which is not in the schema");
                let label = "expected a place in it, such as `#/$defs/reading`";
                problems.push(Problem::new(setting, message, label));
                continue;
            };
            let place = pointer.replace("#/", "schema.").replace('/', ".");
            // What is wrong there was said when its place was read.
            let mut said = Vec::new();
            let mut reading = Reading { problems: &mut said, named: Vec::new() };
            let check = reading.check(found, &place);
            open.extend(reading.named);
            defined.insert(pointer, check);
        }
        (problems.len() == before).then(|| Schema { root, defined: Arc::new(defined) })
    }

    /// In what a value does not fit, each with its place. `name` is what the value is called.
    pub(crate) fn misfits(&self, value: &Value, name: &str) -> Vec<String> {
        let mut compared = Compared { schema: self, checks: 0, misfits: Vec::new() };
        let place = if name == "." { String::new() } else { name.to_owned() };
        compared.check(&self.root, value, &place, 0);
        if compared.checks > MOST_CHECKS {
            return vec![format!("it takes more than {MOST_CHECKS} checks")];
        }
        compared.misfits
    }
}

/// Reads a schema.
struct Reading<'a> {
    problems: &'a mut Vec<Problem>,
    /// What `$ref` names, and the setting that does.
    named: Vec<(String, String)>,
}

impl Reading<'_> {
    fn problem(&mut self, setting: String, message: String, label: &str) {
        self.problems.push(Problem::new(setting, message, label));
    }

    fn check(&mut self, schema: &Value, setting: &str) -> Arc<Check> {
        let map = match schema {
            Value::Object(map) => map,
            Value::Bool(fits) => return Arc::new(Check { never: !fits, ..Check::default() }),
            other => {
                let message = format!("`{setting}` is no schema");
                self.problem(
                    setting.to_owned(),
                    message,
                    &format!("expected a map, found {}", kind(other)),
                );
                return Arc::default();
            }
        };
        self.unknown_keywords(map, setting);
        for definitions in ["$defs", "definitions"] {
            for (name, schema) in
                map.get(definitions).and_then(Value::as_object).into_iter().flatten()
            {
                self.check(schema, &format!("{setting}.{definitions}.{name}"));
            }
        }
        let reference = self.text(map, "$ref", setting);
        if let Some(pointer) = &reference {
            self.named.push((pointer.clone(), format!("{setting}.$ref")));
        }
        let mut number = |name: &str| self.number(map, name, setting);
        let (minimum, maximum) = (number("minimum"), number("maximum"));
        let (above, below) = (number("exclusiveMinimum"), number("exclusiveMaximum"));
        let multiple_of = number("multipleOf").and_then(|number| number.as_f64());
        if multiple_of.is_some_and(|of| of <= 0.0) {
            let message = "`multipleOf` is no number above 0".to_owned();
            self.problem(format!("{setting}.multipleOf"), message, "expected one such as 0.5");
        }
        Arc::new(Check {
            never: false,
            reference,
            types: self.types(map, setting),
            choices: self.choices(map, setting),
            properties: self.named_checks(map, "properties", setting),
            patterns: self.patterns(map, setting),
            others: self.one(map, "additionalProperties", setting),
            names: self.one(map, "propertyNames", setting),
            required: self.texts(map.get("required"), &format!("{setting}.required")),
            together: self.together(map, setting),
            prefix: self.several(map, "prefixItems", setting),
            items: self.one(map, "items", setting),
            contains: self.one(map, "contains", setting),
            are_unique: map.get("uniqueItems") == Some(&Value::Bool(true)),
            members: self.between(map, "minProperties", "maxProperties", setting),
            length: self.between(map, "minItems", "maxItems", setting),
            characters: self.between(map, "minLength", "maxLength", setting),
            minimum,
            maximum,
            above,
            below,
            multiple_of,
            pattern: self
                .text(map, "pattern", setting)
                .and_then(|text| self.regex(&text, format!("{setting}.pattern"))),
            all: self.several(map, "allOf", setting),
            any: self.several(map, "anyOf", setting),
            one: self.several(map, "oneOf", setting),
            not: self.one(map, "not", setting),
            condition: map
                .contains_key("if")
                .then(|| ["if", "then", "else"].map(|keyword| self.one(map, keyword, setting))),
        })
    }

    fn unknown_keywords(&mut self, map: &Map<String, Value>, setting: &str) {
        let known = || CHECKED.into_iter().chain(NOTES);
        for name in map.keys().filter(|name| !known().any(|known| known == *name)) {
            // A note of somebody's own, as the standard wants it.
            if name.starts_with("x-") {
                continue;
            }
            let message = format!("`{name}` is no keyword that is checked here");
            let near = nearest(name, known());
            let place = format!("{setting}.{name}");
            let problem = match near {
                Some(near) => Problem::new(place, message, format!("did you mean `{near}`?")),
                None => Problem::new(place, message, "the README of `validate` has the list"),
            };
            self.problems.push(problem);
        }
    }

    fn wrong(&mut self, setting: &str, name: &str, expected: &str, found: &Value) {
        let message = format!("`{name}` is {}", kind(found));
        self.problem(format!("{setting}.{name}"), message, &format!("expected {expected}"));
    }

    fn text(&mut self, map: &Map<String, Value>, name: &str, setting: &str) -> Option<String> {
        match map.get(name)? {
            Value::String(text) => Some(text.clone()),
            other => {
                self.wrong(setting, name, "a text", other);
                None
            }
        }
    }

    fn number(&mut self, map: &Map<String, Value>, name: &str, setting: &str) -> Option<Number> {
        match map.get(name)? {
            Value::Number(number) => Some(number.clone()),
            other => {
                self.wrong(setting, name, "a number", other);
                None
            }
        }
    }

    fn between(
        &mut self,
        map: &Map<String, Value>,
        least: &str,
        most: &str,
        setting: &str,
    ) -> Between {
        let mut count = |name: &str| match map.get(name)? {
            Value::Number(number) if number.as_u64().is_some() => number.as_u64(),
            other => {
                self.wrong(setting, name, "a whole number", other);
                None
            }
        };
        Between { least: count(least), most: count(most) }
    }

    fn texts(&mut self, value: Option<&Value>, setting: &str) -> Vec<String> {
        let Some(value) = value else { return Vec::new() };
        let text = |item: &Value| item.as_str().map(str::to_owned);
        let texts = value.as_array().and_then(|items| items.iter().map(text).collect());
        texts.unwrap_or_else(|| {
            let message = "it is no list of names".to_owned();
            self.problem(setting.to_owned(), message, "expected one such as `[power, energy]`");
            Vec::new()
        })
    }

    fn types(&mut self, map: &Map<String, Value>, setting: &str) -> Vec<&'static str> {
        let Some(value) = map.get("type") else { return Vec::new() };
        let names = match value {
            Value::String(name) => vec![name.clone()],
            other => self.texts(Some(other), &format!("{setting}.type")),
        };
        let known = |name: &String| {
            let found = TYPES.iter().find(|(known, _)| known == name);
            match found {
                Some((known, _)) => Some(*known),
                None => {
                    let label = "expected null, boolean, integer, number, string, array or object";
                    let message = format!("`type` is none: `{name}`");
                    self.problem(format!("{setting}.type"), message, label);
                    None
                }
            }
        };
        names.iter().filter_map(known).collect()
    }

    fn choices(&mut self, map: &Map<String, Value>, setting: &str) -> Option<Vec<Value>> {
        if let Some(value) = map.get("const") {
            return Some(vec![value.clone()]);
        }
        match map.get("enum")? {
            Value::Array(items) => Some(items.clone()),
            other => {
                self.wrong(setting, "enum", "a list of values", other);
                None
            }
        }
    }

    fn one(&mut self, map: &Map<String, Value>, name: &str, setting: &str) -> Option<Arc<Check>> {
        map.get(name).map(|schema| self.check(schema, &format!("{setting}.{name}")))
    }

    fn several(&mut self, map: &Map<String, Value>, name: &str, setting: &str) -> Vec<Arc<Check>> {
        match map.get(name) {
            None => Vec::new(),
            Some(Value::Array(items)) => {
                let items = items.iter().enumerate();
                items
                    .map(|(index, item)| self.check(item, &format!("{setting}.{name}[{index}]")))
                    .collect()
            }
            Some(other) => {
                self.wrong(setting, name, "a list of schemas", other);
                Vec::new()
            }
        }
    }

    fn named_checks(
        &mut self,
        map: &Map<String, Value>,
        name: &str,
        setting: &str,
    ) -> Vec<(String, Arc<Check>)> {
        match map.get(name) {
            None => Vec::new(),
            Some(Value::Object(members)) => {
                let members = members.iter();
                members
                    .map(|(key, schema)| {
                        (key.clone(), self.check(schema, &format!("{setting}.{name}.{key}")))
                    })
                    .collect()
            }
            Some(other) => {
                self.wrong(setting, name, "a map of schemas", other);
                Vec::new()
            }
        }
    }

    fn patterns(&mut self, map: &Map<String, Value>, setting: &str) -> Vec<(Regex, Arc<Check>)> {
        let named = self.named_checks(map, "patternProperties", setting);
        let pattern = |(text, check): (String, Arc<Check>)| {
            Some((self.regex(&text, format!("{setting}.patternProperties.{text}"))?, check))
        };
        named.into_iter().filter_map(pattern).collect()
    }

    fn together(&mut self, map: &Map<String, Value>, setting: &str) -> Vec<(String, Vec<String>)> {
        let setting = format!("{setting}.dependentRequired");
        let members = map.get("dependentRequired").and_then(Value::as_object);
        let members = members.into_iter().flatten();
        let texts = |(key, value): (&String, &Value)| {
            (key.clone(), self.texts(Some(value), &format!("{setting}.{key}")))
        };
        members.map(texts).collect()
    }

    fn regex(&mut self, text: &str, setting: String) -> Option<Regex> {
        match Regex::new(text) {
            Ok(regex) => Some(regex),
            Err(error) => {
                let message = "`pattern` is no regular expression".to_owned();
                self.problem(setting, message, &error.to_string());
                None
            }
        }
    }
}

/// Compares a value with a schema.
struct Compared<'a> {
    schema: &'a Schema,
    checks: usize,
    misfits: Vec<String>,
}

impl Compared<'_> {
    fn fits(&mut self, check: &Check, value: &Value, level: usize) -> bool {
        let before = std::mem::take(&mut self.misfits);
        self.check(check, value, "", level);
        std::mem::replace(&mut self.misfits, before).is_empty()
    }

    fn misfit(&mut self, place: &str, words: impl std::fmt::Display) {
        if self.misfits.len() < MOST_MISFITS {
            let subject = if place.is_empty() { "payload".into() } else { format!("`{place}`") };
            self.misfits.push(format!("{subject} {words}"));
        }
    }

    fn check(&mut self, check: &Check, value: &Value, place: &str, level: usize) {
        self.checks += 1;
        if self.checks > MOST_CHECKS {
            return;
        }
        if level > MOST_LEVELS {
            return self.misfit(place, "is compared with a schema that refers to itself");
        }
        if check.never {
            return self.misfit(place, "must not be there");
        }
        if let Some(pointer) = &check.reference
            && let Some(other) = self.schema.defined.get(pointer)
        {
            self.check(&Arc::clone(other), value, place, level + 1);
        }
        if !check.types.is_empty() && !check.types.iter().any(|name| is_of_type(value, name)) {
            let expected: Vec<&str> = TYPES
                .iter()
                .filter(|(name, _)| check.types.contains(name))
                .map(|(_, words)| *words)
                .collect();
            // Nothing else that is said of it would help.
            return self
                .misfit(place, format!("is {}; expected {}", shown(value), expected.join(" or ")));
        }
        if let Some(choices) = &check.choices
            && !choices.iter().any(|choice| is_same(choice, value))
        {
            let expected: Vec<String> = choices.iter().take(8).map(Value::to_string).collect();
            self.misfit(place, format!("is {}; expected {}", shown(value), expected.join(" or ")));
        }
        match value {
            Value::Number(number) => self.number(check, number, place),
            Value::String(text) => self.text(check, text, place),
            Value::Array(items) => self.items(check, items, place, level),
            Value::Object(members) => self.members(check, members, place, level),
            Value::Null | Value::Bool(_) => (),
        }
        self.combined(check, value, place, level);
    }

    fn number(&mut self, check: &Check, number: &Number, place: &str) {
        let expected =
            |words: &str, limit: &Number| format!("is {number}; expected {words} {limit}");
        let is = |limit: &Option<Number>, wrong: fn(std::cmp::Ordering) -> bool| {
            limit.clone().filter(|limit| compare(number, limit).is_some_and(wrong))
        };
        if let Some(limit) = is(&check.minimum, std::cmp::Ordering::is_lt) {
            self.misfit(place, expected("at least", &limit));
        }
        if let Some(limit) = is(&check.maximum, std::cmp::Ordering::is_gt) {
            self.misfit(place, expected("at most", &limit));
        }
        if let Some(limit) = is(&check.above, std::cmp::Ordering::is_le) {
            self.misfit(place, expected("more than", &limit));
        }
        if let Some(limit) = is(&check.below, std::cmp::Ordering::is_ge) {
            self.misfit(place, expected("less than", &limit));
        }
        if let (Some(of), Some(number)) = (check.multiple_of, number.as_f64()) {
            let times = number / of;
            // 0.3 is three times 0.1, which floats do not say.
            if (times - times.round()).abs() > 1e-9 * times.abs().max(1.0) {
                self.misfit(place, format!("is {number}; expected a multiple of {of}"));
            }
        }
    }

    fn text(&mut self, check: &Check, text: &str, place: &str) {
        let Between { least, most } = &check.characters;
        if least.is_some() || most.is_some() {
            self.count(&check.characters, text.chars().count(), "characters", place);
        }
        if let Some(pattern) = check.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            let value = shown(&Value::from(text));
            self.misfit(place, format!("is {value}; expected a text that fits `{pattern}`"));
        }
    }

    fn items(&mut self, check: &Check, items: &[Value], place: &str, level: usize) {
        self.count(&check.length, items.len(), "items", place);
        for (index, item) in items.iter().enumerate() {
            let of_place = check.prefix.get(index).or(check.items.as_ref());
            if let Some(one) = of_place {
                self.check(one, item, &format!("{place}[{index}]"), level + 1);
            }
        }
        if let Some(one) = &check.contains
            && !items.iter().any(|item| self.fits(one, item, level + 1))
        {
            self.misfit(place, "has no item of the kind that `contains` asks for");
        }
        if check.are_unique && items.len() <= MOST_UNIQUE {
            let twice = first_twice(items);
            if let Some((first, second)) = twice {
                self.misfit(place, format!("has the same at {first} and {second}"));
            }
        }
    }

    fn members(&mut self, check: &Check, members: &Map<String, Value>, place: &str, level: usize) {
        self.count(&check.members, members.len(), "members", place);
        let below = |name: &str| match place {
            "" => name.to_owned(),
            place => format!("{place}.{name}"),
        };
        for name in check.required.iter().filter(|name| !members.contains_key(*name)) {
            self.misfit(&below(name), "is missing");
        }
        for (name, others) in check.together.iter().filter(|(name, _)| members.contains_key(name)) {
            for other in others.iter().filter(|other| !members.contains_key(*other)) {
                self.misfit(&below(other), format!("is missing, which goes with `{name}`"));
            }
        }
        for (name, value) in members {
            let mut is_known = false;
            if let Some((_, one)) = check.properties.iter().find(|(known, _)| known == name) {
                is_known = true;
                self.check(one, value, &below(name), level + 1);
            }
            for (_, one) in check.patterns.iter().filter(|(pattern, _)| pattern.is_match(name)) {
                is_known = true;
                self.check(one, value, &below(name), level + 1);
            }
            match &check.others {
                Some(one) if !is_known && one.never => {
                    let known = check.properties.iter().map(|(known, _)| known.as_str());
                    match nearest(name, known) {
                        Some(near) => self
                            .misfit(&below(name), format!("is not known; did you mean `{near}`?")),
                        None => self.misfit(&below(name), "is not known"),
                    }
                }
                Some(one) if !is_known => self.check(one, value, &below(name), level + 1),
                _ => (),
            }
            if let Some(names) = &check.names
                && !self.fits(names, &Value::from(name.as_str()), level + 1)
            {
                self.misfit(&below(name), "has a name that does not fit");
            }
        }
    }

    fn combined(&mut self, check: &Check, value: &Value, place: &str, level: usize) {
        for one in &check.all {
            self.check(one, value, place, level + 1);
        }
        if !check.any.is_empty() && !check.any.iter().any(|one| self.fits(one, value, level + 1)) {
            self.misfit(place, "fits none of `anyOf`");
        }
        if !check.one.is_empty() {
            let count = check.one.iter().filter(|one| self.fits(one, value, level + 1)).count();
            if count != 1 {
                self.misfit(place, format!("fits {count} of `oneOf`; expected one"));
            }
        }
        if let Some(one) = &check.not
            && self.fits(one, value, level + 1)
        {
            self.misfit(place, "fits what stands in `not`");
        }
        if let Some([Some(condition), then, otherwise]) = &check.condition {
            let branch = if self.fits(condition, value, level + 1) { then } else { otherwise };
            if let Some(one) = branch {
                self.check(one, value, place, level + 1);
            }
        }
    }

    fn count(&mut self, between: &Between, count: usize, what: &str, place: &str) {
        let count = count as u64;
        if let Some(least) = between.least.filter(|least| count < *least) {
            self.misfit(place, format!("has {count} {what}; expected at least {least}"));
        }
        if let Some(most) = between.most.filter(|most| count > *most) {
            self.misfit(place, format!("has {count} {what}; expected at most {most}"));
        }
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match (name, value) {
        ("null", Value::Null)
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_))
        | ("string", Value::String(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_)) => true,
        // 1.0 is a whole number, says the standard.
        ("integer", Value::Number(number)) => {
            !number.is_f64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        _ => false,
    }
}

fn compare(left: &Number, right: &Number) -> Option<std::cmp::Ordering> {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// Whether they are the same to JSON Schema, to which 1.0 is 1.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            compare(left, right).is_some_and(std::cmp::Ordering::is_eq)
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| is_same(l, r))
        }
        (Value::Object(left), Value::Object(right)) => {
            let same = |(name, value): (&String, &Value)| {
                right.get(name).is_some_and(|other| is_same(value, other))
            };
            left.len() == right.len() && left.iter().all(same)
        }
        _ => left == right,
    }
}

/// The places of two items that are the same.
fn first_twice(items: &[Value]) -> Option<(usize, usize)> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    items.iter().enumerate().find_map(|(index, item)| {
        let key = canonical(item);
        seen.insert(key, index).map(|first| (first, index))
    })
}

/// The same text for what is the same.
fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 => format!("{float:.0}"),
            _ => number.to_string(),
        },
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        Value::Object(members) => {
            let sorted: BTreeMap<&String, String> =
                members.iter().map(|(name, value)| (name, canonical(value))).collect();
            format!("{sorted:?}")
        }
        other => other.to_string(),
    }
}

/// A value for an error, as long as it is short.
fn shown(value: &Value) -> String {
    const MOST_SHOWN: usize = 60;
    match value {
        Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
        other => {
            let text = other.to_string();
            match text.chars().count() {
                0..=MOST_SHOWN => text,
                _ => text.chars().take(MOST_SHOWN).chain("…".chars()).collect(),
            }
        }
    }
}
