//! What stands in a `tests.yaml`.

use std::{collections::BTreeMap, sync::Arc};

use forebay_sdk::{Configured, Finding, NodeType, Period, Span, rules::SETTING_VALUE, schema_of};
use forebay_yaml::{self as yaml, Limits, Yaml};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A test that can run.
pub(super) struct Test {
    pub name: String,
    pub span: Span,
    pub configured: Arc<dyn Configured>,
    pub send: Vec<Sent>,
    /// By the name of the output; `main` is the main one. Others send nothing.
    pub expect: BTreeMap<String, Vec<Expected>>,
    pub errors: Vec<String>,
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
    /// The messages that come in, in this order.
    #[schemars(length(min = 1))]
    send: Vec<Sent>,
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

/// Reads the tests of a type, and reports what is wrong with them. One that is wrong is left out.
pub(super) fn read(
    text: &str,
    file: u32,
    node_type: &dyn NodeType,
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
    tests.filter_map(|(written, place)| test(written, place, node_type, findings)).collect()
}

fn test(
    written: TestWritten,
    place: &Yaml,
    node_type: &dyn NodeType,
    findings: &mut Vec<Finding>,
) -> Option<Test> {
    let TestWritten { name, send, expect, outputs, errors, .. } = written;
    let configured = configured(place, node_type, findings)?;
    let known = configured.outputs();
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
    Some(Test { name, span: place.span, configured, send, expect, errors })
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
    yaml::check(settings, node_type.schema(), node_type.name(), settings.span, findings);
    if findings.len() > before {
        return None;
    }
    let resolved = node_type.configure(settings, findings);
    let at = |setting: &str| settings.at(setting).span;
    findings.extend(resolved.problems.into_iter().map(|problem| problem.at(at)));
    resolved.configured
}
