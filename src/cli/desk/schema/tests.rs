//! What an editor is told of things that stand for several nodes.

use super::*;
use crate::config::example;

#[test]
fn what_stands_for_several_nodes_is_in_the_schema() {
    let schema = pipeline(&Types::new(vec![example::plugin()]));
    let pairs = &schema["properties"]["pairs"];
    assert_eq!(pairs["additionalProperties"]["$ref"], "#/$defs/pair");
    let pair = &schema["$defs"]["pair"];
    assert_eq!(pair["required"], json!(["links"]));
    assert!(pair["properties"]["links"].is_object() && pair["properties"]["type"].is_null());

    let transforms = &schema["properties"]["transforms"]["additionalProperties"];
    assert_eq!(transforms["properties"]["type"]["enum"], json!(["pass", "chain"]));
    let chain = &schema["$defs"]["transform-chain"];
    assert_eq!(chain["required"], json!(["type", "steps", "from"]));
    for common in ["type", "from", "buffer", "state"] {
        assert!(chain["properties"][common].is_object(), "{common}");
    }
}

#[test]
fn our_own_marks_are_not_published() {
    let schema = pipeline(&Types::new(vec![example::plugin()])).to_string();
    assert!(!schema.contains(NEEDED), "{schema}");
}
