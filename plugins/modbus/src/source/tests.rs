use forebay_sdk::{
    NodeType, Problem,
    testing::configure,
    yaml::{self, Limits},
};

use super::*;
use crate::SOURCE;

const NO_ADDRESS: &str = "expected exactly one of `holding`, `input`, `coil` or `discrete`";

fn problems(text: &str) -> Vec<Problem> {
    let mut findings = Vec::new();
    let tree = yaml::parse(text, 0, Limits::default(), &mut findings).unwrap();
    let source: Option<ModbusSource> =
        yaml::read(&tree, SOURCE.schema(), "modbus source", &mut findings);
    assert_eq!(findings, []);
    source.unwrap().check()
}

/// What is wrong with one register, as `setting: label`. `fields` are those of a flow map.
#[track_caller]
fn check(fields: &str, expected: &[&str]) {
    let problems = problems(&format!("every: 1s\nregisters:\n  - {{ name: a, {fields} }}"));
    let said: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.setting, problem.label)).collect();
    assert_eq!(said, expected, "{fields}");
}

#[test]
fn every_kind_of_register_is_accepted() {
    for fields in [
        "holding: 0",
        "input: 0x34, kind: f32, order: CDAB, scale: 0.001, offset: -40, unit: kW",
        "coil: 65535",
        "discrete: 0, kind: bool",
        "holding: 65532, kind: f64",
        "holding: 0, bit: 15",
        "holding: 0, bit: 0, kind: bool, order: BADC",
        "holding: 0, bit: 7, kind: u16",
        "holding: 0, kind: string, length: 125, order: BADC",
        "input: 0, kind: i64, scale: -1",
    ] {
        check(fields, &[]);
    }
}

#[test]
fn a_register_stands_in_exactly_one_table() {
    check("kind: u16", &[&format!("registers[0]: {NO_ADDRESS}")]);
    check("holding: 1, input: 1", &[&format!("registers[0].input: {NO_ADDRESS}")]);
    check("input: 1, coil: 1, discrete: 1", &[&format!("registers[0].coil: {NO_ADDRESS}")]);
}

#[test]
fn a_value_ends_before_the_last_register() {
    const TABLE: &str = "holding";
    check(
        "holding: 65535, kind: u32",
        &[&format!("registers[0].{TABLE}: expected at most 65534 for 2 registers, found 65535")],
    );
    check(
        "input: 65533, kind: f64",
        &["registers[0].input: expected at most 65532 for 4 registers, found 65533"],
    );
}

