//! What `run` answers when it is asked how it is.

use serde_json::Map;
use tokio::sync::mpsc;

use super::{
    buffer::message_as_json,
    init_log, metrics,
    report::{health, status},
    running::Running,
};
use crate::{
    api::{Question, Side, Tap, Wanted},
    engine::Tapped,
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
        Wanted::Log => question.answer_by_text("text/plain; charset=utf-8", init_log::tail()),
        Wanted::Metrics(exposition) => {
            let (kind, text) = metrics::expose(status(running, report()), exposition);
            question.answer_by_text(kind, text);
        }
        Wanted::Tap(Tap { node, side, every }) => {
            let tapped = match side {
                Side::In => running.engine.tap_inputs(&node, every),
                Side::Out(output) => running.engine.tap(&node, output.as_deref(), every),
            };
            match tapped {
                Ok(tapped) => question.answer_by_lines(as_lines(tapped)),
                Err(why) => question.refuse(why),
            }
        }
    }
}

/// Messages as they pass, a line of JSON each. It ends when the node is gone or nobody listens.
fn as_lines(mut tapped: mpsc::Receiver<Tapped>) -> mpsc::Receiver<String> {
    let (say, lines) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                message = tapped.recv() => message,
                () = say.closed() => None,
            };
            let Some(message) = message else { return };
            let mut first = Map::from_iter([("output".to_owned(), (&*message.output).into())]);
            if message.left_out > 0 {
                first.insert("left_out".to_owned(), message.left_out.into());
            }
            let line = message.hide(message_as_json(first, &message.message));
            if say.send(line).await.is_err() {
                return;
            }
        }
    });
    lines
}
