//! What `run` answers when it is asked how it is.

use forebay_sdk::{Format, Message, text::beginning};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tracing::info;

use super::{
    buffer::message_as_json,
    init_log, metrics,
    report::{health, status},
    running::Running,
};
use crate::{
    api::{Question, Side, Tap, Wanted},
    config::runtime::Allowed,
    engine::{Backlog, Became, Tapped},
};

/// Answers a question.
pub(super) fn answer(question: Question, running: &Running) {
    let report = || running.engine.report();
    match question.wanted.clone() {
        Wanted::Health => question.answer(&health(running, &report())),
        Wanted::Status => question.answer(&status(running, report())),
        Wanted::Plan => {
            let outlook = running.outlook();
            tokio::spawn(async move { question.answer(&outlook.await) });
        }
        Wanted::Settings(node) => match running.settings(&node) {
            Ok(text) => question.answer_by_text("text/plain; charset=utf-8", text),
            Err(why) => question.refuse(why),
        },
        Wanted::History(node) => match running.engine.history(&node) {
            Ok(values) => question.answer(&values),
            Err(why) => question.refuse(why),
        },
        Wanted::LastValues => question.answer(&running.engine.last_values()),
        Wanted::Reload => match forbidden(running, Allowed::Reload, "reload") {
            Some(why) => question.forbid(why),
            None => {
                info!("somebody asks for a reload over the API");
                running.reload_asked.notify_one();
                question.answer(&json!({ "asked": true }));
            }
        },
        Wanted::DropBuffer(node) => match forbidden(running, Allowed::DropBuffer, "drop-buffer") {
            Some(why) => question.forbid(why),
            None => match running.engine.drop_waiting(&node) {
                Ok(dropped) => question.answer(&json!({ "dropped": dropped })),
                Err(why) => question.refuse(why),
            },
        },
        Wanted::Log => question.answer_by_text("text/plain; charset=utf-8", init_log::tail()),
        Wanted::Metrics(exposition) => {
            let (kind, text) = metrics::expose(status(running, report()), exposition);
            question.answer_by_text(kind, text);
        }
        Wanted::Tap(tap) => match tapped(running, &tap) {
            Ok((waiting, passing)) => {
                let most_bytes = tap.most_bytes.unwrap_or(usize::MAX);
                question.answer_by_lines(as_lines(waiting, passing, most_bytes));
            }
            Err(why) => question.refuse(why),
        },
    }
}

/// Why something may not be done from here.
fn forbidden(running: &Running, what: Allowed, name: &str) -> Option<String> {
    let is_allowed = running.allowed().contains(&what);
    (!is_allowed).then(|| format!("`api: {{ allow: [{name}] }}` in forebay.yaml allows this"))
}

/// What waits in front of a node, if that is asked for, and its messages as they pass.
fn tapped(
    running: &Running,
    Tap { node, side, every, with_waiting, .. }: &Tap,
) -> Result<(Option<Backlog>, mpsc::Receiver<Tapped>), String> {
    let engine = &running.engine;
    let waiting = with_waiting.then(|| engine.waiting(node)).transpose()?;
    let passing = match side {
        Side::In => engine.tap_inputs(node, *every),
        Side::Both => engine.compare(node, *every),
        Side::Out(output) => engine.tap(node, output.as_deref(), *every),
    }?;
    Ok((waiting, passing))
}

/// What waits, and then messages as they pass, a line of JSON each. It ends when the node is gone or nobody listens.
fn as_lines(
    waiting: Option<Backlog>,
    mut passing: mpsc::Receiver<Tapped>,
    most_bytes: usize,
) -> mpsc::Receiver<String> {
    let (say, lines) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Some(mut waiting) = waiting {
            while let Some(message) = waiting.next().await {
                if say.send(as_line(&message, true, most_bytes)).await.is_err() {
                    return;
                }
            }
        }
        loop {
            let message = tokio::select! {
                message = passing.recv() => message,
                () = say.closed() => None,
            };
            let Some(message) = message else { return };
            if say.send(as_line(&message, false, most_bytes)).await.is_err() {
                return;
            }
        }
    });
    lines
}

fn as_line(tapped: &Tapped, waits: bool, most_bytes: usize) -> String {
    let named = |output: &str| Map::from_iter([("output".to_owned(), output.into())]);
    let mut first = named(&tapped.output);
    if waits {
        first.insert("waits".to_owned(), true.into());
    }
    if tapped.left_out > 0 {
        first.insert("left_out".to_owned(), tapped.left_out.into());
    }
    let told = |first, message: &_| told(first, message, most_bytes, |text| tapped.hide(text));
    let mut line = told(first, &tapped.message);
    if let Some(became) = &tapped.became {
        let Became { made, more, is_kept } = became;
        let made: Vec<String> =
            made.iter().map(|(output, message)| told(named(output), message)).collect();
        line.pop();
        line += &format!(",\"became\":[{}]", made.join(","));
        if *more > 0 {
            line += &format!(",\"became_more\":{more}");
        }
        if *is_kept {
            line += ",\"kept\":true";
        }
        line.push('}');
    }
    tapped.hide(line)
}

/// A message behind other members; of one that is larger than that, the beginning, and how large it is.
fn told(
    mut first: Map<String, Value>,
    message: &Message,
    most_bytes: usize,
    hide: impl Fn(String) -> String,
) -> String {
    let bytes = message.size_bytes();
    if bytes <= most_bytes {
        return message_as_json(first, message);
    }
    first.insert("bytes".to_owned(), bytes.into());
    let payload = message.payload.to_bytes(Format::Json);
    // What is cut could not be told from what is hidden.
    let text = hide(String::from_utf8_lossy(&payload).into_owned());
    let cut = Value::String(format!("{}…", beginning(&text, most_bytes)));
    message_as_json(first, &Message { payload: cut.into(), ..message.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_large_message_the_beginning_is_told_and_no_part_of_a_secret() {
        let message = Message::new("t", json!({ "key": "hunter2", "text": "ä".repeat(5000) }));
        let hide = |text: String| text.replace("hunter2", "***");
        let told = |most| -> Value {
            serde_json::from_str(&told(Map::new(), &message, most, hide)).unwrap()
        };
        let large = told(11);
        assert_eq!(large["payload"], r#"{"key":"***…"#);
        assert!(large["bytes"].as_u64() > Some(10_000));
        assert!(told(30)["payload"].as_str().unwrap().ends_with("ä…"));
        assert_eq!(told(1 << 20)["payload"]["text"].as_str().unwrap().len(), 10_000);
    }
}
