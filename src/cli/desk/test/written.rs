//! What stands in a `tests.yaml`.

use std::{collections::BTreeMap, sync::Arc};

use forebay_sdk::{
    Configured, Finding, Level, NodeType, Period, Role, Span, rules::SETTING_VALUE, schema_of,
};
use forebay_yaml::{self as yaml, Limits, Yaml};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    config::{ExpansionEntry, Graph, NodeTypeEntry, Types, WHOLE, load_whole},
    lint::lint,
};

/// A test that can run.
pub(super) struct Test {
    pub name: String,
    pub span: Span,
    pub subject: Subject,
    pub send: Vec<Sent>,
    /// What web services answer, in this order.
    pub answers: Vec<Answered>,
    /// What they are asked, and nothing else.
    pub requests: Vec<Asked>,
    /// By the name of the output; `main` is the main one. Others send nothing.
    pub expect: BTreeMap<String, Vec<Expected>>,
    pub errors: Vec<String>,
}

/// What is tested.
pub(super) enum Subject {
    /// A node.
    Node(Arc<dyn Configured>),
    /// All that stands behind one, with a source in front and sinks behind that do nothing.
    Whole(Graph),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The tests. Each is run by itself, with a node of its own.
    #[schemars(length(min = 1))]
    tests: Vec<TestWritten>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TestWritten {
    /// What it shows. One sentence.
    name: String,
    /// The settings of the node.
    #[serde(default)]
    #[expect(dead_code, reason = "the type reads them as they are written")]
    settings: Map<String, Value>,
    /// The messages that come in, in this order. For a source, its beats: each has `at` or nothing.
    #[schemars(length(min = 1))]
    send: Vec<Sent>,
    /// What web services answer to a script that asks them, in this order.
    #[serde(default)]
    answers: Vec<Answered>,
    /// What it asks them, in this order, and nothing else.
    #[serde(default)]
    requests: Vec<Asked>,
    /// The messages that go out, and no others.
    #[serde(default)]
    expect: Vec<Expected>,
    /// The same for further outputs, by their names.
    #[serde(default)]
    outputs: BTreeMap<String, Vec<Expected>>,
    /// The errors, in their order: a part of what each says.
    #[serde(default)]
    errors: Vec<String>,
}

/// A message that comes in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent {
    /// Its topic.
    #[serde(default = "usual_topic")]
    pub topic: String,
    /// Its payload.
    #[serde(default)]
    pub payload: Value,
    /// Its meta data.
    #[serde(default)]
    pub meta: Map<String, Value>,
    /// When it comes, since the beginning of the test: midnight of 1 January 2026, UTC. When left out, with the
    /// one before it.
    pub at: Option<Period>,
}

/// What a web service answers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Answered {
    /// The status. What is above 299 is an error.
    #[serde(default = "usual_status")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// The body, as a value.
    #[serde(default)]
    pub payload: Value,
}

/// What a web service is asked. What is left out may be anything.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// `GET`, `POST` and the like.
    pub method: Option<String>,
    /// Where.
    pub url: Option<String>,
    /// Headers, beside others.
    pub headers: Option<BTreeMap<String, String>>,
    /// The body, as a value.
    pub body: Option<Value>,
}

fn usual_status() -> u16 {
    200
}

/// A message that goes out. What is left out may be anything.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// Its topic.
    pub topic: Option<String>,
    /// Its payload. Numbers are compared by what they are, whether they have a point or not.
    pub payload: Option<Value>,
    /// What is in its meta data, beside other things.
    pub meta: Option<Map<String, Value>>,
}

/// JSON Schema of a `tests.yaml`.
pub fn schema() -> Value {
    schema_of::<Written>()
}

fn usual_topic() -> String {
    "test".to_owned()
}

/// Whose tests are read.
pub(super) enum Tested<'a> {
    /// A node type.
    Type(&'a NodeTypeEntry),
    /// What stands for several nodes, among all types.
    Whole(&'a ExpansionEntry, &'a Types),
}

