use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Emitter, Fields, Format, Input, Level, Message, Node, Payload, Port, Problem, Saved, Sends,
    Site, Timestamp, Transform, testing,
};
use serde_json::{Value, json};

use super::{plugin, script};
use crate::{
    fields, host,
    host::{Limits, Needs, Operators},
    lint::{self, Around},
    modules::Modules,
    own_settings::OwnSettings,
    transform::{Program, ScriptNode},
    uses::StateUse,
};

/// Optimized code needs a quarter of it.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 8 << 20 } else { 2 << 20 };

const TIME_NANOS: i64 = 1_795_000_000_123_456_789;

const OUTPUTS: [&str; 2] = ["low", "high"];

// Limits that the clock sets depend on the machine; most of these tests do not.
const LIMITS: Limits = Limits { max_operations: 100_000, timeout: Duration::from_secs(60) };

fn outputs() -> Vec<String> {
    OUTPUTS.map(str::to_owned).to_vec()
}

/// What is wrong with a script.
fn lint(script: &str) -> Vec<Problem> {
    lint::compile(script, &outputs()).1
}

fn errors(script: &str) -> Vec<Problem> {
    lint(script).into_iter().filter(|problem| problem.level == Level::Error).collect()
}

fn program(script: &str, limits: Limits) -> Option<Program> {
    let (written, _) = lint::script(script, &[], &Around::script(&outputs()));
    Some(Program::new(written?, &OwnSettings::new(), outputs().into(), limits))
}

fn node_at(site: &Site, script: &str) -> ScriptNode {
    let program = program(script, LIMITS).unwrap_or_else(|| panic!("{script} compiles"));
    ScriptNode::new(Arc::new(program), site)
}

fn node(script: &str) -> ScriptNode {
    node_at(&testing::site(None), script)
}

/// The same without the shortcut for the fields in use.
fn whole(script: &str) -> ScriptNode {
    let program = program(script, LIMITS).expect("it compiles").without_projection();
    ScriptNode::new(Arc::new(program), &testing::site(None))
}

fn message(payload: Payload) -> Message {
    let mut message = Message::new("site/a", payload);
    message.time = Timestamp::from_unix_nanos(TIME_NANOS);
    message.meta.source = Some("test/meter".into());
    message.meta.insert("quality", "good");
    message
}

fn json_message(payload: &str) -> Message {
    message(Payload::encoded(payload.to_owned(), Format::Json))
}

fn run(node: &mut impl Transform, message: Message) -> Result<Vec<(Port, Message)>, String> {
    let mut out = Emitter::default();
    let input = Input { message, from: "meter".into() };
    node.apply(input, &mut out).map_err(|error| format!("{error:#}"))?;
    Ok(out.drain().map(|(port, envelope)| (port, envelope.message)).collect())
}

