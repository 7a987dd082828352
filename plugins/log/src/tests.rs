use std::io::{self, Write};

use forebay_sdk::{
    Emitter, Format, Message, Payload, Sink, Timestamp, WriteError, Written, testing,
};
use serde_json::{Value, json};

use super::{
    line::{Layout, lines},
    log,
    sink::Log,
};

fn message(topic: &str, payload: impl Into<Payload>) -> Message {
    let time = Timestamp::from_unix_nanos(1_795_252_442_120_999_999);
    Message { time, ..Message::new(topic, payload) }
}

#[track_caller]
fn check(message: Message, text: &str) {
    assert_eq!(lines(&[message], Layout::Text), format!("{text}\n"));
}

#[test]
fn a_line_tells_time_topic_and_payload() {
    check(
        message("site/a/boiler", json!({"flow": 71.5, "on": true})),
        r#"09:14:02.120 site/a/boiler {"flow":71.5,"on":true}"#,
    );
    check(message("", json!("on")), r#"09:14:02.120 - "on""#);
    check(message("a", Value::Null), "09:14:02.120 a null");
}

#[test]
fn bytes_from_outside_stay_on_their_line() {
    check(
        message("a", Payload::encoded("{\n  \"b\": 1\n}", Format::Json)),
        r#"09:14:02.120 a {"b":1}"#,
    );
    check(message("a", Payload::encoded("{oops\n", Format::Json)), r#"09:14:02.120 a "{oops\n""#);
    check(
        message("a", Payload::encoded(&b"\xff\x00"[..], Format::Bytes)),
        "09:14:02.120 a \"\u{fffd}\\u0000\"",
    );
}

#[test]
fn control_characters_from_outside_never_reach_the_terminal() {
    check(
        message("a\u{1b}[2J\nb\u{9b}", json!("\u{1b}]0;x\u{7}\u{7f}\u{9b}31m")),
        r#"09:14:02.120 a\u001b[2J\u000ab\u009b "\u001b]0;x\u0007\u007f\u009b31m""#,
    );
    let mut tainted = message("a\u{9b}", json!({"\u{85}": "\u{7f}"}));
    tainted.meta.insert("\u{9d}", "\r");
    let line = lines(std::slice::from_ref(&tainted), Layout::Json);
    assert!(!line.trim_end_matches('\n').contains(char::is_control), "{line:?}");
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["topic"], "a\u{9b}");
    assert_eq!(value["payload"], json!({"\u{85}": "\u{7f}"}));
}

#[test]
fn a_json_line_tells_everything() {
    let mut one = message("site/a", json!({"flow": 1}));
    one.meta.source = Some("boiler/meter".into());
    one.meta.insert("quality", "bad");
    let expected = concat!(
        r#"{"time":"2026-11-21T09:14:02.120Z","topic":"site/a","payload":{"flow":1},"#,
        r#""meta":{"source":"boiler/meter","quality":"bad"}}"#,
        "\n"
    );
    assert_eq!(lines(&[one.clone(), one], Layout::Json), expected.repeat(2));
}

#[test]
fn a_log_rewrites_no_digit() {
    let came =
        r#"{ "id":123456789012345678901234567890, "e":[1E5, -0, 1.50],"t":"a \\\" gr\u00fcn" }"#;
    let shown = r#"{"id":123456789012345678901234567890,"e":[1E5,-0,1.50],"t":"a \\\" gr\u00fcn"}"#;
    let one = message("a", Payload::encoded(came, Format::Json));
    check(one.clone(), &format!("09:14:02.120 a {shown}"));
    let line = lines(&[one], Layout::Json);
    assert!(line.contains(&format!(r#""payload":{shown},"meta""#)), "{line}");
}

/// What a program gets that writes to `head` after it has gone.
struct BrokenPipe;

impl Write for BrokenPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_broken_pipe_is_an_error_to_retry_and_no_panic() {
    let mut sink = Log { layout: Layout::Text, open: || Box::new(BrokenPipe) }.start();
    sink.connect().await.unwrap();
    match sink.write(&[message("a", json!(1))], &mut Emitter::default()).await {
        Err(WriteError::Retry { error, after: None, taken: 0 }) => {
            assert_eq!(format!("{error:#}"), "printing messages: broken pipe");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_batch_is_one_write() {
    struct Counting(usize);
    impl Write for Counting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            assert_eq!(self.0, 1, "lines of others could come in between");
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Log { layout: Layout::Json, open: || Box::new(Counting(0)) }.start();
    let batch = vec![message("a", json!(1)); 100];
    let written = sink.write(&batch, &mut Emitter::default()).await.unwrap();
    assert_eq!(written, Written::bytes(lines(&batch, Layout::Json).len()));
}

#[test]
fn settings_may_be_left_out_and_are_checked() {
    assert_eq!(testing::configure(&log(), "{}").unwrap().capabilities().batch_messages, 100);
    assert!(testing::configure(&log(), "{format: json, to: stderr}").is_ok());
    let findings = testing::configure(&log(), "to: syslog").err().unwrap();
    assert!(findings[0].contains("expected `stdout` or `stderr`"), "{findings:?}");
}
