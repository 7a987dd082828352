//! A plugin for tests: types that do nothing, and things that stand for several of them.

use std::{any::Any, borrow::Cow, time::Duration};

use forebay_sdk::{
    Busy, Capabilities, Claim, Configured, Expanded, Expansion, FieldRead, Fields, Finding, Native,
    Node, Period, Plugin, Problem, Role, Rule, Sends, Settings, Site, Span, schema_of,
};
use forebay_yaml::{Content, Entry, Scalar, Style, Yaml};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// A rule of the plugin's own.
pub(crate) static TOO_QUIET: Rule =
    Rule::new("too-quiet", "# too-quiet\n\nLevel: warning\n\nA beat says nothing.\n");

pub(crate) fn plugin() -> Plugin {
    Plugin::new("example", "")
        .offers(Native::<Line>::new(Role::Connection, "line", "Joins."))
        .offers(Native::<Beat>::new(Role::Source, "beat", "Beats."))
        .offers(Native::<Tap>::new(Role::Source, "tap", "Listens.").using(&["line"]))
        .offers(Native::<Pass>::new(Role::Transform, "pass", "Passes on."))
        .offers(Native::<End>::new(Role::Sink, "end", "Takes."))
        .offers(Native::<Command>::new(Role::Sink, "command", "Asks.").using(&["line"]))
        .expands(Pairs)
        .expands(Chains)
        .rules(&[&TOO_QUIET])
}

/// What nodes share.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Only one can have it.
    #[serde(default)]
    id: Option<String>,
    /// Works for others too.
    #[serde(default)]
    serves: bool,
}

impl Settings for Line {
    fn resolve(self, _: &mut Vec<Problem>) -> Option<impl Configured> {
        Some(self)
    }
}

impl Configured for Line {
    fn build(&self, _: Site) -> Node {
        unreachable!("nothing runs here")
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { serves: self.serves, ..Capabilities::default() }
    }
    fn claims(&self) -> Vec<Claim> {
        self.id.iter().map(|id| Claim::named(format!("id `{id}`"), "id")).collect()
    }
    /// Those that listen to the same thing are asked for once.
    fn load(&self, users: &[&dyn Any]) -> Vec<Busy> {
        let mut heard: Vec<&str> = Vec::new();
        let mut load = Vec::new();
        for (user, settings) in users.iter().enumerate() {
            let Some(tap) = settings.downcast_ref::<Tap>() else { continue };
            if !heard.contains(&tap.to.as_str()) {
                heard.push(&tap.to);
                let (every, takes) = (Duration::from_secs(1), *tap.takes);
                let (setting, why) = (Cow::Borrowed("takes"), "one request".to_owned());
                load.push(Busy { user, setting, every, takes, why, less: None });
            }
        }
        load
    }
}

/// A source without a connection.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Beat {
    /// What it says.
    #[serde(default = "word")]
    say: String,
    /// Further outputs.
    #[serde(default)]
    outputs: Vec<String>,
}

fn word() -> String {
    "beat".to_owned()
}

impl Settings for Beat {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        if self.say.is_empty() {
            let problem = Problem::new("say", "the beat says nothing", "expected a word");
            problems.push(problem.rule(&TOO_QUIET).warning());
        }
        if self.say == "nothing" {
            problems.push(Problem::new("say", "the beat cannot say that", "expected a word"));
        }
        Some(self)
    }
}

impl Configured for Beat {
    fn build(&self, _: Site) -> Node {
        unreachable!("nothing runs here")
    }
    fn outputs(&self) -> Vec<String> {
        self.outputs.clone()
    }
    fn fields(&self) -> Fields {
        Fields { reads: Vec::new(), sends: Sends::Only([self.say.clone()].into()) }
    }
}

/// A source on a line.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tap {
    /// What it listens to.
    to: String,
    /// How much of a second that takes.
    #[serde(default = "no_time")]
    takes: Period,
}

fn no_time() -> Period {
    Period(Duration::ZERO)
}

impl Settings for Tap {
    fn resolve(self, _: &mut Vec<Problem>) -> Option<impl Configured> {
        Some(self)
    }
}

impl Configured for Tap {
    fn build(&self, _: Site) -> Node {
        unreachable!("nothing runs here")
    }
    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        let line = connection.downcast_ref::<Line>();
        let is_deaf = line.and_then(|line| line.id.as_deref()) == Some(&*self.to);
        let problem = Problem::new("to", "a line does not hear itself", "expected another");
        is_deaf.then_some(problem).into_iter().collect()
    }
}

/// A transform.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Pass {
    /// A field that it reads.
    #[serde(default)]
    reads: Option<String>,
}

impl Settings for Pass {
    fn resolve(self, _: &mut Vec<Problem>) -> Option<impl Configured> {
        Some(self)
    }
}

impl Configured for Pass {
    fn build(&self, _: Site) -> Node {
        unreachable!("nothing runs here")
    }
    fn fields(&self) -> Fields {
        let read = |field: &String| FieldRead {
            field: field.clone(),
            setting: Cow::Owned("reads".to_owned()),
            inside: None,
        };
        Fields::passing(self.reads.iter().map(read))
    }
}

