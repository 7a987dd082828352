//! What `validate` finds is what an independent validator of JSON Schema finds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use forebay::plugins;
use forebay_sdk::{Message, testing::Rig};
use serde_json::{Value, json};

use crate::support::python;

const SCHEMAS: usize = 150;
const VALUES: usize = 40;

const VALIDATE: &str = "
import json, sys
from jsonschema import Draft202012Validator
for line in sys.stdin:
    schema, values = json.loads(line)
    validator = Draft202012Validator(schema)
    print(json.dumps([validator.is_valid(value) for value in values]))
";

fn scalar(random: &mut fastrand::Rng) -> Value {
    match random.u8(0..6) {
        0 => json!(null),
        1 => json!(random.bool()),
        2 => json!(random.i64(-3..4)),
        3 => json!(f64::from(random.i32(-8..8)) / 2.0),
        _ => json!(
            (0..random.usize(0..4))
                .map(|_| ['a', 'b', '1', 'ü'][random.usize(0..4)])
                .collect::<String>()
        ),
    }
}

fn value(random: &mut fastrand::Rng, levels: usize) -> Value {
    match random.u8(0..6) {
        0 if levels > 0 => {
            (0..random.usize(0..4)).map(|_| value(random, levels - 1)).collect::<Vec<_>>().into()
        }
        1..4 if levels > 0 => {
            let members = (0..random.usize(0..4))
                .map(|_| (name(random).to_owned(), value(random, levels - 1)));
            Value::Object(members.collect())
        }
        _ => scalar(random),
    }
}

fn name(random: &mut fastrand::Rng) -> &'static str {
    ["a", "b", "ab", "x1"][random.usize(0..4)]
}

fn schema(random: &mut fastrand::Rng, levels: usize) -> Value {
    if levels == 0 || random.u8(0..12) == 0 {
        return [json!(true), json!(false), json!({}), json!({ "type": "number" })]
            [random.usize(0..4)]
        .clone();
    }
    let mut schema = json!({});
    for _ in 0..random.usize(1..4) {
        let inner = |random: &mut fastrand::Rng| self::schema(random, levels - 1);
        let (keyword, value) = match random.u8(0..26) {
            0 | 1 => (
                "type",
                ["integer", "number", "string", "array", "object", "null", "boolean"]
                    [random.usize(0..7)]
                .into(),
            ),
            2 => ("enum", json!([scalar(random), scalar(random), [1, 2.0]])),
            3 => ("const", scalar(random)),
            4 => ("minimum", json!(random.i8(-3..3))),
            5 => ("exclusiveMaximum", json!(random.i8(-3..3))),
            6 => ("multipleOf", json!(0.5)),
            7 => ("minLength", json!(random.u8(0..3))),
            8 => ("maxLength", json!(random.u8(0..3))),
            9 => ("pattern", json!(["^a", "b$", "[0-9]", "ü"][random.usize(0..4)])),
            10 => ("items", inner(random)),
            11 => ("prefixItems", json!([inner(random)])),
            12 => ("minItems", json!(random.u8(0..3))),
            13 => ("uniqueItems", json!(true)),
            14 => ("contains", inner(random)),
            15 | 16 => ("properties", json!({ name(random): inner(random), "b": inner(random) })),
            17 => ("required", json!([name(random)])),
            18 => ("additionalProperties", inner(random)),
            19 => ("patternProperties", json!({ "^a": inner(random) })),
            20 => ("anyOf", json!([inner(random), inner(random)])),
            21 => ("oneOf", json!([inner(random), inner(random)])),
            22 => ("allOf", json!([inner(random), inner(random)])),
            23 => ("not", inner(random)),
            24 => ("dependentRequired", json!({ "a": [name(random)] })),
            _ => {
                schema["then"] = inner(random);
                schema["else"] = inner(random);
                ("if", inner(random))
            }
        };
        schema[keyword] = value;
    }
    schema
}

#[test]
fn what_fits_a_schema_is_what_another_validator_lets_pass() {
    let mut random = fastrand::Rng::with_seed(15);
    let types = plugins::all().into_iter().flat_map(|plugin| plugin.types);
    let validate = types.into_iter().find(|node_type| node_type.name() == "validate").unwrap();
    let mut cases = Vec::new();
    while cases.len() < SCHEMAS {
        let schema = schema(&mut random, 3);
        if schema.as_object().is_some_and(|schema| !schema.is_empty()) {
            let values: Vec<Value> = (0..VALUES).map(|_| value(&mut random, 2)).collect();
            cases.push((schema, values));
        }
    }
    let mut other = Command::new(python())
        .args(["-c", VALIDATE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let lines: Vec<String> = cases.iter().map(|case| json!(case).to_string()).collect();
    let mut stdin = other.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(lines.join("\n").as_bytes()));
    let answer = other.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    let answers = String::from_utf8(answer.stdout).unwrap();
    let (mut fits, mut all) = (0, 0);
    for ((schema, values), answer) in cases.iter().zip(answers.lines()) {
        let expected: Vec<bool> = serde_json::from_str(answer).unwrap();
        let mut rig = Rig::new(&*validate, &json!({ "schema": schema }).to_string());
        for (value, expected) in values.iter().zip(expected) {
            let found = rig.send(Message::new("a", value.clone()));
            assert_eq!(found.is_ok(), expected, "{schema} {value}: {found:?}", found = found.err());
            fits += u32::from(expected);
            all += 1;
        }
    }
    assert_eq!(all as usize, SCHEMAS * VALUES, "all were answered");
    assert!(fits > all / 5 && fits < all * 4 / 5, "{fits} of {all} fit");
}