/// Reads the tests of a type, and reports what is wrong with them. One that is wrong is left out.
pub(super) fn read(
    text: &str,
    file: u32,
    tested: &Tested<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<Test> {
    let Some(tree) = yaml::parse(text, file, Limits::default(), findings) else {
        return Vec::new();
    };
    let schema = schema();
    let Some(written) = yaml::read::<Written>(&tree, &schema, "tests.yaml", findings) else {
        return Vec::new();
    };
    let with_place = |(index, written)| (written, tree.at(&format!("tests[{index}]")));
    let tests = written.tests.into_iter().enumerate().map(with_place);
    tests.filter_map(|(written, place)| test(written, place, tested, findings)).collect()
}

fn test(
    written: TestWritten,
    place: &Yaml,
    tested: &Tested<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Test> {
    let TestWritten { name, send, answers, requests, expect, outputs, errors, .. } = written;
    let (subject, known) = match tested {
        Tested::Type(entry) => {
            let configured = configured(place, &*entry.node_type, findings)?;
            let outputs = configured.outputs();
            (Subject::Node(configured), outputs)
        }
        Tested::Whole(entry, types) => whole(place, entry, types, findings)?,
    };
    for unknown in outputs.keys().filter(|name| !known.contains(name)) {
        let message = format!("there is no output `{unknown}`");
        let label = match known.as_slice() {
            [] => "the main output is `expect`, and there is no other".to_owned(),
            known => format!("expected {}", known.join(", ")),
        };
        let span = place.at(&format!("outputs.{unknown}")).span;
        findings.push(Finding::error(&SETTING_VALUE, span, message, label));
    }
    let mut latest = None;
    for (index, sent) in send.iter().enumerate() {
        if sent.at.is_some() && sent.at < latest {
            let span = place.at(&format!("send[{index}].at")).span;
            let label = "expected no time before that of the message above";
            let message = "time goes back in a test";
            findings.push(Finding::error(&SETTING_VALUE, span, message, label));
        }
        latest = sent.at.or(latest);
    }
    let expect = outputs.into_iter().chain([("main".to_owned(), expect)]).collect();
    Some(Test { name, span: place.span, subject, send, answers, requests, expect, errors })
}

/// What stands behind a node of these settings, and the names of its outputs.
fn whole(
    place: &Yaml,
    entry: &ExpansionEntry,
    types: &Types,
    findings: &mut Vec<Finding>,
) -> Option<(Subject, Vec<String>)> {
    let none = Yaml::empty_map(place.span);
    let settings = place.get("settings").unwrap_or(&none);
    let before = findings.len();
    let name = entry.expansion.name();
    let has_others = || {
        let message = format!("`{name}` has nodes that are no transforms");
        let label = "expected a NAME.test.yaml beside a pipeline that uses it: that runs the whole";
        Finding::error(&SETTING_VALUE, place.span, message, label)
    };
    if types.expansion(Role::Transform, name).is_none() {
        findings.push(has_others());
        return None;
    }
    yaml::check(settings, &entry.expansion.schema(), name, settings.span, findings);
    if findings.len() > before {
        return None;
    }
    let checked = lint(load_whole(entry, settings, types));
    let is_error = |finding: &Finding| finding.level == Level::Error;
    findings.extend(checked.findings.into_iter().filter(is_error));
    let graph = checked.graph?;
    let is_part = |name: &str| name == WHOLE || name.starts_with(&format!("{WHOLE}:"));
    let mut parts = graph.nodes.iter().filter(|(name, _)| is_part(name));
    if !parts.all(|(_, spec)| spec.role == Role::Transform) {
        findings.push(has_others());
        return None;
    }
    let outputs = graph.nodes.get(WHOLE)?.configured.outputs();
    Some((Subject::Whole(graph), outputs))
}

/// A node of the settings of a test.
fn configured(
    place: &Yaml,
    node_type: &dyn NodeType,
    findings: &mut Vec<Finding>,
) -> Option<Arc<dyn Configured>> {
    let none = Yaml::empty_map(place.span);
    let settings = place.get("settings").unwrap_or(&none);
    let before = findings.len();
    yaml::check(settings, &node_type.schema(), node_type.name(), settings.span, findings);
    if findings.len() > before {
        return None;
    }
    let resolved = node_type.configure(settings, findings);
    let at = |setting: &str| settings.at(setting).span;
    findings.extend(resolved.problems.into_iter().map(|problem| problem.at(at)));
    resolved.configured
}
