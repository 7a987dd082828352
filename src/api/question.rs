//! What can be asked, and how it is answered.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// What can be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Everything that is known.
    Status,
    /// Whether all is well, and what is not.
    Health,
    /// The end of the log.
    Log,
    /// Numbers, for programs that collect them.
    Metrics(Exposition),
    /// What a reload of the folder as it stands would do.
    Plan,
    /// A node or connection as its file has it, without secrets.
    Settings(String),
    /// What a node sent last, with the last values of each field, and what went wrong.
    History(String),
    /// What each node sent last.
    LastValues,
    /// To look at the folder, and go over to it if it can run.
    Reload,
    /// To drop what waits in the buffer of a sink.
    DropBuffer(String),
    /// The messages of a node as they pass.
    Tap(Tap),
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text, version 0.0.4.
    Prometheus,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
}

/// Whose messages are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Tap {
    /// `boiler/meter`.
    pub node: String,
    /// What of it.
    pub side: Side,
    /// No more than one in this time.
    pub every: Duration,
    /// First what waits in front of it.
    pub with_waiting: bool,
    /// Of a larger message only the beginning is told.
    pub most_bytes: Option<usize>,
}

/// Where messages are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// As the node reads them.
    In,
    /// As it reads them, with what it makes of each.
    Both,
    /// As they come out, by the output of that name or the only one.
    Out(Option<String>),
}

/// A question, and where its answer goes.
pub struct Question {
    /// What is asked.
    pub wanted: Wanted,
    pub(super) answer: oneshot::Sender<Reply>,
}

/// How a question is answered.
pub(super) enum Reply {
    Whole {
        kind: &'static str,
        text: String,
    },
    Lines(mpsc::Receiver<String>),
    /// There is no such thing.
    Refused(String),
    /// It may not be done from here.
    Forbidden(String),
}

impl Question {
    /// Asks, and waits for the text that answers it. None while the program ends.
    pub(super) async fn ask(ask: &mpsc::Sender<Question>, wanted: Wanted) -> Option<String> {
        let (answer, answered) = oneshot::channel();
        ask.send(Question { wanted, answer }).await.ok()?;
        match answered.await.ok()? {
            Reply::Whole { text, .. } => Some(text),
            Reply::Lines(_) | Reply::Refused(_) | Reply::Forbidden(_) => None,
        }
    }

    /// Answers it, with JSON. Whoever asked may be gone.
    pub fn answer(self, json: &impl serde::Serialize) {
        let json = serde_json::to_string(json).unwrap_or_else(|error| format!("{error:?}"));
        self.answer_by_text("application/json", json);
    }

    /// Answers it, with a text of that media type.
    pub fn answer_by_text(self, kind: &'static str, text: String) {
        let _ = self.answer.send(Reply::Whole { kind, text });
    }

    /// Answers it with lines, as they come, until one side has enough.
    pub fn answer_by_lines(self, lines: mpsc::Receiver<String>) {
        let _ = self.answer.send(Reply::Lines(lines));
    }

    /// It may not be done from here.
    pub fn forbid(self, why: String) {
        let _ = self.answer.send(Reply::Forbidden(why));
    }

    /// There is no such thing.
    pub fn refuse(self, why: String) {
        let _ = self.answer.send(Reply::Refused(why));
    }
}
