//! What is wrong with settings.

use forebay_sdk::{NodeType, testing::configure};

use crate::{sink, source};

#[track_caller]
fn says(node_type: &dyn NodeType, text: &str, says: &str) {
    let found = format!("{:?}", configure(node_type, text).err());
    assert!(found.contains(says), "{text}: {found}");
}

#[test]
fn what_is_wrong_with_inputs_is_said() {
    for (text, what) in [
        ("lines: []", "lines"),
        ("lines: [{ name: a }]", "line"),
        ("lines: [{ name: a, line: -1 }]", "line"),
        ("lines: [{ name: a, line: 1 }, { name: a, line: 2 }]", "two values are `a`"),
        ("lines: [{ name: a, line: 1 }, { name: b, line: '1' }]", "two inputs are line 1"),
        ("lines: [{ name: a, line: 1, debounce: 2h }]", "`lines[0].debounce` is out of range"),
        ("lines: [{ name: a, line: 1, poll: 1ms }]", "expected 5ms to 1m"),
        (
            "lines: [{ name: a, line: 1, count: { per_unit: 0 } }]",
            "expected a number above 0, found 0",
        ),
        ("lines: [{ name: a, line: 1, count: { rate: a } }]", "two values are `a`"),
        ("lines: [{ name: a, line: 1, count: { rate: b, per: 0s } }]", "out of range"),
        ("lines: [{ name: a, line: 1 }]\nevery: 1ms", "`every` is out of range"),
        ("lines: [{ name: a, line: 1 }]\ntopic: site/{name}", "expected no other than `{line}`"),
    ] {
        says(&source(), text, what);
    }
}

#[test]
fn what_is_wrong_with_outputs_is_said() {
    for (text, what) in [
        (
            "lines: [{ name: a, line: 1, safe_after: 5m }]",
            "nobody knows what is safe for output `a`",
        ),
        (
            "lines: [{ name: a, line: 1, pulse: 1s, min_on: 2s }]",
            "a pulse of output `a` ends before it may",
        ),
        (
            "lines: [{ name: a, line: 1, pulse: 1s, initial: on }]",
            "is on for the time of a `pulse`",
        ),
        ("lines: [{ name: a, line: 1, pulse: 1s, safe: on }]", "is on for the time of a `pulse`"),
        ("lines: [{ name: a, line: 1 }]\nexpires_after: 1ms", "`expires_after` is out of range"),
        ("lines: [{ name: a, line: 1 }, { name: b, line: 1 }]", "two outputs are line 1"),
    ] {
        says(&sink(), text, what);
    }
}