/// Each message as a line: output, topic and payload.
fn shown(result: &Result<Vec<(Port, Message)>, String>) -> String {
    match result {
        Err(error) => format!("error: {error}"),
        Ok(messages) => {
            let line = |(port, message): &(Port, Message)| {
                let payload = message.payload.to_bytes(Format::Json);
                format!("{} {} {}", port.0, message.topic, String::from_utf8_lossy(&payload))
            };
            messages.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

/// The payload that leaves by the main output, or the error.
#[track_caller]
fn check(script: &str, payload: &str, expected: &str) {
    assert_eq!(Vec::<Problem>::new(), errors(script), "{script}");
    let result = run(&mut node(script), json_message(payload));
    let shown = shown(&result).replace("0 site/a ", "");
    assert_eq!(shown, expected, "{script}");
}

#[test]
fn what_is_not_used_only_has_to_be_json() {
    let script = "msg.payload = #{ a: msg.payload.a }; msg";
    check(script, r#"{"a":1,"b":1e999,"a":2}"#, r#"{"a":2}"#);
    check(script, "5", {
        "error: line 1, column 33: `msg.payload` is a whole number, so it has no field `a`"
    });
    check(script, r#"{"a":1,"b":[}"#, {
        "error: payload is not JSON: expected value at line 1 column 13"
    });
}

#[test]
fn a_text_or_number_that_a_script_makes_leaves_without_quotes_where_bytes_are_wanted() {
    for (script, expected) in [("`on`", "on"), ("21.5", "21.5"), ("[`on`]", r#"["on"]"#)] {
        let script = format!("msg.payload = {script}; msg");
        let made = run(&mut node(&script), json_message("{}")).unwrap();
        assert_eq!(made[0].1.payload.to_bytes(Format::Bytes), expected);
    }
}

#[test]
fn what_stands_beside_a_changed_field_leaves_digit_by_digit() {
    let came = r#"{"id":18446744073709551616,"price":1.10,"t":"gr\u00fcn","a":{"x":1.50,"y":2},"z":[ 1 ]}"#;
    check("msg.payload.z = 3; msg", came, &came.replace("[ 1 ]", "3"));
    check("msg.payload.a.y = 3; msg", came, &came.replace(r#""y":2"#, r#""y":3"#));
    check("msg.payload.a.y = 2; msg", came, came);
    check("msg.payload.b = 3; msg", r#"{"a":1,"b":2,"b":4}"#, r#"{"a":1,"b":3}"#);
    check("msg.payload.b += 1; msg", r#"{"b":2,"a":1,"b":4}"#, r#"{"b":5,"a":1}"#);
    check("if false { msg.payload.b = 1; } msg", r#"{"b":2,"b":4}"#, r#"{"b":2,"b":4}"#);
}

#[test]
fn a_payload_used_as_a_whole_rewrites_no_field_that_nobody_touched() {
    let came = r#"{"id":123456789012345678901234567890,"e":1E5,"m":-0,"t":"gr\u00fcn","a":{"x":1.50,"y":2},"h":"\ud800","z":[ 1.0, 1e400 ],"n":{"q" : null}}"#;
    for script in [
        "if \"z\" in msg.payload { msg.payload.z } msg",
        "msg.payload.len(); msg",
        "let p = msg.payload; msg.payload = p; msg",
        "let p = msg.payload; #{ payload: p }",
        "msg.payload.keys(); msg.payload.values(); msg",
        "for k in msg.payload.keys() { msg.payload[k] = msg.payload[k]; } msg",
        "msg.payload.a.y += 0; msg.payload.contains(\"a\"); msg",
    ] {
        check(script, came, came);
    }
    let whole = |change: &str| format!("let p = msg.payload; {change}; msg.payload = p; msg");
    for (change, old, new) in [
        ("p.a.y = 3", r#""y":2"#, r#""y":3"#),
        ("p.z[0] = 7", "[ 1.0, 1e400 ]", "[7,1e400]"),
        ("p.z.push(2)", "[ 1.0, 1e400 ]", "[1.0,1e400,2]"),
        ("p.z.insert(0, 2)", "[ 1.0, 1e400 ]", "[2,1.0,1e400]"),
        ("p.z.remove(0)", "[ 1.0, 1e400 ]", "[1e400]"),
        ("p.z = 5", "[ 1.0, 1e400 ]", "5"),
        ("p.remove(\"id\")", r#""id":123456789012345678901234567890,"#, ""),
        ("p.n.r = true", r#"{"q" : null}"#, r#"{"q":null,"r":true}"#),
        ("p.t = `blau`", r#""gr\u00fcn""#, r#""blau""#),
    ] {
        check(&whole(change), came, &came.replace(old, new));
    }
    let y = came.replace(r#""y":2"#, r#""y":3"#);
    check("msg.payload[\"a\"].y = 3; msg.payload.len(); msg", came, &y);
    // What is no map passes, too.
    for came in ["[1E5, 123456789012345678901234567890]", r#""gr\u00fcn""#, r#"[1.10,{"a":-0}]"#] {
        check("if \"z\" in msg.payload { msg } else { msg }", came, came);
        check("msg.payload.len(); msg", came, came);
        check("let p = msg.payload; p; msg", came, came);
    }
    let list = "[1E5, 123456789012345678901234567890]";
    check("let p = msg.payload; msg.payload = p; msg", list, list);
    check("msg.payload[0] = 2; msg", "[1E5, 1E5,[ -0 ]]", "[2,1E5,[ -0 ]]");
    check("msg.payload.len(); msg", r#"{"b":2,"b":4.0}"#, r#"{"b":2,"b":4.0}"#);
    check("msg.payload.len(); msg.payload.c = 1; msg", r#"{"b":2,"b":4}"#, r#"{"b":4,"c":1}"#);
    check("msg.payload.b.y = 1; msg", r#"{"b":{"x":1,"x":2E1}}"#, r#"{"b":{"x":2E1,"y":1}}"#);
    let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
    check("let p = msg.payload; msg", &deep, {
        "error: payload is nested more than 128 levels deep, which is too deep for a script"
    });
}

#[test]
fn to_json_makes_json_of_everything() {
    let text = "\"x\\u00a0\\u007f\\t\\\\ü\"";
    for (made, json) in [
        (format!("to_json(#{{ name: {text} }})"), "{\"name\":\"x\u{a0}\u{7f}\\t\\\\ü\"}"),
        (format!("#{{ name: {text} }}.to_json()"), "{\"name\":\"x\u{a0}\u{7f}\\t\\\\ü\"}"),
        (format!("let m = #{{ name: [{text}] }}; m.to_json()"), {
            "{\"name\":[\"x\u{a0}\u{7f}\\t\\\\ü\"]}"
        }),
        ("[1, 2.0, (), true, 'x'].to_json()".to_owned(), r#"[1,2.0,null,true,"x"]"#),
        ("to_json(msg.payload)".to_owned(), "{}"),
        ("#{ f: 0.0 / 0.0, b: blob(1, 7) }.to_json()".to_owned(), r#"{"b":[7],"f":null}"#),
        ("`a`.to_json()".to_owned(), r#""a""#),
        ("(5).to_json()".to_owned(), "5"),
        ("().to_json()".to_owned(), "null"),
    ] {
        let script = format!("let j = {{ {made} }}; msg.payload = j; parse_json(j); msg");
        check(&script, "{}", &Value::from(json).to_string());
    }
    check("to_json(#{ f: |x| x })", "{}", {
        "error: line 1, column 1: a function, which a message cannot hold"
    });
    let long =
        "let m = #{}; for i in 0..5 { let t = ``; t.pad(60000, 'x'); m[`${i}`] = t; } to_json(m)";
    check(long, "{}", "error: line 1, column 78: a text grew beyond 65536 bytes");
}

#[test]
fn a_script_changes_what_it_names_and_keeps_the_rest() {
    check("msg", r#"{ "b":1, "a":2.50 }"#, r#"{ "b":1, "a":2.50 }"#);
    check("msg.payload.a; msg", r#"{ "b":1, "a":2.50 }"#, r#"{ "b":1, "a":2.50 }"#);
    check("msg.payload.a = 3; msg", r#"{"z":1,"a":2,"b":4}"#, r#"{"z":1,"a":3,"b":4}"#);
    check("msg.payload.c = 3; msg", r#"{"z":1,"a":2}"#, r#"{"z":1,"a":2,"c":3}"#);
    check("msg.payload.o.x += 1; msg", r#"{"o":{"y":2,"x":1}}"#, r#"{"o":{"y":2,"x":2}}"#);
    check("msg.payload.l.push(3); msg", r#"{"l":[1,2],"k":0}"#, r#"{"l":[1,2,3],"k":0}"#);
    check(r#"msg.payload["a b"] = 1; msg"#, "{}", r#"{"a b":1}"#);
    check(r#"msg.payload.remove("a"); msg"#, r#"{"z":1,"a":2,"b":4}"#, r#"{"z":1,"b":4}"#);
    check("msg.payload = #{ b: 1, a: 2 }; msg", r#"{"z":1}"#, r#"{"a":2,"b":1}"#);
    check("msg.payload = msg.payload.a; msg", r#"{"a":[1]}"#, "[1]");
    check("msg.payload += #{ b: 1 }; msg", r#"{"a":2}"#, r#"{"a":2,"b":1}"#);
    check("#{ payload: msg.payload.a * 2 }", r#"{"a":2}"#, "4");
    check("msg.payload = `${msg.topic}!`; msg", "1", r#""site/a!""#);
    check("msg.payload *= 2; msg", "21", "42");
    check("msg.payload[1] = 5; msg", "[1,2,3]", "[1,5,3]");
    check(
        "msg.payload.a ?? 7; msg",
        "[1]",
        "error: line 1, column 13: `msg.payload` is a list, so it has no field `a`",
    );
}

#[test]
fn numbers_keep_their_kind() {
    check("msg.payload.a += 1; msg", r#"{"a":1,"b":1.0}"#, r#"{"a":2,"b":1.0}"#);
    check("msg.payload.b += 1; msg", r#"{"a":1,"b":1.0}"#, r#"{"a":1,"b":2.0}"#);
    check(
        "msg.payload.b = msg.payload.a; msg",
        r#"{"a":18446744073709551615}"#,
        r#"{"a":18446744073709551615,"b":1.8446744073709552e+19}"#,
    );
    check("msg.payload.a = 1.0 / 0.0; msg", r#"{"a":1}"#, r#"{"a":null}"#);
    check("msg.payload.a = (0.0 / 0.0); msg", r#"{"a":1}"#, r#"{"a":null}"#);
    check("msg.payload.a = (); msg", r#"{"a":1}"#, r#"{"a":null}"#);
    check("msg.payload.b = msg.payload.a ?? 4; msg", r#"{"a":null}"#, r#"{"a":null,"b":4}"#);
    check("msg.payload = round(2.346, 2); msg", "0", "2.35");
    check("msg.payload = round(7, 2); msg", "0", "7");
    check("msg.payload = round(2.5); msg", "0", "3.0");
}

#[test]
fn what_depends_on_how_a_number_is_written_is_as_the_readme_says() {
    check("msg.payload = 1500 / 1000; msg", "0", "1");
    check("msg.payload = 1500.0 / 1000; msg", "0", "1.5");
    check("msg.payload.k = msg.payload.w / 1000.0; msg", r#"{"w":1500}"#, r#"{"w":1500,"k":1.5}"#);
    check("switch msg.payload { 1.0 => emit(\"low\", msg), _ => () }", "1", "");
    check("if msg.payload == 1.0 { msg }", "1", "1");
    check("msg.payload = \"85\" > 80; msg", "0", "false");
    check("msg.payload = parse_float(\"85\") > 80.0; msg", "0", "true");
    check("msg.payload = \"85\" + 1; msg", "0", r#""851""#);
}

#[test]
fn a_script_sends_none_one_or_many() {
    check("()", "1", "");
    check("msg.payload.a = 1;", "{}", "");
    check("if msg.payload > 3 { msg }", "1", "");
    check("if msg.payload > 3 { msg }", "4", "4");
    check("[msg, #{ payload: 2 }]", "1", "1\n2");
    check("[]", "1", "");
    check("msg.payload.map(|x| #{ payload: x })", "[1,2]", "1\n2");
    check("return [msg]; 3", "1", "1");
    check("#{ topic: `${msg.topic}/b`, payload: 2 }", "1", "0 site/a/b 2");
}

#[test]
fn emit_sends_to_an_output() {
    check(r#"emit("high", msg); ()"#, "1", "3 site/a 1");
    check(r#"emit("low", [msg, #{ payload: 2 }]); msg"#, "1", "2 site/a 1\n2 site/a 2\n1");
    check(
        r#"emit("low", msg); msg.payload.a = 2; msg"#,
        r#"{"a":1}"#,
        "2 site/a {\"a\":1}\n{\"a\":2}",
    );
    check(
        r#"emit(msg.payload, msg)"#,
        r#""hihg""#,
        "error: line 1, column 1: `outputs` does not have `hihg`, did you mean `high`?",
    );
    check(
        r#"emit("low", 3)"#,
        "1",
        "error: `emit` got a whole number; expected a message, a list of messages or ()",
    );
}

#[test]
fn a_script_reads_the_levels_of_the_topic_and_does_not_keep_them() {
    let mut message = json_message("{}");
    message.topic = "/site/a".into();
    let script =
        "msg.payload.levels = msg.meta.topic_levels; msg.meta.device = `x`; msg.topic = `t`; msg";
    let sent = run(&mut node(script), message.clone()).unwrap();
    let [(_, made)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(made.payload.value(), Ok(&json!({"levels": ["", "site", "a"]})));
    let names: Vec<_> = made.meta.entries().map(|(name, _)| name).collect();
    assert_eq!(names, ["device", "quality"]);
    let sent = run(&mut node("if msg.meta.topic_levels[1] == `site` { msg }"), message.clone());
    assert_eq!(sent.unwrap()[0].1, message);
}

#[test]
fn lint_hears_which_meta_a_script_reads_and_sends() {
    let meta = |script: &str| {
        let configured =
            testing::configure(&crate::script(), &format!("script: '{script}'")).unwrap();
        let Fields { reads, sends } = configured.meta();
        let reads: Vec<_> = reads.into_iter().map(|read| read.field).collect();
        let sends = match sends {
            Sends::Also(names) => Vec::from_iter(names).join(" "),
            other => format!("{other:?}"),
        };
        format!("{} > {sends}", reads.join(" "))
    };
    assert_eq!(meta("msg.topic = msg.meta.device; msg"), "device > ");
    assert_eq!(meta("msg.meta.a = msg.meta.b ?? 1; msg"), " > a");
    assert_eq!(meta("msg.meta = #{ a: 1 }; msg"), " > a");
    assert_eq!(meta("msg.meta[`x` + 1] = 1; msg"), " > Unknown");
    assert_eq!(meta("#{ payload: 1, meta: msg.meta }"), " > Unknown");
}

#[test]
fn what_a_message_says_about_itself_can_be_changed() {
    let mut changes = node(
        "msg.topic += `/b`; msg.time = msg.time + 1; msg.meta.unit = `K`; msg.meta.remove(`quality`); msg",
    );
    let sent = run(&mut changes, json_message("1")).unwrap();
    let message = &sent[0].1;
    assert_eq!(&*message.topic, "site/a/b");
    assert_eq!(message.time.unix_nanos(), 1_795_000_000_124_000_000_i64);
    assert_eq!(message.meta.source.as_deref(), Some("test/meter"));
    assert_eq!(message.meta.entries().collect::<Vec<_>>(), [("unit", &json!("K"))]);

    let mut reads = node("if msg.meta.source == `test/meter` && msg.time > 0 { msg }");
    let sent = run(&mut reads, json_message("1")).unwrap();
    assert_eq!(sent[0].1, json_message("1"), "time keeps its nanoseconds");
}

#[test]
fn state_lasts_from_message_to_message() {
    let mut counts = node("state.n = (state.n ?? 0) + 1; msg.payload = state.n; msg");
    let said: Vec<String> =
        ["5", "0", "7"].iter().map(|p| shown(&run(&mut counts, json_message(p)))).collect();
    assert_eq!(said, ["0 site/a 1", "0 site/a 2", "0 site/a 3"]);
}

/// What `state` is, as it would be written down.
fn state(node: &ScriptNode) -> Value {
    node.save().map(|saved| saved.value).unwrap_or_default()
}

#[test]
fn a_run_that_fails_has_changed_nothing() {
    // Each leaves `state` as it was made by the first message, whatever it fails by.
    for change in [
        "state.n += 1",
        "state.fresh = 1",
        "state.l.push(2)",
        "state.remove(\"n\")",
        "state = #{}",
        "state[msg.topic] = 1",
        "let f = |x| { state.n = x; }; f.call(5)",
        "push(state.l, 2); state.l += 3; state.l[0] = 5",
        "for k in state.keys() { state[k] = 0; }",
    ] {
        for failing in ["throw `x`", "1 / 0", "msg = 5", "emit(`low`, 1)", "loop {}"] {
            let first = "if msg.payload == 0 { state.n = 1; state.l = [1]; return; }";
            let script = format!("{first} {change}; {failing}; msg");
            let mut fails = node(&script);
            assert_eq!(run(&mut fails, json_message("0")), Ok(Vec::new()), "{script}");
            let before = state(&fails);
            assert_eq!(before, json!({"n": 1, "l": [1]}), "{script}");
            assert!(run(&mut fails, json_message("1")).is_err(), "{script}");
            assert_eq!(state(&fails), before, "{script}");
        }
    }
}

#[test]
fn a_message_that_ends_as_an_error_has_sent_nothing() {
    let mut fails = node(r#"emit("low", msg); if msg.payload == 1 { throw "x" } msg"#);
    assert!(run(&mut fails, json_message("1")).is_err());
    assert_eq!(shown(&run(&mut fails, json_message("2"))), "2 site/a 2\n0 site/a 2");
}

#[test]
fn errors_say_where_and_what() {
    #[track_caller]
    fn error(script: &str, expected: &str) {
        check(
            script,
            r#"{"a":1,"t":"x","l":[1],"n":null,"zero":0}"#,
            &format!("error: {expected}"),
        );
    }
    error("let x = 1;\n5 / msg.payload.zero", "line 2, column 3: division by zero: 5 / 0");
    error(
        "msg.payload.b + 1",
        "line 1, column 15: `msg.payload.b` is missing or null, so `+` cannot be used on it",
    );
    error(
        "1 + msg.payload.n",
        "line 1, column 3: `msg.payload.n` is missing or null, so `+` cannot be used on it",
    );
    error(
        "msg.payload.n.round()",
        "line 1, column 15: `msg.payload.n` is missing or null, so `round` cannot be used on it",
    );
    error(
        "msg.payload.b += 1;",
        "line 1, column 15: `msg.payload.b` is missing or null, so `+` cannot be used on it",
    );
    error(
        "msg.payload.b.c",
        "line 1, column 15: `msg.payload.b` is missing or null, so it has no field `c`",
    );
    error(
        "msg.payload.b.c = 1;",
        "line 1, column 15: `msg.payload.b` is missing or null, so it has no field `c`",
    );
    error(
        "msg.payload.t - 1",
        "line 1, column 15: `-` cannot be used on a text and a whole number",
    );
    error(
        "msg.payload.a.to_upper()",
        "line 1, column 15: `to_upper` cannot be used on a whole number",
    );
    error("msg.payload.l[3]", "line 1, column 15: the list has 1 value, none at 3");
    error(
        "msg.payload.a + 9223372036854775807",
        "line 1, column 15: addition overflow: 1 + 9223372036854775807",
    );
    error("fn f(x) {\n  x / 0\n}\nf(3)", "line 2, column 5: division by zero: 3 / 0");
    error("throw `too hot`", "line 1, column 1: too hot");
    error("throw", "line 1, column 1: the script threw an error");
    error(
        "parse_json(`{`)",
        "line 1, column 1: text is not JSON: EOF while parsing an object at line 1 column 1",
    );
    error(
        "msg.payload.a > 0",
        "the script returned true or false; expected a message, a list of messages or ()",
    );
    error(
        "[msg, 3]",
        "the script returned a whole number; expected a message, a list of messages or ()",
    );
    error(
        "msg.payload",
        "the script returned a map without `payload`; expected msg, or #{payload: ...}",
    );
    error(
        "#{ payload: 1, tpoic: `x` }",
        "the script returned a message with the field `tpoic`, did you mean `topic`?",
    );
    error(
        "msg.topic = 3; msg",
        "the script returned a message whose topic is a whole number; expected a text",
    );
    error(
        "msg.time = 1.5; msg",
        "the script returned a message whose time is a decimal number; expected milliseconds since 1970",
    );
    error(
        "msg.meta = 1; msg",
        "the script returned a message whose meta is a whole number; expected a map",
    );
    error(
        "msg.payload.f = |x| x; msg",
        "the script returned a function, which a message cannot hold",
    );
    check(
        "msg.payload.a; msg",
        "{oops",
        "error: payload is not JSON: key must be a string at line 1 column 2",
    );
    check("msg", "{oops", "{oops");
}

#[test]
fn a_text_with_a_missing_part_is_an_error_that_names_it() {
    #[track_caller]
    fn error(script: &str, expected: &str) {
        for payload in ["{}", r#"{"device":null,"b":null}"#] {
            let found = run(&mut node(script), json_message(payload)).unwrap_err();
            let words =
                found.strip_prefix("line 1, column ").and_then(|place| place.split_once(": "));
            assert_eq!(words.map(|(_, words)| words), Some(expected), "{script}: {found}");
        }
        let found = "{\"device\":\"x\",\"b\":\"y\"}";
        let result = shown(&run(&mut node(script), json_message(found)));
        assert!(!result.starts_with("error"), "{script}: {result}");
    }
    let plus = "`msg.payload.device` is missing or null, so `+` cannot be used on it";
    error("msg.topic = \"site/\" + msg.payload.device + \"/x\"; msg", plus);
    error("msg.topic = msg.payload.device + \"/x\"; msg", plus);
    error("let t = \"site/\"; msg.topic = t + msg.payload.device; msg", plus);
    error("msg.topic += msg.payload.device; msg", plus);
    error("msg.payload.device += \"/x\"; msg", plus);
    error("let t = `a`; t += msg.payload.device; msg", plus);
    error("fn f(d) { `a` + d } msg.topic = f(msg.payload.device); msg", {
        "`d` is missing or null, so `+` cannot be used on it"
    });
    error("let f = |d| \"a\" + d; msg.topic = f.call(msg.payload.device); msg", {
        "`d` is missing or null, so `+` cannot be used on it"
    });
    error("let t = `a`; t.append(msg.payload.device); msg", {
        "`msg.payload.device` is missing or null, so `append` cannot be used on it"
    });
    let text = "`msg.payload.device` is missing or null, so it cannot stand in a text";
    error("msg.topic = `site/${msg.payload.device}/x`; msg", text);
    error("msg.topic = `${msg.payload.b ?? 0}${msg.payload.device}`; msg", text);
    error("msg.payload.device.to_string(); msg", text);
    error("#{ payload: `${msg.payload.device}` }", text);
    error("fn f(d) { `a${d}` } msg.topic = f(msg.payload.device); msg", {
        "`d` is missing or null, so it cannot stand in a text"
    });
    // A default is enough, and to show it is fine.
    check("msg.topic = `a/${msg.payload.d ?? \"b\"}`; print(msg.payload.d); msg", "{}", "0 a/b {}");
    check("msg.payload.x = `${[()]} ${#{ a: () }}`; msg", "{}", r##"{"x":"[()] #{\"a\": ()}"}"##);
    // It ends the run and leaves the next alone.
    let mut twice = node("state.n = (state.n ?? 0) + 1; msg.topic = `${msg.payload.d}`; msg");
    let error =
        "line 1, column 49: `msg.payload.d` is missing or null, so it cannot stand in a text";
    assert_eq!(run(&mut twice, json_message("{}")), Err(error.to_owned()));
    assert_eq!(state(&twice), json!({}));
    assert_eq!(shown(&run(&mut twice, json_message(r#"{"d":"x"}"#))), r#"0 x {"d":"x"}"#);
}

#[test]
fn whatever_runs_away_is_stopped() {
    #[track_caller]
    fn stopped(script: &str, expected: &str) {
        // Values may be nested as deep as they are large. The program runs scripts on its main
        // thread, which has 8 MiB.
        let stack = std::thread::Builder::new().stack_size(STACK_BYTES);
        let script = script.to_owned();
        let thread = stack.spawn(move || run(&mut node(&script), json_message("{}"))).unwrap();
        let result = thread.join().unwrap();
        assert_eq!(shown(&result), format!("error: {expected}"));
    }
    stopped(
        "loop {}",
        "line 1, column 6: script ran for more than 100000 operations (`max_operations`)",
    );
    stopped(
        "fn f(n) { f(n + 1) } f(0)",
        "line 1, column 22: functions call each other more than 16 levels deep",
    );
    stopped("let s = `x`; loop { s += s }", "line 1, column 23: a text grew beyond 65536 bytes");
    stopped("let l = [1]; loop { l += l }", "line 1, column 23: a list grew beyond 4096 values");
    stopped("let l = []; loop { l.push(1) }", "line 1, column 22: a list grew beyond 4096 values");
    stopped(
        "let l = []; loop { l = [[[[[[[[l]]]]]]]] }",
        "line 1, column 32: a list grew beyond 4096 values",
    );
    stopped(
        "let m = #{}; loop { m = #{ m: #{ m: #{ m: #{ m: m } } } } }",
        "line 1, column 49: a map grew beyond 4096 values",
    );
    stopped(
        "let m = #{}; loop { m = #{ m: [[[[[[m]]]]]] } }",
        "line 1, column 33: a list grew beyond 4096 values",
    );
    stopped(
        "fn f(n) { [[[[f(n + 1)]]]] } f(0)",
        "line 1, column 30: functions call each other more than 16 levels deep",
    );
    stopped(
        "let s = `x`; while s.len() < 60000 { s += s } s.replace(`x`, s)",
        "line 1, column 49: a text grew beyond 65536 bytes",
    );
    stopped("let l = []; l.pad(100000000, 1)", "line 1, column 15: a list grew beyond 4096 values");
    stopped("loop { emit(`low`, msg) }", "line 1, column 8: more than 1000 messages for one");
    stopped(
        "let l = []; for i in 0..1001 { l.push(#{ payload: i }) } l",
        "the script returned more than 1000 messages for one",
    );
    stopped("sleep(10)", "line 1, column 1: a script cannot wait");
    stopped("Fn(`sleep`).call(10.0)", "line 1, column 13: a script cannot wait");
}

/// Scripts of every shape that the reading of the syntax tree tells apart.
const CORPUS: [&str; 58] = [
    "msg",
    "return msg;",
    "[msg, msg]",
    "()",
    "#{ payload: msg.payload }",
    "#{ payload: 1 }",
    "if msg.payload.a == 1 { msg } else { () }",
    "msg.payload.a",
    "msg.payload.a; msg",
    "msg.payload.a = 5; msg",
    "msg.payload.fresh = 5; msg",
    "msg.payload.o.x = 5; msg",
    "msg.payload.o.fresh = msg.payload.a; msg",
    "msg.payload[\"a\"] = 5; msg",
    "msg[\"payload\"][\"a\"] = 5; msg",
    "let k = \"a\"; msg.payload[k] = 5; msg",
    "msg.payload.l.push(4); msg",
    "msg.payload.l[0] = 9; msg",
    "msg.payload.l += 9; msg",
    "push(msg.payload.l, 4); msg",
    "msg.payload.remove(\"a\"); msg",
    "msg.payload.clear(); msg",
    "msg.payload = #{ n: msg.payload.a }; msg",
    "msg.payload = #{ n: 1 }; msg.payload.a = 2; msg",
    "if msg.payload.a == 1 { msg.payload = #{ n: 1 }; } msg.payload.b = 2; msg",
    "msg.payload = msg.payload; msg",
    "msg.payload += #{ n: 1 }; msg",
    "let m = msg; m.payload.a = 3; m",
    "let m = msg; m.payload.a = 3; msg",
    "let p = msg.payload; p.a = 3; msg.payload = p; msg",
    "let p = msg.payload; p.a = 3; #{ payload: p }",
    "\"a\" in msg.payload; msg",
    "if \"b\" in msg.payload { msg }",
    "msg.payload.keys().map(|k| #{ payload: k })",
    "for k in msg.payload.keys() { msg.payload[k] = 1; } msg",
    "fn f(m) { m.payload.a = 1; m } f(msg)",
    "fn f(p) { p.len() } msg.payload.n = f(msg.payload); msg",
    "fn f() { this.a = 7; } msg.payload.f(); msg",
    "fn f() { msg.payload.z } let x = f!(); msg",
    "let f = |x| x + msg.payload.a; msg.payload.a = f.call(1); msg",
    "switch msg.payload.a { 1 => msg, _ => [msg, msg] }",
    "switch msg.payload.a { 1 => { msg.payload.b = 0; msg } }",
    "let x = loop { break msg.payload; }; x.b = 1; #{ payload: x }",
    "loop { break msg }",
    "emit(\"low\", msg); msg.payload.a = 2; msg",
    "emit(\"low\", [msg]); ()",
    "emit(\"low\", #{ payload: msg.payload.o })",
    "emit(\"low\", #{ payload: msg })",
    "state.m = msg; state.m",
    "`${msg}`; msg",
    "msg == msg; msg",
    "try { msg.payload.a.b.c = 1; } catch { msg.payload.err = true; } msg",
    "let l = [#{ x: 1 }]; l[msg.payload.zero].x = 2; msg",
    "msg.payload.o.x.y = 1; msg",
    "msg?.payload?.a; msg",
    "msg.payload.big; msg.payload.copy = msg.payload.big; msg",
    "msg.payload.set_tag(3); msg",
    "let p = #{ n: 1 }; p.set_tag(1); #{ payload: p, q: msg.payload.a }",
];

const PAYLOADS: [&str; 8] = [
    r#"{"z":0,"a":1,"o":{"y":[1,{"q":1,"b":2}],"x":1},"l":[1,2,3],"zero":0,"big":18446744073709551615}"#,
    r#"{"l":[],"b":2.0,"a":"text"}"#,
    r#"{"a":null,"o":null}"#,
    "{}",
    "[1,2]",
    "7",
    "null",
    r#""text""#,
];

#[test]
fn reading_only_the_fields_in_use_shows_in_nothing() {
    for script in CORPUS {
        for payload in PAYLOADS {
            let mut fields = node(script);
            let mut whole = whole(script);
            // Twice, for what `state` keeps.
            for _ in 0..2 {
                let with_fields = run(&mut fields, json_message(payload));
                let with_whole = run(&mut whole, json_message(payload));
                assert_eq!(shown(&with_fields), shown(&with_whole), "{script} with {payload}");
                assert_eq!(with_fields, with_whole, "{script} with {payload}");
            }
        }
    }
}

#[test]
fn only_the_fields_in_use_are_converted() {
    #[track_caller]
    fn uses(script: &str, expected: &str) {
        let uses = program(script, LIMITS).unwrap().uses().clone();
        let shown = match uses.payload {
            crate::uses::PayloadUse::Whole => "whole".to_owned(),
            crate::uses::PayloadUse::Fields { all, written } => {
                format!("{} / {}", all.join(" "), written.join(" "))
            }
        };
        let parts = [(uses.topic, " topic"), (uses.time, " time"), (uses.meta, " meta")];
        let parts: String = parts.iter().filter(|part| part.0).map(|part| part.1).collect();
        assert_eq!(format!("{shown}{parts}"), expected, "{script}");
    }
    uses("msg", " / ");
    uses("msg.payload.a > 1; [msg, msg]", "a / ");
    uses("msg.payload.hot = msg.payload.temp > 80.0; msg", "hot temp / hot");
    uses(r#"msg.payload["a"].b = 1; return msg;"#, "a / a");
    uses(r#"msg.payload.l.push(msg.payload.x); emit("low", msg)"#, "l x / l");
    uses("msg.payload = #{ t: msg.payload.temp }; msg", "temp / ");
    uses("#{ topic: msg.topic + msg.meta.source, payload: msg.payload.a }", "a /  topic meta");
    uses("switch msg.payload.a { 1 => msg, _ => () }", "a / ");
    uses("let m = msg; m", "whole topic time meta");
    uses("let l = [1]; l[msg].x", "whole topic time meta");
    uses("msg.payload.keys()", "whole");
    uses("#{ payload: msg.payload }", "whole");
    uses("msg.payload[msg.topic] = 1; msg", "whole topic");
}

#[test]
fn findings_mark_what_is_wrong() {
    #[track_caller]
    fn finds(script: &str, expected: &[&str]) {
        let show = |p: Problem| {
            let (line, column) = p.inside.unwrap_or_default();
            format!("{line}:{column} {}: {} [{}]", p.rule, p.message, p.label)
        };
        let found: Vec<String> = lint(script).into_iter().map(show).collect();
        assert_eq!(found, expected, "{script}");
        // As it runs, the script is optimized; that must not decide what is found.
        let engine = host::engine();
        let optimizing = |text: &str, also: &[String]| host::compile(&engine, text, also);
        let (_, found) =
            lint::compile_by(optimizing, script, &Around::script(&outputs()), &Modules::default());
        let found: Vec<String> = found.into_iter().map(show).collect();
        assert_eq!(found, expected, "optimized: {script}");
    }
    finds(" \n ", &["0:0 script-syntax: `script` is empty [expected a script, such as `msg`]"]);
    finds(
        "let a = 1 // one\n\nlet b = 2;\nmsg",
        &["1:9 script-syntax: script cannot be read [expected `;` after this]"],
    );
    finds(
        "msg.payload.a = (1 + 2;\nmsg",
        &[
            "1:23 script-syntax: script cannot be read [expected `)` for a matching ( in this expression]",
        ],
    );
    finds(
        "if msg.payload.a > 1 {\n  msg\n",
        &["2:5 script-syntax: script cannot be read [the script ends here; expected `}`]"],
    );
    finds("let x = ;", &["1:9 script-syntax: script cannot be read [unexpected ';']"]);
    finds(
        "let s = \"abc;\nmsg",
        &["1:9 script-syntax: script cannot be read [open string is not terminated]"],
    );
    finds(
        "mgs.payload.a = lmit;\nlet limit = 3; msg",
        &[
            "1:1 unknown-variable: script has no variable `mgs` [did you mean `msg`?]",
            "1:17 unknown-variable: script has no variable `lmit` [did you mean `limit`?]",
        ],
    );
    finds(
        "let a = other; msg",
        &[
            "1:9 unknown-variable: script has no variable `other` [expected msg, state, settings, or a variable made with `let other = ...`]",
        ],
    );
    finds(
        "fn f(x) { x + msg.payload.a } f(1)",
        &[
            "1:15 unknown-variable: function has no variable `msg` [functions see only their parameters; pass it as one]",
        ],
    );
    finds(
        "msg.payload.a = rond(1.5, 2);\nmsg.payload.b.to_uper(); msg",
        &[
            "1:17 unknown-function: script has no function `rond` [not found, did you mean `round`?]",
            "2:15 unknown-function: script has no function `to_uper` [not found, did you mean `to_upper`?]",
        ],
    );
    finds(
        "round(1.5, 2, 3); msg.payload.a.round(1, 2)",
        &[
            "1:1 unknown-function: `round` gets the wrong number of values [expected 1 or 2, found 3]",
            "1:33 unknown-function: `round` gets the wrong number of values [expected 0 or 1, found 2]",
        ],
    );
    finds(
        "fn f(a, b) { a + b } f(1)",
        &["1:22 unknown-function: `f` gets the wrong number of values [expected 2, found 1]"],
    );
    finds(
        "log(\"hot\"); log(`${msg.payload.a}`); msg.payload.b = log(2.5); msg",
        &[
            "1:1 unknown-function: `log` is the logarithm, and gets a text [did you mean `print`?]",
            "1:13 unknown-function: `log` is the logarithm, and gets a text [did you mean `print`?]",
        ],
    );
    finds("sleep(10); msg", &["1:1 unknown-function: script has no function `sleep` [not found]"]);
    finds(
        "emit(\"hihg\", msg); emit(\"alarm\", msg); emit(\"errors\", msg)",
        &[
            "1:6 undeclared-output: `outputs` does not have `hihg` [did you mean `high`?]",
            "1:25 undeclared-output: `outputs` does not have `alarm` [add the setting `outputs: [low, high, alarm]`]",
            "1:45 undeclared-output: `outputs` does not have `errors` [`throw` sends a message to the errors output]",
        ],
    );
    finds(
        "msg.payloda.a = 1; msg.quality",
        &[
            "1:5 unknown-field: a message has no field `payloda` [did you mean `payload`?]",
            "1:24 unknown-field: a message has no field `quality` [expected topic, time, payload or meta]",
        ],
    );
    finds(
        "eval(\"1\")",
        &["1:1 script-syntax: script cannot be read [reserved keyword 'eval' is disabled]"],
    );
    finds(
        "msg.payload.new = 1; msg",
        &[
            "1:13 script-syntax: script cannot be read [`new` is reserved; write a field of that name as [\"new\"]]",
        ],
    );
}

/// The findings of these rules: place and label.
#[track_caller]
fn check_found(rule: &str, script: &str, expected: &[(usize, usize)]) {
    let found = lint(script).into_iter().filter(|problem| problem.rule.name == rule);
    let places: Vec<(usize, usize)> = found.map(|problem| problem.inside.unwrap()).collect();
    assert_eq!(places, expected, "{script}");
}

#[test]
fn what_changes_in_place_is_not_used_for_its_value() {
    let check = |script: &str, columns: &[usize]| {
        let places: Vec<(usize, usize)> = columns.iter().map(|column| (1, *column)).collect();
        check_found("changed-in-place", script, &places);
    };
    check("let x = `a`; x = x.replace(\"a\", \"b\"); msg", &[20]);
    check("msg.topic = msg.topic.trim(); msg", &[23]);
    check("let t = msg.payload.name.trim(); msg", &[26]);
    check("msg.payload.l = msg.payload.l.sort(); msg", &[31]);
    check("msg.payload.n = msg.topic.trim().to_upper(); msg", &[27]);
    check("msg.topic = `a/${msg.topic.trim()}`; msg", &[28]);
    check("msg.topic = \"a/\" + msg.topic.trim(); msg", &[30]);
    check("if msg.payload.l.push(1) == () { msg }", &[18]);
    check("msg.payload.l = [msg.topic.trim(), #{ x: msg.topic.make_upper() }]; msg", &[28, 52]);
    check("emit(\"low\", msg.payload.l.reverse()); msg", &[27]);
    check("return msg.payload.l.insert(0, 1);", &[22]);
    check("msg.payload.x = trim(msg.topic); msg", &[17]);
    // As it is meant, and where it is something else.
    check(
        "msg.topic.trim(); msg.payload.l.push(1); let t = msg.topic; t.replace(`a`, `b`); msg",
        &[],
    );
    check("if msg.payload.a { msg.payload.l.push(1) } msg", &[]);
    check("fn trim(x) { x } msg.topic = trim(msg.topic); msg", &[]);
    check("let o = #{ set: |x| x }; msg.payload = o.set(1); msg", &[]);
    check("msg.payload.a = msg.payload.l.remove(0); msg.payload.b = msg.payload.l.pop(); msg", &[]);
}

#[test]
fn a_script_that_sends_nothing_is_found() {
    for script in [
        "msg.payload.a = 1;",
        "state.n = 1;",
        "let x = msg.payload; if x == 1 { state.x = 1; } else { state.x = 2; }",
        "()",
        "if msg.payload == 1 { return; }",
        "for i in 0..3 { state.n = i; }",
        "print(msg);",
        "state.l.push(1);",
        "fn f() { } state.n = 1;",
    ] {
        let found = lint(script);
        assert!(
            found.iter().any(|problem| problem.rule.name == "sends-nothing"),
            "{script} {found:?}"
        );
        assert!(found.iter().all(|problem| problem.level == Level::Warning), "{script}");
    }
    for script in [
        "msg",
        "msg;",
        "if msg.payload == 1 { msg }",
        "if msg.payload == 1 { throw \"x\" }",
        "if msg.payload == 1 { return msg; }",
        "emit(\"low\", msg);",
        "fn f(m) { m } f(msg)",
        "let f = |m| m; f.call(msg)",
        "loop { break msg }",
        "switch msg.payload { 1 => msg, _ => () }",
        "try { msg } catch { }",
        "{ msg }",
        "[msg]",
        "[1].map(|x| #{ payload: x })",
        "for x in [1] { emit(\"low\", msg); }",
        "fn send(m) { emit(\"low\", m); } send(msg);",
        "fn f(m) { throw m } f(msg);",
    ] {
        check_found("sends-nothing", script, &[]);
    }
}

#[test]
fn a_comment_that_takes_the_rest_of_a_folded_script_is_found() {
    check_found("swallowed-script", "let a = 1; // one msg.payload.a = a; msg\n", &[(1, 12)]);
    check_found("swallowed-script", "msg.payload.a = 1; // one msg", &[(1, 20)]);
    check_found("swallowed-script", "// comment msg.payload.x = 1; msg\n", &[(1, 1)]);
    check_found("swallowed-script", "msg // passed on", &[]);
    check_found("sends-nothing", "// to do\n// later\n", &[(1, 1)]);
    check_found("swallowed-script", "msg.topic = \"a//b;\"; msg", &[]);
    check_found("swallowed-script", "let a = 1; // one; two\nmsg.payload.a = a; msg", &[]);
    let cut = lint("if msg.payload > 1 { // warm msg.payload = 1; } msg\n");
    assert_eq!(cut[0].label, {
        "the script ends here: the comment takes the rest of the line; write `script: |`"
    });
}

#[test]
fn state_that_stops_being_a_map_is_found() {
    for value in ["5", "1.5", "\"x\"", "`x${1}`", "[1]", "()", "true", "1 + 2", "msg.payload * 2"] {
        check_found("state-replaced", &format!("state = {value}; msg"), &[(1, 1)]);
    }
    for value in ["#{ n: 5 }", "msg.payload", "state", "#{}", "msg.payload + #{ a: 1 }"] {
        check_found("state-replaced", &format!("state = {value}; msg"), &[]);
    }
    check_found("state-replaced", "let state = 1; state = 5; msg", &[]);
    check_found("state-replaced", "state += 1; msg", &[(1, 1)]);
    check_found("state-replaced", "state.count += 1; state += #{ a: 1 }; msg", &[]);
}

#[test]
fn a_change_to_a_constant_is_found_and_is_no_panic() {
    for change in ["m.a = 2", "m.a += 2", "m[`a`] = 2", "m.a.b.c = 2"] {
        let script = format!("const m = #{{ a: 1 }}; {change}; msg");
        check_found("changed-constant", &script, &[(1, 22)]);
        run(&mut node(&script), json_message("{}")).unwrap_err();
    }
    // A variable of that name may be another.
    let script = "{ let m = #{ a: 1 }; m.a = 2; } const m = #{ a: 3 }; msg.payload = m.a; msg";
    check_found("changed-constant", script, &[]);
    check(script, "{}", "3");
    let script = "{ let m = #{ a: 1 }; } const m = #{ a: 3 }; m.a = 4; msg";
    check(script, "{}", "error: line 1, column 45: `m` is a constant and cannot be changed");
}

#[test]
fn a_division_of_whole_numbers_is_found_where_one_can_tell() {
    for (script, found) in [
        ("msg.payload.a = 1500 / 1000; msg", true),
        ("msg.payload.a = msg.payload.l.len() / 2; msg", true),
        ("msg.payload.a = (3 + 4) / 2; msg", true),
        ("msg.payload.a = parse_int(\"7\") / 2; msg", true),
        ("msg.payload.a = 3000 / 1000; msg", false),
        ("msg.payload.a = 1500.0 / 1000; msg", false),
        ("msg.payload.a = msg.payload.b / 1000; msg", false),
        ("msg.payload.a = msg.time / 1000; msg", false),
    ] {
        let places: &[(usize, usize)] = &[(1, script.find('/').unwrap() + 1)];
        check_found("whole-division", script, if found { places } else { &[] });
    }
}

#[test]
fn a_mistake_is_found_in_code_that_never_runs() {
    let found =
        lint("const DEBUG = false; if DEBUG { prnt(msg); } if false { emit(\"alarm\", msg); } msg");
    let rules: Vec<_> = found.iter().map(|problem| problem.rule.name).collect();
    assert_eq!(rules, ["unknown-function", "undeclared-output"]);
}

#[test]
fn a_script_tells_the_fields_that_it_reads_and_sends() {
    /// `reads > sends`; `*` sends anything.
    #[track_caller]
    fn check(script: &str, expected: &str) {
        let (written, _) = lint::compile(script, &outputs());
        assert_eq!(errors(script), [], "{script}");
        let (fields, _) = fields::of(&written.unwrap());
        let reads = fields.reads.iter().map(|read| {
            let (line, column) = read.inside.unwrap();
            format!("{line}:{column} {}", read.field)
        });
        let reads: Vec<String> = reads.collect();
        let sends = match fields.sends {
            Sends::Unknown => "*".to_owned(),
            Sends::Only(fields) => format!("only {fields:?}"),
            Sends::Also(fields) => fields.into_iter().collect::<Vec<_>>().join(" "),
        };
        assert_eq!(format!("{} > {sends}", reads.join(", ")), expected, "{script}");
    }
    check("msg", " > ");
    check("msg.payload.hot = msg.payload.temp > 80.0;\nmsg", "1:31 temp > hot");
    check("msg.payload.n += 1; msg", "1:13 n > n");
    check("msg.payload[\"a b\"] * 2; msg.payload.o.x = 1; msg", "1:13 a b, 1:37 o > o");
    check("`${msg.payload.a}`; if msg.payload.b > 1 { msg }", "1:16 a, 1:36 b > ");
    check(
        "emit(\"high\", msg); msg.payload.list.push(msg.payload.x); msg",
        "1:32 list, 1:54 x > list",
    );
    // Who asks whether it is there may miss it, and what stands beside is read all the same.
    check("msg.payload.a ?? msg.payload.b; msg", "1:30 b > ");
    check("if msg.payload.a != () { msg.payload.a * 2.0; } msg", " > ");
    check("if type_of(msg.payload.a) == \"f64\" { msg.payload.a; } msg", " > ");
    check("msg.payload.a?.b; msg", " > ");
    check("switch msg.payload.a { () => 1, _ => 2 }; msg", " > ");
    check("try { msg.payload.a * 2 } catch { } msg", " > ");
    // What sees the whole payload may look for anything, and add anything.
    for script in [
        "if \"a\" in msg.payload { msg.payload.a; } msg",
        "if msg.payload.contains(\"a\") { msg.payload.a; } msg",
        "let p = msg.payload; p.a * 2; msg",
        "fn f(m) { m.payload.a } f(msg)",
        "msg.payload += #{ a: 1 }; msg",
        "msg.payload.a = parse_json(to_json(msg)); msg",
    ] {
        check(script, " > *");
    }
    check("#{ payload: #{ b: msg.payload.a } }", "1:31 a > *");
    check("[msg, #{ payload: 1 }]", " > *");
    check("msg.payload = #{ b: msg.payload.a, c: 1 }; msg", "1:33 a > b c");
    check("msg.payload = msg.payload.a; msg", "1:27 a > *");
    check("msg.payload = #{}; msg.payload.z = 1; msg", " > z");
    let configured = testing::configure(&script(), "script: msg.payload.a * 2; msg").unwrap();
    assert_eq!(configured.fields().reads[0].field, "a");
    assert_ne!(configured.fields(), Fields::default());
}

#[test]
fn what_works_is_not_found_fault_with() {
    let more = [
        "fn double() { this * 2 } let x = 3; x.double(); msg",
        "state.f = |x| x * 2; state.f(3); msg",
        "let add = |a, b| a + b; add.call(1, 2); call(add, 1, 2); msg",
        "let o = #{ twice: |x| x * 2 }; o.twice(1); msg",
        "[3, 1].sort(); [1, 2].filter(|x| x > 1).reduce(|s, x| s + x, 0); msg",
        "print(msg); debug(msg.payload); type_of(msg); is_def_var(\"msg\"); is_def_fn(\"f\", 1); msg",
        "let x = 1.5; x.floor().to_int(); x.to_string(); `${x}`.sub_string(0, 1); msg",
        "now() - msg.time > 1000; parse_json(\"{}\"); to_json(msg.payload); msg.payload.to_json(); msg",
        "for (x, i) in [1] { x + i; } for i in range(0, 3) { i; } msg",
        "try { throw 1 } catch (problem) { problem; } msg",
        "let f = Fn(\"round\"); f.call(2.5); parse_int(\"3\"); parse_float(\"3.5\"); msg",
        "fn f(x) { const k = 2; x * k } const k = 3; msg.payload.x = f(k); msg",
        "PI(); E(); sin(1.0); 2 ** 3; abs(-1); min(1, 2); msg",
        "exit(msg)",
    ];
    for script in more.into_iter().chain(CORPUS) {
        let found = errors(script);
        let excused = |p: &Problem| {
            // Sees `msg` by way of `f!()`; and would say that a message has no `q`.
            script.contains("f!()") && p.rule.name == "unknown-variable"
        };
        let found: Vec<_> = found.into_iter().filter(|p| !excused(p)).collect();
        assert_eq!(found, Vec::<Problem>::new(), "{script}");
    }
}

#[test]
fn no_mutilated_script_panics_or_hangs_or_shows_what_was_converted() {
    let mut random = fastrand::Rng::with_seed(7);
    let pieces = [
        "msg",
        "state",
        ".payload",
        "[0]",
        "(",
        ")",
        "{",
        "}",
        ";",
        "=",
        "+=",
        "..",
        "|x|",
        "fn f(a)",
        "f(1)",
        "loop",
        "for x in",
        "\"",
        "`${",
        "9223372036854775807",
        "-",
        "*",
        "/0",
        "?.",
        "??",
        "#{",
        "curry",
        "Fn(",
        "é",
        "\u{0}",
        "//",
        "/*",
        "switch",
        "=>",
        "break",
        "return",
        "throw",
        "this",
        "let x =",
        ".push(",
        ".pad(",
    ];
    for round in 0..1000 {
        let mut script: Vec<char> = random.choice(CORPUS).unwrap_or("msg").chars().collect();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..=script.len());
            let end = random.usize(at..=script.len().min(at + 6));
            let piece = random.choice(pieces).unwrap_or_default();
            script.splice(at..end, piece.chars());
        }
        let script: String = script.into_iter().collect();
        let limits = Limits { max_operations: 2000, ..LIMITS };
        let site = testing::site(None);
        let node = |program: Program| ScriptNode::new(Arc::new(program), &site);
        let Some(program) = program(&script, limits) else { continue };
        let payload = PAYLOADS[round % PAYLOADS.len()];
        let mut whole = node(self::program(&script, limits).expect("it did").without_projection());
        let mut fields = node(program);
        let fields = shown(&run(&mut fields, json_message(payload)));
        assert_eq!(fields, shown(&run(&mut whole, json_message(payload))), "{script}");
    }
}

#[test]
fn outputs_have_names_that_can_be_read() {
    let text = "script: msg\noutputs: [ok-1_a, main, errors, 'a b', ok-1_a]\ntimeout: 10s";
    let found = testing::configure(&script(), text).err().unwrap();
    assert_eq!(
        found,
        vec![
            "setting-value: `outputs` has the reserved name `main` [every node has this output; take another name]",
            "setting-value: `outputs` has the reserved name `errors` [every node has this output; take another name]",
            "setting-value: `outputs` has a name that cannot be used: \"a b\" [expected letters, digits, `-` and `_`, found \"a b\"]",
            "setting-value: `outputs` has `ok-1_a` twice [stands above already]",
            "setting-value: `timeout` is out of range [expected 1ms to 5s, found 10s]",
        ]
    );
}

#[test]
fn a_script_that_takes_too_long_is_stopped() {
    let limits = Limits { max_operations: 10_000_000, timeout: Duration::from_millis(1) };
    let program = program("loop {}", limits).unwrap();
    let mut node = ScriptNode::new(Arc::new(program), &testing::site(None));
    let error = run(&mut node, json_message("1")).unwrap_err();
    assert!(error.ends_with("script ran for longer than 1ms (`timeout`)"), "{error}");
}

#[test]
fn every_operation_counts_and_none_twice() {
    // What is called by `map` counts, too.
    for script in ["let n = 0; for i in 0..10 { n += i; } msg", "[1, 2, 3].map(|x| x + 1); msg"] {
        let fails = |max_operations| {
            let program = program(script, Limits { max_operations, ..LIMITS }).unwrap();
            let mut node = ScriptNode::new(Arc::new(program), &testing::site(None));
            // Not what is left of one run, and not what the one before has used.
            let fails = [0, 1].map(|_| run(&mut node, json_message("1")).is_err());
            assert_eq!(fails[0], fails[1]);
            fails[0]
        };
        let least = (1..1000).find(|most| !fails(*most)).unwrap();
        assert!(least > 10, "{script} takes {least}");
        assert!(!fails(least + 1));
    }
    let mut maps = node(
        "let l = []; l.pad(4096, 0); l.map(|x| { let n = 0; for i in 0..100 { n += i; } n }); msg",
    );
    let error = run(&mut maps, json_message("1")).unwrap_err();
    assert!(error.ends_with("script ran for more than 100000 operations (`max_operations`)"));
}

#[test]
fn the_sample_is_right() {
    use forebay_sdk::yaml::{self, Limits as YamlLimits};
    let mut findings = Vec::new();
    let sample = plugin().sample;
    let sample = yaml::parse(&sample, 0, YamlLimits::default(), &mut findings).unwrap();
    let script = sample.at("transforms.judge.script").text().unwrap();
    let outputs = ["even".to_owned()];
    let (written, problems) = lint::script(script, &[], &Around::script(&outputs));
    assert_eq!(problems, []);
    let program =
        Program::new(written.unwrap(), &OwnSettings::new(), outputs.to_vec().into(), LIMITS);
    let mut node = ScriptNode::new(Arc::new(program), &testing::site(None));
    let sent: Vec<String> = [r#"{"count":1}"#, r#"{"count":2}"#]
        .iter()
        .map(|payload| shown(&run(&mut node, json_message(payload))))
        .collect();
    let even = "2 site/a/even {\"count\":2}\n0 site/a {\"count\":2,\"rise\":1}";
    assert_eq!(sent, ["0 site/a {\"count\":1,\"rise\":0}", even]);
}

#[test]
fn a_script_that_does_not_compile_makes_no_node() {
    for script in ["msg.payload.a +", "''", "mgs"] {
        let (configured, problems) =
            testing::resolve(&self::script(), &format!("script: {script}"));
        assert!(configured.is_none(), "{script}");
        assert_eq!(problems.len(), 1, "{script}");
    }
    // Could run, but would fail: the lint is still told what comes out.
    let text = "{script: 'rond(1.5); msg', outputs: [high]}";
    let (configured, problems) = testing::resolve(&script(), text);
    assert_eq!(configured.unwrap().outputs(), ["high"]);
    assert_eq!(problems.len(), 1);
}

#[test]
fn settings_make_a_node_that_runs() {
    let node = testing::build(&script(), "{script: 'emit(`b`, msg); msg', outputs: [a, b]}", None);
    let Node::Transform(mut node) = node else { panic!("a script is a transform") };
    let mut out = Emitter::default();
    node.apply(Input { message: json_message("1"), from: "meter".into() }, &mut out).unwrap();
    let ports: Vec<Port> = out.drain().map(|(port, _)| port).collect();
    assert_eq!(ports, [Port::named(1), Port::MAIN]);
}

/// The payload that a script with settings makes of `{"x":4}`, or what is wrong.
fn with_settings(settings: &str, script: &str) -> String {
    let text = format!("{{settings: {settings}, script: '{script}'}}");
    let configured = match testing::configure(&self::script(), &text) {
        Ok(configured) => configured,
        Err(found) => return found.join("\n"),
    };
    let Node::Transform(mut node) = configured.build(testing::site(None)) else {
        panic!("a script is a transform");
    };
    let mut out = Emitter::default();
    // Twice, as what is read must still be there for the next message.
    for _ in 0..2 {
        out.drain().for_each(drop);
        let input = Input { message: json_message("{\"x\":4}"), from: "meter".into() };
        if let Err(error) = node.apply(input, &mut out) {
            return format!("error: {error:#}");
        }
    }
    let sent = out.drain().map(|(_, envelope)| envelope.message.payload.to_bytes(Format::Json));
    sent.map(|json| String::from_utf8_lossy(&json).into_owned()).collect()
}

#[test]
fn one_script_serves_many_nodes_by_their_settings() {
    let limit = "msg.payload.hot = msg.payload.x > settings.limit; msg";
    assert_eq!(with_settings("{limit: 3}", limit), r#"{"x":4,"hot":true}"#);
    assert_eq!(with_settings("{limit: 5.5}", limit), r#"{"x":4,"hot":false}"#);
    let all = "{a: {b: [1, 2.5, on]}, c: null}";
    assert_eq!(with_settings(all, "msg.payload = settings; msg"), {
        r#"{"a":{"b":[1,2.5,"on"]},"c":null}"#
    });
    assert_eq!(with_settings(all, "msg.payload = settings.a.b[1] + (settings.c ?? 1); msg"), "3.5");
    assert_eq!(with_settings("{k: x}", "msg.payload[settings.k] += 1; msg"), r#"{"x":5}"#);
    assert_eq!(with_settings("{n: 2}", "msg.payload = [1].map(|x| x + settings.n); msg"), "[3]");
    assert_eq!(with_settings("{n: 2}", "fn f(s) { s.n } msg.payload = f(settings); msg"), "2");
    assert_eq!(with_settings("{}", "msg.payload = settings.n ?? 7; msg"), "7");
    // Nobody changes them, not even a copy that was made by mistake.
    for change in ["settings.n = 3", "settings = #{ n: 3 }", "settings.n += 1", "settings.clear()"]
    {
        let said = with_settings("{n: 2}", &format!("{change}; msg.payload = settings.n; msg"));
        assert!(said.contains("cannot be changed"), "{change}: {said}");
    }
    let copy = "let s = settings; s.n = 3; msg.payload = [s.n, settings.n]; msg";
    assert_eq!(with_settings("{n: 2}", copy), "[3,2]");
}

#[test]
fn a_setting_that_is_not_there_or_that_nobody_reads_is_found() {
    assert_eq!(with_settings("{limit: 3}", "msg.payload.x = settings.limt; msg"), {
        "missing-script-setting: script reads `settings.limt`, which the node does not have [did you mean `limit`?]\n\
         unread-script-setting: script does not read the setting `limit` [it reads `settings.limt`]"
    });
    assert_eq!(with_settings("{}", "msg.payload.x = settings.limit; msg"), {
        "missing-script-setting: script reads `settings.limit`, which the node does not have [expected a setting such as `settings: { limit: ... }`]"
    });
    assert_eq!(with_settings("{limit: 3}", "msg"), {
        "unread-script-setting: script does not read the setting `limit` [it would be read as `settings.limit`]"
    });
    assert_eq!(with_settings("{limit: 3}", "msg.payload.x = settings[msg.topic] ?? 1; msg"), {
        r#"{"x":1}"#
    });
    let (_, problems) = testing::resolve(&script(), "{settings: {a: 1}, script: msg}");
    assert_eq!((problems[0].level, problems[0].setting.as_str()), (Level::Warning, "settings.a"));
}

/// A node in the place of one that remembered this.
fn after(saved: Option<Saved>, script: &str) -> ScriptNode {
    // As a disk would bring it back: as text.
    let saved = saved.map(|saved| Saved {
        value: serde_json::from_str(&saved.value.to_string()).unwrap(),
        ..saved
    });
    node_at(&Site { memory: saved, ..testing::site(None) }, script)
}

#[test]
fn state_survives_an_edit_of_the_script() {
    let count = "state.seen = (state.seen ?? 0) + 1; msg.payload = state.seen; msg";
    let mut before = node(count);
    for _ in 0..9 {
        run(&mut before, json_message("{}")).unwrap();
    }
    let mut after = after(before.save(), &format!("{count} // edited"));
    assert_eq!(shown(&run(&mut after, json_message("{}"))), "0 site/a 10");
}

#[test]
fn state_comes_back_as_it_was() {
    // The second message says whether it finds what the first one left.
    let same = "let old = #{ big: 9223372036854775807, small: -9223372036854775807, \
                f: 0.30000000000000004, whole: 1.0, tiny: 5e-324, huge: 1.7976931348623157e308, \
                zero: -1.0 * 0.0, t: `grün \\\"`, n: (), yes: true, l: [1, [2.5, #{ x: `y` }]], m: #{}, \
                e: [] };";
    let script = format!(
        "{same} if state.len() == 0 {{ state = old; return; }} \
         for (k, i) in old.keys() {{ if type_of(state[k]) != type_of(old[k]) {{ throw k; }} \
         if state[k] != old[k] {{ throw k; }} }} \
         msg.payload = [to_json(state.zero), to_json(state) == to_json(old)]; msg"
    );
    let mut before = node(&script);
    assert_eq!(run(&mut before, json_message("{}")), Ok(Vec::new()));
    let found = shown(&run(&mut after(before.save(), &script), json_message("{}")));
    assert_eq!(found, r#"0 site/a ["-0.0",true]"#);
}

#[test]
fn what_would_come_back_as_another_kind_is_of_that_kind_at_once() {
    let script = "if state.len() == 0 { state.c = 'x'; state.b = blob(2, 7); state.s = 1; return; } \
                  msg.payload = [type_of(state.c), type_of(state.b), state]; msg";
    let mut before = node(script);
    assert_eq!(run(&mut before, json_message("{}")), Ok(Vec::new()));
    let expected = r#"0 site/a ["string","array",{"b":[7,7],"c":"x","s":1}]"#;
    let saved = before.save();
    assert_eq!(shown(&run(&mut before, json_message("{}"))), expected);
    assert_eq!(shown(&run(&mut after(saved, script), json_message("{}"))), expected);
}

#[test]
fn state_holds_nothing_but_data() {
    #[track_caller]
    fn refused(script: &str, expected: &str) {
        let mut node = node(script);
        let result = run(&mut node, json_message("{}"));
        assert_eq!(result, Err(expected.to_owned()), "{script}");
        assert_eq!(state(&node), json!({}), "{script}");
    }
    refused("state.f = |x| x; msg", "`state.f` is a function, which `state` cannot hold");
    refused(
        "state.a = #{ l: [1, Fn(`round`)] }; msg",
        "`state.a.l[1]` is a function, which `state` cannot hold",
    );
    refused("state.r = 0..5; msg", "`state.r` is a range, which `state` cannot hold");
    refused("state.x = 0.0 / 0.0; msg", "`state.x` is no finite number, which `state` cannot hold");
    refused("state = 5; msg", "`state` is a whole number; expected a map");
    refused(
        "let m = #{}; for i in 0..70 { m = #{ m: m }; } state.m = m; msg",
        "`state` is nested more than 64 levels deep",
    );
    // What a function holds on to as well is data all the same.
    let mut shares = node("let x = [1]; let f = || x; state.x = x; state.l = [x, x]; msg");
    run(&mut shares, json_message("{}")).unwrap();
    assert_eq!(state(&shares), json!({"x": [1], "l": [[1], [1]]}));
}

#[test]
fn a_script_without_state_remembers_nothing() {
    let saved = |script: &str| {
        let mut node = node(script);
        run(&mut node, json_message("{}")).unwrap();
        node.save().map(|saved| saved.value)
    };
    assert_eq!(saved("msg"), None);
    assert_eq!(saved("if state.x == 1 { msg }"), Some(json!({})));
    assert_eq!(saved("state.x = 1; msg"), Some(json!({"x": 1})));
}

#[test]
fn only_what_may_change_of_the_state_is_kept_aside() {
    #[track_caller]
    fn check(script: &str, expected: &str) {
        let uses = program(script, LIMITS).unwrap().uses().state.clone();
        let shown = match uses {
            StateUse::Nothing => "nothing".to_owned(),
            StateUse::Reads => "reads".to_owned(),
            StateUse::Fields(names) => names.join(" "),
            StateUse::Whole => "whole".to_owned(),
        };
        assert_eq!(shown, expected, "{script}");
    }
    check("msg", "nothing");
    check("if state.a.b > 1 { msg }", "reads");
    check("msg.payload.n = state.table[msg.topic] ?? 0; msg", "reads");
    check("state.n = (state.n ?? 0) + 1; state.m.x += state.k; msg", "m n");
    check("state[\"n\"] = 1; state.l.push(1); msg", "l n");
    check("state.table[msg.topic] = 1; msg", "table");
    check("state[msg.topic] = 1; msg", "whole");
    check("push(state.l, 1); msg", "l");
    check("let s = state; msg", "whole");
    check("\"a\" in state; msg", "whole");
    check("state.n = 1; state.clear(); msg", "whole");
    check("let f = || state.n; f.call(); msg", "whole");
    check("fn f() { state.n = 1; } f!(); msg", "whole");
}

#[test]
fn state_cannot_grow_beyond_its_limit_whatever_the_run_ends_as() {
    let too_much = "`state` holds more than a script may keep; remove old values";
    for (script, expected) in [
        ("for i in 0..5000 { state[`${i}`] = i; } msg", too_much),
        ("state.m = #{}; for i in 0..5000 { state.m[`${i}`] = i; } msg", too_much),
        ("for i in 0..5000 { state[`${i}`] = i; } throw `x`", "line 1, column 41: x"),
        ("let t = ``; t.pad(100, 'x'); for i in 0..1000 { state[`${i}`] = t; } msg", too_much),
    ] {
        let mut node = node(script);
        assert_eq!(run(&mut node, json_message("{}")), Err(expected.to_owned()), "{script}");
        assert_eq!(state(&node), json!({}), "{script}");
    }
}

/// A script that has a long `text` is stopped before its variables take too much memory.
#[track_caller]
fn stopped(script: &str) {
    let limits = Limits { max_operations: 10_000_000, ..LIMITS };
    let text = "let text = ``; text.pad(60000, 'x');";
    let program = program(&format!("{text} {script}"), limits).unwrap();
    let mut node = ScriptNode::new(Arc::new(program), &testing::site(None));
    let error = run(&mut node, json_message("{}")).unwrap_err();
    assert!(error.ends_with("variables grew beyond 16 MiB"), "{script}: {error}");
}

#[test]
fn what_is_filled_key_by_key_is_stopped_before_memory_ends() {
    stopped("let m = #{}; for i in 0..100000 { m[`${i}`] = text + i; } msg");
    stopped("for i in 0..100000 { state[`${i}`] = text + i; } msg");
    stopped("for i in 0..100000 { msg.payload[`${i}`] = text + i; } msg");
    stopped(
        "let l = [[], []]; l.pad(4000, []); for i in 0..100000 { l[i % 4000].push(text + i); }",
    );
    stopped("let m = #{}; for i in 0..100000 { try { m[`${i}`] = text + i; } catch { } } msg");
    stopped("fn fill(t) { for i in 0..100000 { this[`${i}`] = t + i; } } state.fill(text); msg");
}

#[test]
fn what_a_function_holds_on_to_is_stopped_before_memory_ends() {
    for script in [
        // Held by way of a captured variable, of `curry`, and of each other.
        "let m = #{}; let f = || m; for i in 0..100000 { m[`${i}`] = text + i; }",
        "let f = |x| x; for i in 0..100000 { f = f.curry(text + i); }",
        "let l = []; for i in 0..4000 { l.push(Fn(`f`).curry(text + i)); }",
        "let x = (); let f = || x; x = f; loop { let y = x; y.call(); }",
    ] {
        stopped(script);
    }
}

#[test]
fn a_function_that_holds_on_to_itself_is_let_go_after_the_run() {
    for (script, captured) in [
        ("let x = #{}; x.f = || x;", 1),
        ("{ let x = #{}; x.f = || x; }", 1),
        ("fn hold(text) { let x = #{ text: text }; x.f = || x; } hold(`a`); hold(`b`);", 2),
        ("for i in 0..5 { let x = #{}; x.f = || x; }", 5),
        ("let a = #{}; { let b = #{}; b.f = || a; a.f = || b; a.f = || b; }", 2),
        ("let f = || { let x = #{}; x.f = || x; 1 }; f.call();", 1),
        ("{ let x = #{}; x.f = || x; throw `x`; }", 1),
        ("let x = loop { let x = #{}; break { x.f = || x; 1 }; };", 1),
        // `state` lasts.
        ("{ let x = #{}; x.f = || state.len(); x.g = || x; }", 1),
    ] {
        let ast = host::optimize(host::read(script, &[]).unwrap());
        let mut scope = host::scope(rhai::Map::new(), rhai::Map::new());
        let limits = Limits { max_operations: 10_000, timeout: Duration::from_secs(5) };
        let (node, outputs) = ("n".into(), [].into());
        let needs = crate::uses::needs(&ast, Modules::default());
        let ended = host::run(&ast, &mut scope, &node, &outputs, limits, &needs, 0);
        let held: Vec<rhai::Dynamic> = ended.captured.0.values().cloned().collect();
        assert_eq!(held.len(), captured, "{script}: {:?}", ended.result);
        drop(ended);
        assert!(held.iter().all(|value| value.flatten_clone().is_unit()), "{script}");
        assert!(scope.get("state").unwrap().flatten_clone().is_map(), "{script}");
    }
    check(
        "{ let m = #{ a: 1 }; let f = || m; state.l = [m]; state.m = m; } msg.payload = state; msg",
        "{}",
        r#"{"l":[{"a":1}],"m":{"a":1}}"#,
    );
    check("let n = 1; let f = |x| x + n; msg.payload.n = f.call(2); msg", "{}", r#"{"n":3}"#);
    check(
        "let p = #{ a: 1 }; let f = || p; emit(\"low\", #{ payload: p }); msg.payload = p; msg",
        "{}",
        "2 site/a {\"a\":1}\n{\"a\":1}",
    );
    check("let n = 1; let f = || n; n = f; state.f = 1; msg", "{}", "{}");
}

#[test]
fn a_list_or_map_as_a_text_is_as_long_as_a_text_may_be() {
    check(
        "msg.payload = `${[1, 2.0, \"a\", (), true, #{ x: [], \"y z\": #{} }]}`; msg",
        "{}",
        r##""[1, 2.0, \"a\", (), true, #{\"x\": [], \"y z\": #{}}]""##,
    );
    check("msg.payload = [1, #{ a: 2 }].to_string() + #{ b: `x` }; msg", "{}", {
        r##""[1, #{\"a\": 2}]#{\"b\": \"x\"}""##
    });
    let large = "let t = ``; t.pad(40000, 'x'); let m = #{}; m.a = t; m.b = t;";
    for shows in ["`${m}`", "m.to_string()", "print(m)", "debug(m)", "\"\" + m", "m.to_debug()"] {
        let error =
            run(&mut node(&format!("{large} {shows}; msg")), json_message("{}")).unwrap_err();
        assert!(error.ends_with("a text grew beyond 65536 bytes"), "{shows}: {error}");
    }
}

#[test]
fn no_function_keeps_a_run_from_its_time_limit() {
    // The longer each of these takes, the sooner the clock has to be read again.
    let fill = "let t = ``; t.pad(60000, 'x'); let m = #{}; for i in 0..200 { m[`${i}`] = t + i; }";
    let limits = Limits { max_operations: 10_000_000, timeout: Duration::from_millis(50) };
    for work in [
        "m.to_json()",
        "to_json(m)",
        "`${m}`",
        "m == m",
        "m.values()",
        "m.keys()",
        "let c = m; c.x = 1",
        "Fn(`f`).curry(m)",
        "t.replace(`x`, `y`)",
        "t.split(`x`)",
        "t.to_chars()",
        "t.to_upper()",
        "parse_json(`[` + t + `]`)",
        "let l = []; l.pad(4096, 1); l.sort(); l.sort(|a, b| a - b)",
        "let b = blob(4096, 1); b.reverse(); b + b",
        "let l = []; l.pad(4096, 1); l.map(|x| x * 2).filter(|x| x > 1).reduce(|s, x| s + x)",
        "t.index_of(`y`); t.contains(`y`); t.sub_string(5, 5)",
    ] {
        let script = format!("{fill} loop {{ try {{ {work}; }} catch {{ }} }}");
        let program = program(&script, limits).unwrap();
        let mut node = ScriptNode::new(Arc::new(program), &testing::site(None));
        let start = tokio::time::Instant::now();
        run(&mut node, json_message("{}")).unwrap_err();
        let took = start.elapsed();
        // Not optimized, and beside others.
        assert!(took < Duration::from_secs(2), "{work} took {took:?}");
    }
}

/// How often a script gets on with its work before the time is up.
fn turns_of(script: &str) -> usize {
    let limits = Limits { max_operations: 10_000_000, timeout: Duration::from_millis(50) };
    let ast = host::optimize(host::read(script, &[]).unwrap());
    let modules = Modules::default();
    let needs = Needs { operators: Operators::Fast, captures: true, modules, coverage: None };
    let mut scope = host::scope(rhai::Map::new(), rhai::Map::new());
    let ended = host::run(&ast, &mut scope, &"a/s".into(), &outputs().into(), limits, &needs, 0);
    assert!(ended.result.is_err(), "{script}");
    ended.emitted.len()
}

#[test]
fn a_variable_that_is_at_work_was_waited_for_again_and_again_after_the_time_was_up() {
    // Each turn waits for fifty milliseconds, and has a few operations.
    let list =
        "let x = [1]; let f = |i| x.len(); loop { emit(`low`, #{}); try { WORK } catch { } }";
    let map = "let x = #{}; x.f = || { loop { emit(`low`, #{}); try { WORK } catch { } } }; x.f();";
    for (script, all) in [
        (list, ["x.for_each(f)", "x.map(f)", "x.filter(f)", "x.retain(f)"]),
        (map, ["x.a = 1", "x.len()", "x.keys()", "let y = x"]),
    ] {
        for work in all {
            let turns = turns_of(&script.replace("WORK", work));
            assert!((1..=2).contains(&turns), "{work}: {turns} turns");
        }
    }
}

#[test]
fn a_large_message_has_room() {
    let values: Vec<Value> = (0..100_000).map(|n| json!({"n": n})).collect();
    let payload = Value::from(values).to_string();
    let mut node = node("let p = msg.payload; for i in 0..2000 { p[i].n; } msg");
    assert_eq!(run(&mut node, json_message(&payload)).map(|sent| sent.len()), Ok(1));
}

#[test]
fn the_message_itself_is_sent_when_a_script_ends_with_it() {
    check("let msg = #{ payload: 5 }; msg", "1", "5");
    check("const msg = #{ payload: 5 }; msg", "1", "5");
    check("msg = #{ payload: 5 }; msg", "1", "5");
    check("msg = (); msg", "1", "");
    check("if msg.payload == 1 { return #{ payload: 2 }; } msg", "1", "2");
    check("if msg.payload == 1 { return; } msg", "1", "");
    check("let f = || msg; emit(`low`, msg); msg.payload = 3; msg", "1", "2 site/a 1\n3");
    check("msg;", "1", "1");
}

#[test]
fn a_time_that_a_script_wrote_before_the_clock_was_set_is_put_right_with_its_message() {
    let mut message = json_message(r#"{"x":1}"#);
    message.time = Timestamp::before_clock_was_set(1_794_042_000_123_456_789);
    let mut node = node("msg.payload.at = msg.time; msg");
    let (_, mut made) = run(&mut node, message).unwrap().remove(0);
    made.restamp_by(|_| Timestamp::from_unix_nanos(1_795_251_600_123_456_789));
    let expected = serde_json::json!({"x": 1, "at": 1_795_251_600_123_i64});
    assert_eq!(made.payload.value(), Ok(&expected));
}

#[test]
fn a_field_that_a_variable_names_is_named_in_an_error() {
    let said = run(&mut node("let field = \"t\"; msg.payload[field] - 1.0"), json_message("{}"));
    let said = shown(&said);
    assert!(
        said.ends_with("`msg.payload[field]` is missing or null, so `-` cannot be used on it"),
        "{said}"
    );
}

/// The numbers are those of Python's `statistics`, and of numpy's percentiles.
#[test]
fn statistics_over_lists_are_those_of_others() {
    let of = |call: &str, expected: &str| {
        let script = format!("msg.payload = #{{ x: {call} }}; msg");
        check(&script, r#"{"l":[3,1.5,null,8,2]}"#, &format!(r#"{{"x":{expected}}}"#));
    };
    of("sum(msg.payload.l)", "14.5");
    of("mean(msg.payload.l)", "3.625");
    of("msg.payload.l.median()", "2.5");
    of("round(stddev(msg.payload.l), 9)", "2.982588361");
    of("min(msg.payload.l)", "1.5");
    of("max(msg.payload.l)", "8.0");
    of("percentile(msg.payload.l, 75)", "4.25");
    of("percentile(msg.payload.l, 0.0)", "1.5");
    of("mean([])", "null");
    of("sum([])", "0.0");
    of("stddev([1])", "null");
    let said = |call: &str, expected: &str| {
        let script = format!("msg.payload = {call}; msg");
        let said = shown(&run(&mut node(&script), json_message("{}")));
        assert!(said.ends_with(expected), "{said}");
    };
    said("mean([1, \"a\"])", "the list has a text at 1; expected numbers");
    said("percentile([1], 101)", "expected a percentile from 0 to 100, found 101");
    said("min([1]) + settings", "`+` cannot be used on a decimal number and a map");
}

#[test]
fn bytes_become_texts_and_come_back() {
    let of = |call: &str, expected: &str| {
        check(
            &format!("msg.payload = #{{ x: {call} }}; msg"),
            "{}",
            &format!(r#"{{"x":{expected}}}"#),
        );
    };
    of("to_base64(\"hällo\")", r#""aMOkbGxv""#);
    of("from_base64(\"aMOkbGxv\").as_string()", r#""hällo""#);
    of("to_hex(to_blob([1, 255, 16]))", r#""01ff10""#);
    of("from_hex(\"01 FF 10\")", "[1,255,16]");
    of("uint_be(from_hex(\"0001ff\"), 1, 2)", "511");
    of("uint_le(from_hex(\"0001ff\"), 1, 2)", "65281");
    of("int_be(from_hex(\"fffe\"), 0, 2)", "-2");
    of("int_le(from_hex(\"feff\"), 0, 2)", "-2");
    of("int_be(from_hex(\"8000000000000000\"), 0, 8)", "-9223372036854775808");
    of("float_be(from_hex(\"41ac0000\"), 0, 4)", "21.5");
    of("float_le(from_hex(\"000000000000803540\"), 1, 8)", "21.5");
    of("random() >= 0.0 && random() < 1.0", "true");
    // The check values of the catalogue of CRCs.
    of("crc32(\"123456789\")", "3421780262");
    of("crc16_modbus(to_blob(\"123456789\"))", "19255");
    let said = |call: &str, expected: &str| {
        let said =
            shown(&run(&mut node(&format!("msg.payload = {call}; msg")), json_message("{}")));
        assert!(said.ends_with(expected), "{said}");
    };
    said("from_hex(\"0g\")", "text is not hexadecimal; expected two digits for each byte");
    said("uint_be(from_hex(\"01\"), 0, 2)", "there are 1 bytes; expected 2 from 0 on");
    said("float_be(from_hex(\"0102\"), 0, 2)", "expected 4 or 8 bytes");
    said("uint_be(from_hex(\"01\"), -1, 2)", "expected a place from 0 on, and 1 to 8 bytes");
    said("to_blob([256])", "expected a list of whole numbers from 0 to 255");
    said("{ let t = \"x\"; t.pad(60000, 'x'); to_hex(t) }", "a text grew beyond 65536 bytes");
    said("{ let t = \"x\"; t.pad(9000, 'x'); to_blob(t) }", "a list grew beyond 4096 values");
}

/// The first are the vectors of FIPS 180, RFC 4231 and RFC 2202.
#[test]
fn hashes_patterns_and_times() {
    let of = |call: &str, expected: &str| {
        let script = format!("msg.payload = #{{ x: {call} }}; msg");
        check(&script, "{}", &format!(r#"{{"x":{expected}}}"#));
    };
    of("to_hex(sha1(\"abc\"))", r#""a9993e364706816aba3e25717850c26c9cd0d89d""#);
    of(
        "to_hex(sha256(to_blob(\"abc\")))",
        r#""ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad""#,
    );
    of(
        "to_hex(hmac_sha256(\"Jefe\", \"what do ya want for nothing?\"))",
        r#""5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843""#,
    );
    of(
        "to_base64(hmac_sha1(to_blob(\"Jefe\"), \"what do ya want for nothing?\"))",
        r#""7/zfauXrL6LSdBbV8YTfnCWafHk=""#,
    );
    of("regex_matches(\"m-17\", `^m-\\d+$`)", "true");
    of("regex_find(\"t=21.5C\", \"[0-9.]+\")", r#""21.5""#);
    of("regex_find(\"t\", \"[0-9]+\")", "null");
    of("regex_captures(\"a=1\", \"(\\\\w)=(\\\\d)(x)?\")", r#"["a=1","a","1",null]"#);
    of("regex_replace(\"a1b22\", \"([0-9]+)\", \"<$1>\")", r#""a<1>b<22>""#);
    of("parse_time(\"2026-10-25T00:30:00Z\")", "1792888200000");
    of("parse_time(\"2026-10-25 02:30\", \"Europe/Berlin\")", "1792888200000");
    of("parse_time(\"25.10.2026 02:30\", \"%d.%m.%Y %H:%M\", \"Europe/Berlin\")", "1792888200000");
    of("parse_time(\"20261025003000\", \"%Y%m%d%H%M%S\")", "1792888200000");
    of(
        "parse_time(\"2026-10-25T02:30:00.250 +0200\", \"%Y-%m-%dT%H:%M:%S%.f %z\")",
        "1792888200250",
    );
    of("parse_time(\"25/10/26\", \"%d/%m/%y\", \"Europe/Berlin\")", "1792879200000");
    of("format_time(1555234838.050 * 1000.0, \"%H:%M:%S%.3f\")", r#""09:40:38.050""#);
    of(
        "format_time(1792888200000, \"%d.%m.%Y %H:%M\", \"Europe/Berlin\")",
        r#""25.10.2026 02:30""#,
    );
    of("format_time(1792888200000, \"%H:%M\")", r#""00:30""#);
    of("local_time(1792888200000, \"Europe/Berlin\").weekday", "7");
    of("local_time(1792888200000).hour", "0");
    of("day_start(1792888200000, \"Europe/Berlin\")", "1792879200000");
    let said = |call: &str, expected: &str| {
        let said =
            shown(&run(&mut node(&format!("msg.payload = {call}; msg")), json_message("{}")));
        assert!(said.contains(expected), "{said}");
    };
    said("local_time(1, \"Europe/Berln\")", "expected the name of a time zone");
    said("format_time(1, \"%!\")", "is no form of a time");
    said("parse_time(\"soon\")", "expected a time such as");
    said("{ let p = \"(\"; regex_find(\"a\", p) }", "is no regular expression");
    said("{ let t = \"x\"; t.pad(17000, 'x'); regex_find(t, \"y\") }", "16384 bytes at most");
    said(
        "{ let t = \"x\"; t.pad(9000, 'x'); regex_replace(t, \"x\", \"xxxxxxxxx\") }",
        "a text grew beyond",
    );
}

#[test]
fn a_pattern_that_is_none_is_found_by_lint() {
    let found = format!(
        "{:?}",
        testing::configure(&script(), "script: 'regex_find(msg.topic, \"(\"); msg'").err()
    );
    assert!(found.contains("a pattern that is no regular expression"), "{found}");
}

#[test]
fn a_pattern_that_would_take_for_ever_does_not() {
    let script =
        "let t = \"a\"; t.pad(16000, 'a'); msg.payload = regex_matches(t, `^(a+)+$b`); msg";
    let started = tokio::time::Instant::now();
    let _ = run(&mut node(script), json_message("{}"));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_error_has_the_values_that_it_had_and_no_setting_among_them() {
    let said = |script: &str, payload: &str| {
        let input = Input { message: json_message(payload), from: "meter".into() };
        let error = node(script).apply(input, &mut Emitter::default()).unwrap_err();
        error
            .downcast_ref::<forebay_sdk::Fault>()
            .map(|fault| fault.used.clone())
            .unwrap_or_default()
    };
    let script =
        "let n = 3;\nstate.t = 1;\nlet x = (msg.payload.a.b - n) / state.z + msg.payload.c;\nmsg";
    assert_eq!(
        said(script, r#"{"a":{"b":5},"c":"long"}"#),
        "msg.payload.a.b = 5, n = 3, state.z = null, msg.payload.c = \"long\""
    );
    assert_eq!(said("msg.payload.a - settings.token", r#"{"a":[1]}"#), "");
}

/// What users of other programs of this kind have run into.
#[test]
fn what_users_of_others_ran_into() {
    // A message that is sent in a loop is sent as it was then.
    let script = "for i in 1..4 { msg.payload = #{ n: i }; emit(`low`, msg); } ()";
    let sent = run(&mut node(script), json_message("{}"));
    assert_eq!(shown(&sent), "2 site/a {\"n\":1}\n2 site/a {\"n\":2}\n2 site/a {\"n\":3}");
    // Long whole numbers keep their digits, as numbers and in texts, and what is longer is no other number in silence.
    let long = r#"{"long":228930314431312345}"#;
    check(
        "msg.payload.text = \"\" + msg.payload.long; msg",
        long,
        r#"{"long":228930314431312345,"text":"228930314431312345"}"#,
    );
    check("msg.payload.long += 1; msg", long, r#"{"long":228930314431312346}"#);
    check("msg.payload.n += 1; msg", r#"{"n":9223372036854775807}"#, {
        "error: line 1, column 15: addition overflow: 9223372036854775807 + 1"
    });
    // An hour that is there twice, and one that is not there, are no errors.
    check(
        "msg.payload = parse_time(`20231029025935`, `%Y%m%d%H%M%S`, `Europe/Paris`); msg",
        "1",
        "1698541175000",
    );
    check(
        "msg.payload = parse_time(`2026-03-29 02:30`, `Europe/Berlin`); msg",
        "1",
        "1774747800000",
    );
    // A number that came as a text is a number only when somebody says so.
    check(
        "msg.payload.n = parse_float(msg.payload.n) + 1; msg",
        r#"{"n":"23.6"}"#,
        r#"{"n":24.6}"#,
    );
    // What others remember stays when one message is an error.
    let mut counting =
        node("state.n = (state.n ?? 0) + 1; msg.payload = state.n / msg.payload; msg");
    let counts = ["1", "0", "1"].map(|payload| shown(&run(&mut counting, json_message(payload))));
    assert_eq!(counts[0], "0 site/a 1");
    assert!(counts[1].contains("division by zero"), "{}", counts[1]);
    assert_eq!(counts[2], "0 site/a 2");
    // Bytes that one reader changes are its own.
    let shared = json_message("[1,2]");
    let changed = run(&mut node("msg.payload[0] = 9; msg"), shared.clone());
    assert_eq!(shown(&changed), "0 site/a [9,2]");
    assert_eq!(shared.payload.to_bytes(Format::Json), "[1,2]");
    // What was read out of `state` is a value of its own, and so is each that was put there.
    let mut light = node(
        "if state.light == () { state.light = #{ on: true }; state.all = []; }\n\
         let now = state.light; now.on = false; now.n = msg.payload;\n\
         state.all.push(now); now.n = 0; msg.payload = [state.light, state.all]; msg",
    );
    let _ = run(&mut light, json_message("1"));
    assert_eq!(
        shown(&run(&mut light, json_message("2"))),
        r#"0 site/a [{"on":true},[{"n":1,"on":false},{"n":2,"on":false}]]"#
    );
    // Decimal numbers keep their digits through a text of JSON.
    let digits = "[0.12379999458789825,0.05209999904036522,-0.0032999999821186066]";
    check(
        "msg.payload = to_json(parse_json(msg.payload)); msg",
        &format!("{digits:?}"),
        &format!("{digits:?}"),
    );
    // A part of a text is one of characters, not of bytes.
    check(
        "msg.payload = [msg.payload.sub_string(1, 2), msg.payload.len(), msg.payload[-1]]; msg",
        r#""😀Ä漢b""#,
        r#"["Ä漢",4,"b"]"#,
    );
    // A counter beyond what a script counts in leaves as it came, and harms no other field.
    let counter = r#"{"octets":18446744073709551615,"n":1}"#;
    check("msg.payload.n += 1; msg", counter, r#"{"octets":18446744073709551615,"n":2}"#);
    check(
        "let all = msg.payload; all.n = all.octets > 9.2e18; msg.payload = all; msg",
        counter,
        r#"{"octets":18446744073709551615,"n":true}"#,
    );
}
