use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::{
    tree::plain_meaning,
    units::{Period, Secret},
};

fn tree(text: &str) -> Yaml {
    let mut findings = Vec::new();
    let tree = parse(text, 0, Limits::default(), &mut findings);
    assert_eq!(findings, []);
    tree.unwrap()
}

/// Findings as `rule@marked text: label`.
fn said(text: &str, findings: &[Finding]) -> Vec<String> {
    let one = |f: &Finding| {
        let marked = &text[f.span.unwrap().range()];
        format!("{}@{marked}: {}", f.rule, f.label)
    };
    findings.iter().map(one).collect()
}

#[track_caller]
fn check_syntax(text: &str, expected: &[&str]) {
    let mut findings = Vec::new();
    parse(text, 0, Limits::default(), &mut findings);
    assert_eq!(said(text, &findings), expected);
}

#[derive(Deserialize, JsonSchema, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Meter {
    unit: u8,
    every: Option<Period>,
    #[serde(default)]
    registers: Vec<Register>,
    kind: Option<Kind>,
    password: Option<Secret>,
    #[serde(default)]
    fast: bool,
    scale: Option<f64>,
    #[serde(default, alias = "adress", alias = "slave")]
    #[schemars(extend("x-forebay-was" = ["adress", "slave"]))]
    address: u8,
}

#[derive(Deserialize, JsonSchema, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Register {
    name: String,
    at: u16,
}

#[derive(Deserialize, JsonSchema, Debug, PartialEq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    U16,
    F32,
}

fn read_meter(text: &str) -> (Option<Meter>, Vec<Finding>) {
    let mut findings = Vec::new();
    let schema = schema_of::<Meter>();
    let meter = read(&tree(text), &schema, "meter", &mut findings);
    (meter, findings)
}

#[track_caller]
fn check_meter(text: &str, expected: &[&str]) {
    let (meter, findings) = read_meter(text);
    assert_eq!(said(text, &findings), expected);
    assert_eq!(meter.is_some(), expected.is_empty());
}

#[test]
fn an_old_name_works_and_is_said_to_be_old() {
    let (meter, findings) = read_meter("unit: 1\nslave: 7");
    assert_eq!(meter.unwrap().address, 7);
    assert_eq!((findings[0].rule.name, findings[0].level), ("deprecated-name", Level::Warning));
    assert_eq!(findings[0].message, "`slave` is now called `address`");
    assert_eq!(findings[0].edit.as_ref().unwrap().text, "address");
    // Its value is checked as that of the new one, and the two do not stand together.
    check_meter(
        "unit: 1\nslave: 300",
        &["deprecated-name@slave: ", "setting-type@300: expected 0 to 255, found 300"],
    );
    check_meter("unit: 1\nslave: 7\naddress: 7", &["duplicate-key@slave: the old name"]);
    check_meter("unit: 1\nslav: 7", &["unknown-setting@slav: "]);
}

#[test]
fn a_good_text_becomes_a_struct() {
    let (meter, findings) =
        read_meter("unit: 0x10\nevery: 5s\nkind: f32\nscale: 2\nregisters:\n  - {name: a, at: 52}");
    assert_eq!(findings, []);
    let meter = meter.unwrap();
    assert_eq!(
        (meter.unit, meter.every, meter.kind),
        (16, Some(Period::seconds(5)), Some(Kind::F32))
    );
    assert_eq!(meter.registers, [Register { name: "a".into(), at: 52 }]);
}

#[test]
fn all_problems_of_one_node_are_found_in_one_run() {
    check_meter(
        "unit: 300\nevry: 5s\nkind: f23\nregisters:\n  - {name: a}\n  - {name: 7, at: -1}",
        &[
            "setting-type@300: expected 0 to 255, found 300",
            "unknown-setting@evry: ",
            "setting-type@f23: expected `u16` or `f32`, found \"f23\"",
            "missing-setting@{name: a}: `at` is missing",
            "setting-type@7: expected text, found 7",
            "setting-type@-1: expected 0 to 65535, found -1",
        ],
    );
}

#[test]
fn a_missing_unit_of_time_is_named() {
    check_meter(
        "unit: 1\nevery: 5",
        &[
            "setting-type@5: expected a duration with a unit, such as `500ms`, `5s` or `1h`, found 5",
        ],
    );
}

#[test]
fn words_of_yaml_1_1_are_not_booleans() {
    check_meter(
        "unit: 1\nfast: yes",
        &["setting-type@yes: expected `true` or `false`, found \"yes\""],
    );
    assert_eq!(tree("country: no").get("country").unwrap().text(), Some("no"));
}