/// A sink that likes many at once.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct End {
    /// How loud.
    #[serde(default)]
    #[expect(dead_code, reason = "only read")]
    volume: u8,
}

impl Settings for End {
    fn resolve(self, _: &mut Vec<Problem>) -> Option<impl Configured> {
        Some(self)
    }
}

impl Configured for End {
    fn build(&self, _: Site) -> Node {
        unreachable!("nothing runs here")
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { batch_messages: 10, ..Capabilities::default() }
    }
}

/// A sink that is answered, and whose writes must not be done twice.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Command {}

impl Settings for Command {
    fn resolve(self, _: &mut Vec<Problem>) -> Option<impl Configured> {
        Some(self)
    }
}

impl Configured for Command {
    fn build(&self, _: Site) -> Node {
        unreachable!("nothing runs here")
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { batch_messages: 10, repeats: false, ..Capabilities::default() }
    }
    fn outputs(&self) -> Vec<String> {
        vec!["answers".to_owned()]
    }
}

/// A section `pairs:`. Each link is a tap on a line of the pair, and an end that reads it.
struct Pairs;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the schema")]
struct Pair {
    /// Each with `to`, `as`, and the settings of its end.
    links: Vec<serde_json::Map<String, Value>>,
    /// An id for its line.
    id: Option<String>,
    /// The type of its taps.
    tap: Option<String>,
}

impl Expansion for Pairs {
    fn name(&self) -> &str {
        "pairs"
    }
    fn noun(&self) -> &str {
        "pair"
    }
    fn role(&self) -> Option<Role> {
        None
    }
    fn summary(&self) -> &str {
        "Ties what is heard to an end."
    }
    fn schema(&self) -> Value {
        schema_of::<Pair>()
    }

    fn expand(&self, _: &str, settings: &Yaml, _: &mut Vec<Finding>) -> Vec<Expanded> {
        let id = settings.entry("id").cloned();
        let line = made([("type", "line")], id);
        let mut parts = vec![part(Role::Connection, "line", line, settings.span)];
        let Some(Yaml { content: Content::List(links), .. }) = settings.get("links") else {
            return parts;
        };
        let tap = settings.get("tap").and_then(Yaml::text).unwrap_or("tap");
        for link in links {
            let called = link.get("as").and_then(Yaml::text).unwrap_or("0");
            let tap = [("type", tap), ("connection", ":line")];
            let tap = made(tap, link.entry("to").cloned());
            parts.push(part(Role::Source, &format!("{called}-in"), tap, link.span));
            let rest = link.entries().unwrap_or_default().iter();
            let rest = rest.filter(|entry| !["to", "as", "alone"].contains(&entry.key.as_str()));
            let from = format!(":{called}-in");
            let end = made([("type", "end"), ("from", &from)], rest.cloned());
            if link.get("alone").is_none() {
                parts.push(part(Role::Sink, &format!("{called}-out"), end, link.span));
            }
        }
        parts
    }
}

/// A transform that stands for several in a row.
struct Chains;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the schema")]
struct Chain {
    /// The field that each step reads.
    steps: Vec<String>,
}

impl Expansion for Chains {
    fn name(&self) -> &str {
        "chain"
    }
    fn noun(&self) -> &str {
        "chain"
    }
    fn role(&self) -> Option<Role> {
        Some(Role::Transform)
    }
    fn summary(&self) -> &str {
        "Several steps."
    }
    fn schema(&self) -> Value {
        schema_of::<Chain>()
    }

    fn expand(&self, _: &str, settings: &Yaml, _: &mut Vec<Finding>) -> Vec<Expanded> {
        let Some(Yaml { content: Content::List(steps), .. }) = settings.get("steps") else {
            return Vec::new();
        };
        let step = |(index, step): (usize, &Yaml)| {
            let reads =
                Entry { key: "reads".to_owned(), key_span: Span::default(), value: step.clone() };
            let mut pass = made([("type", "pass")], [reads]);
            let from = match index.checked_sub(1) {
                None => settings.entry("from").cloned(),
                Some(before) => {
                    made([("from", &*format!(":{before}"))], None).entry("from").cloned()
                }
            };
            let Content::Map(entries) = &mut pass.content else { unreachable!("it is a map") };
            entries.extend(from);
            // The last has the name of the chain.
            let name = if index + 1 == steps.len() { String::new() } else { index.to_string() };
            part(Role::Transform, &name, pass, step.span)
        };
        steps.iter().enumerate().map(step).collect()
    }
}

fn part(role: Role, name: &str, settings: Yaml, origin: Span) -> Expanded {
    Expanded { role, part: name.to_owned(), settings, origin }
}

/// A map of texts that have no place, and of entries that have one.
fn made<'a>(
    texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    entries: impl IntoIterator<Item = Entry>,
) -> Yaml {
    let nowhere = Span::default();
    let text = |(key, text): (&str, &str)| {
        let scalar = Scalar::new(text, Style::Quoted);
        let value = Yaml { span: nowhere, content: Content::Scalar(scalar) };
        Entry { key: key.to_owned(), key_span: nowhere, value }
    };
    let all = texts.into_iter().map(text).chain(entries).collect();
    Yaml { span: nowhere, content: Content::Map(all) }
}
