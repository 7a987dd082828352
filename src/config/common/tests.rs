//! The settings that every node has, from what is written to what the engine takes.

use super::*;
use crate::{
    config::{Draft, Part, Types, WhenFull, example, load, tests::folder_of},
    plugins,
};

fn draft(file: &str) -> Draft {
    let folder = folder_of(file);
    let types = Types::new(vec![example::plugin()]);
    let environment = |name: &str| (name == "YES").then(|| "true".to_owned());
    load(folder.path(), &types, &environment).unwrap()
}

/// What the engine takes of a node that is right.
#[track_caller]
fn common(section: &str, node: &str) -> Common {
    let draft = draft(&format!("{section}:\n  n: {{ {node} }}\n"));
    assert_eq!(draft.findings, [], "{node}");
    draft.parts.last().unwrap().common.clone()
}

#[track_caller]
fn check_wrong(section: &str, node: &str, expected: &[&str]) {
    let draft = draft(&format!("{section}:\n  n: {{ {node} }}\n"));
    let found: Vec<String> = draft
        .findings
        .iter()
        .map(|finding| format!("{}: {} ({})", finding.rule, finding.message, finding.label))
        .collect();
    assert_eq!(found, expected, "{node}");
}

#[test]
fn a_node_that_says_nothing_has_what_is_usual() {
    assert_eq!(common("sources", "type: beat"), Common::default());
    assert_eq!(common("transforms", "type: pass, from: a"), Common::default());
    let ten = Batch { max_messages: 10, max_wait: Duration::ZERO };
    assert_eq!(common("sinks", "type: end, from: a"), Common { batch: ten, ..Common::default() });
}

#[test]
fn what_is_written_is_what_the_engine_takes() {
    let sink = common(
        "sinks",
        "type: end, from: a, buffer: { max_messages: 5, when_full: drop_oldest }, \
         batch: { max_messages: 3, max_wait: 2s }, must_deliver: true",
    );
    assert_eq!((sink.buffer.max_messages, sink.buffer.when_full), (5, WhenFull::DropOldest));
    assert_eq!(sink.batch, Batch { max_messages: 3, max_wait: Duration::from_secs(2) });
    assert!(sink.must_deliver);
    // What a variable gives is what the setting wants.
    assert!(common("sinks", "type: end, from: a, must_deliver: '${env:YES}'").must_deliver);
    assert!(!common("sinks", "type: end, from: a, must_deliver: false").must_deliver);
    let queue = common("transforms", "type: pass, from: a, buffer: { max_messages: 7 }");
    assert_eq!(queue.buffer.max_messages, 7);
}

#[test]
fn a_transform_says_where_it_remembers() {
    let state = |more: &str| common("transforms", &format!("type: pass, from: a{more}")).state;
    assert_eq!(state(""), StateKept::Memory);
    assert_eq!(state(", state: memory"), StateKept::Memory);
    assert_eq!(state(", state: persist"), StateKept::Persist { every: PERSIST_EVERY });
    check_wrong(
        "transforms",
        "type: pass, from: a, state: disk",
        &[
            "setting-type: `state` is not one of its choices (expected `memory` or `persist`, found \"disk\")",
        ],
    );
    check_wrong(
        "sinks",
        "type: end, from: a, state: persist",
        &["unknown-setting: end sink `n` has no setting `state` ()"],
    );
}

#[test]
fn a_sink_that_must_not_repeat_takes_one_at_a_time() {
    let command = "type: command, from: a, connection: { type: line }";
    let batch = common("sinks", command).batch;
    assert_eq!(batch, Batch { max_messages: 1, max_wait: Duration::ZERO });
    check_wrong(
        "sinks",
        &format!("{command}, batch: {{ max_messages: 5 }}"),
        &[
            "setting-value: command sink `n` writes one message at a time (`batch` has no effect here)",
        ],
    );
}

#[test]
fn another_queue_leaves_the_node_alone() {
    let sink = |more: &str| common("sinks", &format!("type: end, from: a{more}"));
    let usual = sink("");
    assert!(usual.keeps_node(&sink(", buffer: { store: disk }")));
    assert!(usual.keeps_node(&sink(", must_deliver: true")));
    assert!(!usual.keeps_node(&sink(", batch: { max_messages: 1 }")));
    let transform = |more: &str| common("transforms", &format!("type: pass, from: a{more}"));
    assert!(!transform("").keeps_node(&transform(", state: persist")));
}

#[test]
fn a_setting_that_every_node_has_is_none_of_its_own() {
    let text = "transforms:\n  n: { type: pass, from: a, reads: x, state: persist, buffer: {} }\n";
    let part: Part = draft(text).parts.pop().unwrap();
    let keys = |yaml: &Yaml| -> Vec<String> {
        yaml.entries().unwrap().iter().map(|entry| entry.key.clone()).collect()
    };
    assert_eq!(keys(&part.settings), ["reads"]);
    assert_eq!(keys(&part.common_settings), ["type", "from", "state", "buffer"]);
}

/// One of a type's own would never reach it.
#[test]
fn no_type_has_a_setting_that_every_node_has() {
    let types = plugins::all().into_iter().chain([example::plugin()]);
    for node_type in types.flat_map(|plugin| plugin.types) {
        let schema = node_type.schema();
        let own = schema["properties"].as_object().into_iter().flatten();
        for (setting, _) in own {
            let (name, role) = (node_type.name(), node_type.role());
            assert!(!is_common(role, setting), "`{setting}` of {name} {}", role.noun());
        }
    }
}

#[test]
fn an_envelope_is_checked() {
    let right = common("sinks", "type: end, from: a, envelope: { time: t, time_as: unix_ms }");
    assert_eq!(right.envelope.unwrap().time.as_deref(), Some("t"));
    check_wrong(
        "sinks",
        "type: end, from: a, envelope: { units: u, quality: u, time_as: unix_s }",
        &[
            "setting-value: `envelope.units` has the name of `envelope.quality` (expected another name)",
            "setting-value: `envelope.time_as` does nothing without `time` (expected `time: time` beside it)",
        ],
    );
    check_wrong(
        "sinks",
        "type: end, from: a, envelope: {}",
        &["setting-value: `envelope` writes nothing (expected a name, such as `time: time`)"],
    );
}