#[test]
fn settings_that_clash_are_refused() {
    const LENGTH: &str = "only a `string` has a length; other kinds know theirs";
    const SCALE: &str = "registers[0].scale: only numbers are scaled";
    for (fields, expected) in [
        ("coil: 0, kind: u16", "registers[0].kind: expected `bool`"),
        ("coil: 0, bit: 1", "registers[0].bit: a coil is one bit"),
        ("discrete: 0, scale: 2", SCALE),
        ("holding: 0, bit: 1, scale: 2", SCALE),
        ("holding: 0, kind: string, length: 2, scale: 2", SCALE),
        ("holding: 0, bit: 1, offset: 2", "registers[0].offset: only numbers have an offset"),
        ("holding: 0, length: 2", &format!("registers[0].length: {LENGTH}")),
        ("coil: 0, length: 2", &format!("registers[0].length: {LENGTH}")),
        ("holding: 0, bit: 2, length: 2", &format!("registers[0].length: {LENGTH}")),
        (
            "holding: 0, kind: bool",
            "registers[0].kind: expected `bit` beside it, or a coil: a holding register has 16 bits",
        ),
        (
            "holding: 0, kind: u32, bit: 3",
            "registers[0].kind: expected `bool`: `bit` counts the 16 bits of one register",
        ),
        ("holding: 0, kind: string", "registers[0]: `length` is missing: the number of registers"),
        ("holding: 0, kind: string, length: 1, bit: 1", "registers[0].bit: a `string` has no bits"),
        (
            "holding: 0, kind: string, length: 1, order: DCBA",
            "registers[0].order: expected `ABCD` or `BADC`",
        ),
        ("holding: 0, scale: 0", "registers[0].scale: expected a finite number other than 0"),
        ("holding: 0, scale: .nan", "registers[0].scale: expected a finite number other than 0"),
        ("holding: 0, offset: .inf", "registers[0].offset: expected a finite number"),
    ] {
        check(fields, &[expected]);
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    check(
        "coil: 0, kind: f32, bit: 1, length: 1, scale: 1, offset: 1",
        &[
            "registers[0].kind: expected `bool`",
            "registers[0].bit: a coil is one bit",
            "registers[0].length: only a `string` has a length; other kinds know theirs",
            "registers[0].scale: only numbers are scaled",
            "registers[0].offset: only numbers have an offset",
        ],
    );
}

#[test]
fn numbers_of_a_manual_get_a_hint_and_no_refusal() {
    for (fields, label) in [
        ("holding: 40001", "registers[0].holding: holding register 40001 is `holding: 0`"),
        ("input: 30053, kind: f32", "registers[0].input: input register 30001 is `input: 0`"),
        ("discrete: 10001", "registers[0].discrete: discrete input 10001 is `discrete: 0`"),
    ] {
        check(fields, &[label]);
    }
    for fields in ["holding: 40000", "holding: 50000", "input: 40001", "coil: 10001"] {
        check(fields, &[]);
    }
    let two = "every: 1s\nregisters:\n  - {name: a, holding: 40011}\n  - {name: b, holding: 40012}";
    let problems = problems(two);
    assert_eq!(problems.len(), 1, "one hint is enough: {problems:?}");
    assert_eq!(problems[0].level, forebay_sdk::Level::Warning);
    assert!(problems[0].note.as_deref().unwrap().contains("`holding: 10`"));
}

#[test]
fn two_registers_cannot_have_one_name() {
    let text = "every: 1s\nregisters:\n  - {name: a, coil: 0}\n  - {name: a, coil: 1}";
    let problems = problems(text);
    assert_eq!(problems[0].setting, "registers[1].name");
    assert_eq!(problems[0].message, "two registers are named `a`");
}

#[test]
fn a_value_must_fit_in_one_request() {
    let text = "every: 1s\nmax_registers: 2\nregisters:\n  - {name: a, holding: 0, kind: f64}";
    let problems = problems(text);
    assert_eq!(problems[0].setting, "registers[0]");
    assert_eq!(problems[0].label, "fills 4 registers, and `max_registers` is 2");
}

#[test]
fn the_beat_has_bounds() {
    for (every, fine) in
        [("10ms", true), ("31d", true), ("9ms", false), ("0s", false), ("32d", false)]
    {
        let problems = problems(&format!("every: {every}\nregisters:\n  - {{name: a, coil: 0}}"));
        assert_eq!(problems.is_empty(), fine, "{every}: {problems:?}");
    }
}

#[test]
fn the_schema_refuses_what_is_out_of_range() {
    let label = |text: &str| configure(&SOURCE, text).err().unwrap().join("\n");
    let register = |fields: &str| {
        label(&format!("every: 1s\nregisters:\n  - {{ name: a, holding: 0, {fields} }}"))
    };
    assert!(register("bit: 16").contains("expected 0 to 15, found 16"));
    assert!(register("kind: string, length: 126").contains("expected 1 to 125, found 126"));
    assert!(register("kind: f16").contains("expected `u16`, `i16`"));
    assert!(register("order: abcd").contains("expected `ABCD`, `CDAB`, `BADC` or `DCBA`"));
    assert!(register("deadband: 1").contains("has no setting `deadband`"));
    assert!(label("every: 1s\nregisters: []").contains("expected at least 1, found 0"));
    assert!(label("registers:\n  - {name: a, coil: 70000}").contains("expected 0 to 65535"));
    assert!(label("registers:\n  - {name: '', coil: 0}").contains("modbus source needs `every`"));
    let source = |setting: &str| {
        label(&format!("every: 1s\n{setting}\nregisters:\n  - {{ name: a, coil: 0 }}"))
    };
    assert!(source("unit: 256").contains("expected 0 to 255, found 256"));
    assert!(source("max_registers: 0").contains("expected 1 to 125, found 0"));
    assert!(source("max_gap: 125").contains("expected 0 to 124, found 125"));
}
