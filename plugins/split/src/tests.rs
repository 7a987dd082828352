use forebay_sdk::{
    Message, Outcome,
    testing::{Rig, configure},
};
use serde_json::{Value, json};

use super::{plugin, split};

fn goes(settings: &str, payload: Value) -> Result<Vec<Value>, String> {
    let sent = Rig::new(&split(), settings).send(Message::new("site/a", payload))?;
    let payload = |message: &Message| message.payload.value().unwrap().clone();
    Ok(sent.iter().map(|(_, envelope)| payload(&envelope.message)).collect())
}

#[test]
fn each_item_is_a_message() {
    assert_eq!(goes("{}", json!([1, "a", null])), Ok(vec![json!(1), json!("a"), json!(null)]));
    assert_eq!(goes("field: a.b", json!({ "a": { "b": [1, 2] } })), Ok(vec![json!(1), json!(2)]));
    assert_eq!(goes("{}", json!({ "x": 1, "y": 2 })), Ok(vec![json!(1), json!(2)]));
    assert_eq!(goes("field: '.'", json!([])), Ok(vec![]));
}

#[test]
fn an_item_stands_beside_the_rest() {
    let came = json!({ "site": "a", "meters": { "m1": { "w": 1 }, "m2": { "w": 2 } } });
    let of = |name: &str, w: u8| json!({ "site": "a", "meter": { "w": w }, "id": name });
    let settings = "field: meters\ninto: meter\nkey: id";
    assert_eq!(goes(settings, came.clone()), Ok(vec![of("m1", 1), of("m2", 2)]));
    let bare = |name: &str, w: u8| json!({ "w": w, "id": name });
    assert_eq!(goes("field: meters\nkey: id", came), Ok(vec![bare("m1", 1), bare("m2", 2)]));
    let list = json!({ "list": [5] });
    let settings = "field: list\ninto: item\nkey: n";
    assert_eq!(goes(settings, list), Ok(vec![json!({ "item": 5, "n": 0 })]));
}

#[test]
fn a_text_is_split_where_it_is_said() {
    let texts = Ok(vec![json!("a"), json!(""), json!("b")]);
    assert_eq!(goes(r#"separator: "\n""#, json!("a\n\nb\n")), texts);
    let lines = goes(r#"{ field: t, separator: ";", into: line }"#, json!({ "t": "a;b", "x": 1 }));
    assert_eq!(lines, Ok(vec![json!({ "x": 1, "line": "a" }), json!({ "x": 1, "line": "b" })]));
}

#[test]
fn what_cannot_be_split_is_an_error_that_says_why() {
    for (settings, payload, says) in [
        ("field: a", json!({}), "`a` is missing, which is to be split"),
        ("field: a", json!({ "a": 5 }), "`a` is a number; expected a list or a map"),
        (
            "field: a",
            json!({ "a": "x" }),
            "`a` is a text, and no `separator` says where to split it",
        ),
        ("field: a\nkey: n", json!({ "a": [5] }), "an item of `a` is a number"),
        ("{}", Value::from(vec![0; 10_001]), "the node sent more than 10000 messages at once"),
    ] {
        let error = goes(settings, payload).unwrap_err();
        assert!(error.starts_with(says), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_message_is_delivered_once_all_of_its_items_are() {
    let mut rig = Rig::new(&split(), "{}");
    let (sent, receipt) = rig.send_tracked(Message::new("a", json!([1, 2])));
    let mut sent = sent.unwrap();
    assert!(sent.iter().all(|(_, envelope)| envelope.delivery.is_some()));
    let (_, last) = sent.pop().unwrap();
    sent.into_iter().filter_map(|(_, envelope)| envelope.delivery).for_each(|one| one.settle());
    drop(last);
    assert_eq!(receipt.await, Outcome::Lost);
    let (none, receipt) = rig.send_tracked(Message::new("a", json!([])));
    assert_eq!(none.unwrap().len(), 0);
    assert_eq!(receipt.await, Outcome::Delivered);
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("into: a", "the whole payload is split"),
        ("field: a\ninto: b.c", "expected a name such as `reading`"),
        ("field: a\ninto: b\nkey: b", "have one name"),
        ("field: a[0].b\ninto: c", "expected a name such as `meter.phases`"),
        ("separator: ''", "`separator`"),
    ] {
        let found = format!("{:?}", configure(&split(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    assert!(plugin().sample.contains("type: split"));
}