#[test]
fn a_list_where_a_map_belongs_is_one_finding() {
    check_meter("- unit", &["setting-type@- unit: expected a map, found a list"]);
}

#[test]
fn numbers_follow_the_core_schema() {
    let meaning = |text| format!("{:?}", plain_meaning(text));
    assert_eq!(meaning("010"), "Int(10)");
    assert_eq!(meaning("0x34"), "Int(52)");
    assert_eq!(meaning("0o17"), "Int(15)");
    assert_eq!(meaning("-7"), "Int(-7)");
    assert_eq!(meaning("1e3"), "Float(1000.0)");
    assert_eq!(meaning("1.10"), "Float(1.1)");
    assert_eq!(meaning("-.inf"), "Float(-inf)");
    for text in
        ["nan", "inf", "infinity", "1_000", "12:30:45", "0xZZ", "-", "+", ".", "e", "1.2.3", "no"]
    {
        assert_eq!(meaning(text), format!("Text({text:?})"));
    }
}

#[test]
fn a_key_that_stands_twice_is_refused_with_both_places() {
    let text = "a: 1\nb: 2\na: 3";
    let mut findings = Vec::new();
    parse(text, 0, Limits::default(), &mut findings);
    assert_eq!(
        (findings[0].rule.name, findings[0].span.unwrap().range()),
        ("duplicate-key", 10..11)
    );
    assert_eq!(findings[0].context[0].0.range(), 0..1);
}

#[test]
fn what_stands_below_a_section_that_stands_twice_is_known() {
    let text = "sources:\n  a: {x: 1}\nsinks: 1\nsources:\n  b: {x: 1}\n  a: {y: 1}\n";
    let mut findings = Vec::new();
    let tree = parse(text, 0, Limits::default(), &mut findings).unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!(
        tree.to_value(),
        serde_json::json!({"sources": {"a": {"x": 1}, "b": {"x": 1}}, "sinks": 1})
    );
}

#[test]
fn broken_syntax_is_marked_where_it_is() {
    check_syntax("a:\n\tb: 1", &["yaml-syntax@\t: a tab; YAML is indented with spaces"]);
    check_syntax("--- a\n--- b", &["yaml-syntax@---: one file holds one pipeline"]);
    check_syntax(
        "a: !secret b",
        &["yaml-syntax@b: write the value without `!`, or in quotes if it belongs there"],
    );
    check_syntax("a\0b", &["yaml-syntax@\0: a zero byte"]);
    for (text, expected) in [
        ("a: b: c", ":: a value that holds `: ` needs quotes"),
        ("a: 1\n  b: 2", "b: 2 spaces in front, the line above has 0"),
        ("a:\n    b: 1\n\n   # note\n   c: 2", "c: 3 spaces in front, the line above has 4"),
        ("a\nb: 1", ":: the line above lacks a `:`"),
        (
            "a: \"C:\\q\"",
            "\": `\\` begins an escape in double quotes; in single quotes it does not",
        ),
        ("a: {b: 1\nc: 2", "{: this `{` is not closed"),
        ("a: [{b: 1}, {c: 2]\nd: 3", "{: expected `}` before the `]`"),
        ("a: [b, c\nd: |\n  e[0]\nf: {g: 1}", "[: this `[` is not closed"),
        ("a: \"b\nc: \"d\"\n", "\": this quote is not closed in its line"),
        ("a: 'it''s\nb: 1\n", "': this quote is not closed in its line"),
        ("a: plant's [x\nb: \"c\nd: 1", "\": this quote is not closed in its line"),
        ("a: |\n  \"x [\nb: [c\n", "[: this `[` is not closed"),
        ("a: x # \"y [\nb: [c\n", "[: this `[` is not closed"),
        ("- a: |\n    {\n  b: [\n", "[: this `[` is not closed"),
        ("a:\u{a0}1\nb: 2", "\u{a0}: not a plain space; type it anew"),
        ("a:\n  b: 1\n\u{a0}\u{a0}c: 1\n  d: 2", "\u{a0}: not a plain space; type it anew"),
        ("// note\na: 1", "//: a comment begins with `#`"),
        ("a: 1\nb = 2\nc: 3", "=: expected `:` behind the key"),
        ("a:\n  b: |\n  c;\n  d: 1", "c;: expected more spaces in front than the line above has"),
        ("a: |\n  b = 1\nc: d: e", ":: a value that holds `: ` needs quotes"),
        ("a: *\nb: 1", "*: a value that begins with `*` or `&` needs quotes"),
        ("a:1\nb: 2", ":: expected a space behind this"),
        ("a: &usual 1\nb: *usal", "*usal: no `&usal` stands above"),
        ("a: [{b: 1} c]", "c: expected `,` or `]` before this"),
        ("a: [1, 2\nb: 3", "[: this `[` is not closed"),
        ("a:\n  b: 1\n c: 2", "c: 1 space in front, the line above has 2"),
        ("a:\n  - 1\n  b: 2", "b: expected `-`, as far to the right as those above"),
        ("a: - b", "-: a list begins on a line of its own"),
        ("a: 1\nb\nc: 2", "b: expected `:` behind the key"),
        (
            "a: \"x\"y",
            "y: the text ends at the quote before this; for quotes inside, write it below a `|`",
        ),
        ("a: |x\n  y", "|: expected nothing more on this line"),
        ("a: 1\n\tb: 2", "\t: a tab; YAML is indented with spaces"),
        ("a: 1\n\n\tb: 2", "\t: a tab; YAML is indented with spaces"),
        ("a: *b", "*b: no `&b` stands above"),
        ("a: @b", "@: a value that begins with `@` needs quotes"),
        ("a: {b: ${env:C}}", "{: inside `{ }` and `[ ]`, a value with `${` needs quotes"),
    ] {
        check_syntax(text, &[&format!("yaml-syntax@{expected}")]);
    }
}

