use forebay_sdk::{
    Message, Value,
    testing::{Rig, configure},
};
use serde_json::json;

use super::{plugin, validate};

/// What is said of a payload; nothing when it passes.
fn said(schema: Value, payload: Value) -> String {
    let settings = json!({ "schema": schema }).to_string();
    match Rig::new(&validate(), &settings).send(Message::new("a", payload)) {
        Ok(sent) => {
            assert_eq!(sent.len(), 1);
            String::new()
        }
        Err(error) => error,
    }
}

#[test]
fn what_does_not_fit_says_where_and_why() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A reading",
        "type": "object",
        "required": ["id", "power"],
        "properties": {
            "id": { "type": "string", "pattern": "^m[0-9]+$", "maxLength": 4 },
            "power": { "type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 5000 },
            "phases": { "type": "array", "minItems": 3, "items": { "$ref": "#/$defs/volts" } },
            "state": { "enum": ["on", "off", 1] },
        },
        "additionalProperties": false,
        "$defs": { "volts": { "type": "number", "multipleOf": 0.1 } },
    });
    let check = |payload: Value, says: &str| assert_eq!(said(schema.clone(), payload), says);
    check(json!({ "id": "m1", "power": 0, "phases": [0.1, 230.3, 0.3], "state": 1.0 }), "");
    check(json!({ "id": "m1", "power": null }), "");
    check(json!({ "power": 1 }), "`id` is missing");
    check(json!(5), "payload is 5; expected a map");
    check(
        json!({ "id": "x", "power": -1, "state": "onn" }),
        "`id` is \"x\"; expected a text that fits `^m[0-9]+$`; `power` is -1; expected at least 0; \
         `state` is \"onn\"; expected \"on\" or \"off\" or 1",
    );
    check(json!({ "id": "m1", "power": 5000 }), "`power` is 5000; expected less than 5000");
    check(json!({ "id": "m1", "power": "5" }), "`power` is \"5\"; expected null or a number");
    check(
        json!({ "id": "m1", "pwoer": 1 }),
        "`power` is missing; `pwoer` is not known; did you mean `power`?",
    );
    check(
        json!({ "id": "m1234", "power": 1, "phases": [1, 230.25] }),
        "`id` has 5 characters; expected at most 4; `phases` has 2 items; expected at least 3; \
         `phases[1]` is 230.25; expected a multiple of 0.1",
    );
}

#[test]
fn schemas_are_combined() {
    for (schema, fits, does_not, says) in [
        (
            json!({ "anyOf": [{ "type": "string" }, { "minimum": 5 }] }),
            json!(6),
            json!(4),
            "payload fits none of `anyOf`",
        ),
        (
            json!({ "oneOf": [{ "minimum": 5 }, { "maximum": 6 }] }),
            json!(7),
            json!(5),
            "payload fits 2 of `oneOf`; expected one",
        ),
        (
            json!({ "not": { "const": 0 } }),
            json!(1),
            json!(0.0),
            "payload fits what stands in `not`",
        ),
        (
            json!({ "allOf": [{ "minimum": 1 }, { "maximum": 2 }] }),
            json!(2),
            json!(3),
            "payload is 3; expected at most 2",
        ),
        (
            json!({ "if": { "required": ["a"] }, "then": { "required": ["b"] }, "else": { "required": ["c"] } }),
            json!({ "c": 1 }),
            json!({ "a": 1 }),
            "`b` is missing",
        ),
        (
            json!({ "dependentRequired": { "lat": ["lon"] } }),
            json!({}),
            json!({ "lat": 1 }),
            "`lon` is missing, which goes with `lat`",
        ),
        (
            json!({ "patternProperties": { "^t": { "type": "number" } } }),
            json!({ "t1": 1 }),
            json!({ "t1": "x" }),
            "`t1` is \"x\"; expected a number",
        ),
        (
            json!({ "propertyNames": { "maxLength": 2 } }),
            json!({ "ab": 1 }),
            json!({ "abc": 1 }),
            "`abc` has a name that does not fit",
        ),
        (
            json!({ "prefixItems": [{ "type": "string" }], "items": false }),
            json!(["a"]),
            json!(["a", 1]),
            "`[1]` must not be there",
        ),
        (
            json!({ "contains": { "const": 1 } }),
            json!([0, 1]),
            json!([0]),
            "payload has no item of the kind that `contains` asks for",
        ),
        (
            json!({ "uniqueItems": true }),
            json!([1, "1", { "a": 1, "b": 2 }]),
            json!([{ "a": 1, "b": 2 }, { "b": 2.0, "a": 1 }]),
            "payload has the same at 0 and 1",
        ),
        (
            json!({ "type": "integer" }),
            json!(1.0),
            json!(1.5),
            "payload is 1.5; expected a whole number",
        ),
        (
            json!({ "minProperties": 1 }),
            json!({ "a": 1 }),
            json!({}),
            "payload has 0 members; expected at least 1",
        ),
        (
            json!({ "$ref": "#/$defs/tree", "$defs": { "tree": { "properties": { "down": { "$ref": "#/$defs/tree" }, "n": { "type": "number" } } } } }),
            json!({ "down": { "down": { "n": 1 } } }),
            json!({ "down": { "down": { "n": "x" } } }),
            "`down.down.n` is \"x\"; expected a number",
        ),
        (
            json!({ "maximum": 9_007_199_254_740_993_u64 }),
            json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_994_u64),
            "payload is 9007199254740994; expected at most 9007199254740993",
        ),
    ] {
        assert_eq!(said(schema.clone(), fits), "", "{schema}");
        assert_eq!(said(schema.clone(), does_not), says, "{schema}");
    }
}

