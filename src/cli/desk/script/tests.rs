use std::fs;

use serde_json::json;

use super::*;

fn of_file(text: &str, payloads: &[&str], outputs: &[&str]) -> Vec<Result<String, String>> {
    let payloads: Vec<String> = payloads.iter().map(ToString::to_string).collect();
    let outputs: Vec<String> = outputs.iter().map(ToString::to_string).collect();
    let Understood { configured, findings, .. } =
        understood("x.rhai", text, Map::new(), &outputs).unwrap();
    let Some(configured) = configured else { return vec![Err(findings[0].message.clone())] };
    let mut tried = tried(&*configured).unwrap();
    let mut came = Vec::new();
    for message in messages(&payloads, "t", None).unwrap() {
        match tried.send(message) {
            Ok(made) => {
                came.extend(made.iter().map(|(output, one)| Ok(shown(output, one, Format::Text))))
            }
            Err(error) => came.push(Err(said(&error, "x.rhai"))),
        }
    }
    came
}

#[test]
fn a_script_is_tried_on_messages_one_after_the_other() {
    let text = "state.n = (state.n ?? 0) + 1;\nif state.n == 2 { emit(\"odd\", msg); }\nmsg.payload.n = state.n;\nmsg";
    let came = of_file(text, &[r#"{"a":1}"#, "{}"], &["odd"]);
    let expected =
        [r#"t {"a":1,"n":1}"#, "odd: t {}", r#"t {"n":2}"#].map(|line| Ok(line.to_owned()));
    assert_eq!(came, expected);
}

#[test]
fn an_error_has_its_place_and_the_values_that_it_had() {
    let came = of_file("let a = 1;\nmsg.payload.x / msg.payload.y", &[r#"{"x":5,"y":0}"#], &[]);
    assert_eq!(came.len(), 1);
    let error = came[0].clone().unwrap_err();
    assert!(error.starts_with("x.rhai:2:15: division by zero: 5 / 0"), "{error}");
    assert!(error.ends_with("(msg.payload.x = 5, msg.payload.y = 0)"), "{error}");
    assert_eq!(
        of_file("msg.payload.a = b; msg", &[], &[]),
        [Err("script has no variable `b`".to_owned())]
    );
}

#[test]
fn lines_share_their_state_and_what_they_change() {
    let mut state = json!({});
    let mut message = Message::new("t", json!({ "a": 2 }));
    let mut line = |text: &str| {
        let (it, left_state, left) = run_line(text, &Map::new(), &state, &message)?;
        (state, message) = (left_state, left);
        Ok::<_, String>(it)
    };
    assert_eq!(line("msg.payload.a * 3"), Ok(json!(6)));
    assert_eq!(line("state.x = 5;"), Ok(json!(null)));
    assert_eq!(line("msg.payload.b = state.x + 1; msg.payload"), Ok(json!({ "a": 2, "b": 6 })));
    assert_eq!(line("msg.payload.b"), Ok(json!(6)));
    assert!(line("1 +").unwrap_err().contains("script cannot be read"));
    assert!(line("1 / 0").unwrap_err().contains("division by zero"));
    assert_eq!(line("state.x"), Ok(json!(5)));
}

#[test]
fn recorded_messages_have_their_topic_time_and_meta() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    let lines = "{\"topic\":\"a/b\",\"time\":\"2026-11-21T09:14:02.120Z\",\"payload\":{\"x\":1},\"meta\":{\"source\":\"p/m\",\"q\":1}}\n\n{\"x\":2}\n";
    fs::write(&path, lines).unwrap();
    let read = messages(&[], "t", Some(&path)).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!(
        (&*read[0].topic, read[0].time.to_rfc3339().as_str()),
        ("a/b", "2026-11-21T09:14:02.120Z")
    );
    assert_eq!(read[0].meta.source.as_deref(), Some("p/m"));
    assert_eq!(read[0].meta.get("q"), Some(&json!(1)));
    assert_eq!((&*read[1].topic, read[1].payload.value()), ("t", Ok(&json!({ "x": 2 }))));
    fs::write(&path, "{oops").unwrap();
    let error = format!("{:#}", messages(&[], "t", Some(&path)).unwrap_err());
    assert!(error.contains("x.jsonl:1: expected a line of JSON"), "{error}");
}