#[test]
fn syntax_errors_never_panic_and_stay_inside_the_file() {
    for text in [
        "a: [1, 2",
        "a: \"x",
        "{",
        "a: b: c",
        "- a\nb: c",
        "&",
        "*x",
        "a: *x",
        "? [a]\n: b",
        "%",
        "\u{feff}a: 1",
        "é: [",
        "a: &x [*x]",
    ] {
        let mut findings = Vec::new();
        parse(text, 0, Limits::default(), &mut findings);
        for finding in findings {
            assert!(text.get(finding.span.unwrap().range()).is_some(), "{text:?} {finding:?}");
        }
    }
}

#[test]
fn a_billion_laughs_are_cut_short() {
    let mut text = "a0: &a0 [lol, lol]\n".to_owned();
    for n in 1..40 {
        text += &format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1);
    }
    let mut findings = Vec::new();
    assert!(parse(&text, 0, Limits::default(), &mut findings).is_none());
    assert_eq!(findings[0].rule.name, "yaml-too-big");
}

#[test]
fn deep_nesting_is_refused() {
    let mut findings = Vec::new();
    assert!(parse(&"[".repeat(100_000), 0, Limits::default(), &mut findings).is_none());
    assert_eq!(findings.len(), 1);
}

#[test]
fn anchors_and_merge_keys_share_settings() {
    let tree = tree("base: &b {unit: 1, fast: true}\nmeter:\n  <<: *b\n  unit: 2");
    assert_eq!(tree.get("meter").unwrap().to_value(), serde_json::json!({"unit": 2, "fast": true}));
}

#[test]
fn spans_hold_just_the_text() {
    let text = "a: \"gw é\"  # c\nb:\n  - x\n  - y # z\nc: |\n  one\n  two\n\nd: 1\n";
    let tree = tree(text);
    let at = |key: &str| &text[tree.get(key).unwrap().span.range()];
    assert_eq!(at("a"), "\"gw é\"");
    assert_eq!(at("b"), "- x\n  - y");
    assert_eq!(at("d"), "1");
    assert_eq!(tree.get("c").unwrap().text(), Some("one\ntwo\n"));
    assert!(at("c").ends_with("two"), "{:?}", at("c"));
}

#[test]
fn what_a_variable_gave_is_never_shown() {
    let mut tree = tree("unit: ${env:UNIT}\npassword: ${env:PASSWORD}");
    tree.each_scalar(&mut |scalar, _| {
        let secret = if scalar.text.contains("UNIT") { "hunter2" } else { "12345" };
        scalar.template = Some(std::mem::replace(&mut scalar.text, secret.to_owned()));
    });
    let mut findings = Vec::new();
    let schema = schema_of::<Meter>();
    assert!(read::<Meter>(&tree, &schema, "meter", &mut findings).is_none());
    assert_eq!(findings.len(), 1, "digits are a fine password: {findings:?}");
    assert_eq!(findings[0].label, "expected a whole number, found the value of ${env:UNIT}");
    assert!(!format!("{findings:?}").contains("hunter2"));
}

#[test]
fn a_path_leads_to_the_deepest_value_that_exists() {
    let text = "registers:\n  - {name: a, at: 1}\n  - {name: b, at: 2}";
    let tree = tree(text);
    assert_eq!(&text[tree.at("registers[1].at").span.range()], "2");
    assert_eq!(&text[tree.at("registers[1].kind").span.range()], "{name: b, at: 2}");
}