#[test]
fn a_field_is_checked_and_what_fits_passes_as_it_came() {
    let text = r#"{ "r": {"a":1E5} }"#;
    let settings = "{ field: r, schema: { required: [a] } }";
    let mut rig = Rig::new(&validate(), settings);
    let came = forebay_sdk::Payload::encoded(text, forebay_sdk::Format::Json);
    let sent = rig.send(Message::new("a", came)).unwrap();
    assert_eq!(sent[0].1.message.payload.to_bytes(forebay_sdk::Format::Json), text);
    let error = rig.send(Message::new("a", json!({ "r": {} }))).unwrap_err();
    assert_eq!(error, "`r.a` is missing");
    let error = rig.send(Message::new("a", json!({}))).unwrap_err();
    assert_eq!(error, "`r` is missing, which is to be checked");
}

#[test]
fn no_schema_takes_without_end() {
    let itself = json!({ "$ref": "#" });
    assert!(said(itself, json!(1)).contains("a schema that refers to itself"));
    let wide = json!({ "anyOf": [{ "$ref": "#" }, { "$ref": "#" }, { "type": "string" }] });
    let error = said(wide, json!(1));
    assert_eq!(error, "it takes more than 1000000 checks");
    let many = vec![json!("x"); 200];
    let error = said(json!({ "items": { "type": "number" } }), many.into());
    assert!(error.ends_with("; and 95 more"), "{error}");
}

#[test]
fn what_is_wrong_is_said() {
    for (schema, says) in [
        ("{}", "a `schema` that says nothing fits everything"),
        ("{ minimun: 5 }", "did you mean `minimum`?"),
        ("{ properties: { a: { format: date, tpye: string } } }", "did you mean `type`?"),
        ("{ unevaluatedProperties: false }", "is no keyword that is checked here"),
        ("{ type: float }", "`type` is none: `float`"),
        ("{ pattern: '(' }", "`pattern` is no regular expression"),
        ("{ $ref: '#/$defs/x' }", "`$ref` names `#/$defs/x`, which is not in the schema"),
        ("{ $ref: other.json }", "expected a place in it"),
        ("{ minimum: five }", "`minimum` is a text"),
        ("{ multipleOf: 0 }", "`multipleOf` is no number above 0"),
        ("{ required: a }", "it is no list of names"),
        ("{ items: 5 }", "`schema.items` is no schema"),
        ("{ anyOf: {} }", "`anyOf` is a map"),
    ] {
        let found = format!("{:?}", configure(&validate(), &format!("schema: {schema}")).err());
        assert!(found.contains(says), "{schema}: {found}");
    }
    assert!(plugin().sample.contains("type: validate"));
}
