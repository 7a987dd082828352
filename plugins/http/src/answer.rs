//! What a server's answer means for the messages that were sent.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use forebay_sdk::{Format, Message, Meta, Payload, Timestamp, Value, node::LONGEST_PAUSE};
use http_body_util::BodyExt;
use hyper::{
    StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER},
};
use serde_json::Map;
use url::Url;

/// How much of an answer is read. A connection with more in it is closed.
const ANSWER_BYTES: usize = 64 * 1024;
const EXCERPT_CHARS: usize = 200;

/// What becomes of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Settled,
    Retry,
    /// For a reason that is not in the messages, and that somebody has to mend.
    Barred,
    Reject,
}

/// What a status says. `retry_also` are statuses that do not reject.
///
/// The url is the same for all messages, so that what is wrong with it is the fault of none.
pub(crate) fn verdict(status: StatusCode, retry_also: &[u16]) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Settled,
        401 | 403 | 404 | 405 | 407 | 410 => Verdict::Barred,
        408 | 421 | 423 | 425 | 429 => Verdict::Retry,
        400..=499 if !retry_also.contains(&status.as_u16()) => Verdict::Reject,
        // A redirect too: a mobile network without credit sends everybody to its own page.
        _ => Verdict::Retry,
    }
}

/// How long the server asks to be left alone, at most as long as the engine pauses.
pub(crate) fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = text(headers, RETRY_AFTER)?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let now = || Duration::from_nanos(u64::try_from(now.unix_nanos()).unwrap_or(0));
            // Both by the clock of the server: ours may not have been set.
            let date = self::text(headers, DATE).and_then(since_1970).unwrap_or_else(now);
            since_1970(text)?.checked_sub(date)?
        }
    };
    (!wait.is_zero()).then(|| wait.min(LONGEST_PAUSE))
}

fn since_1970(date: &str) -> Option<Duration> {
    httpdate::parse_http_date(date).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

/// What a server says beside its status, as far as there is any use in it.
#[derive(Default)]
pub(crate) struct Answer {
    pub bytes: Vec<u8>,
    /// Nothing of it is missing.
    is_whole: bool,
}

impl Answer {
    /// Reads until the end, or the bound. Keeps what was read when the rest fails, or the future is
    /// dropped.
    pub async fn read(&mut self, body: &mut Incoming) {
        while let Ok(frame) = body.frame().await.transpose() {
            let Some(frame) = frame else {
                self.is_whole = true;
                return;
            };
            // What is no data is of no interest.
            let Ok(chunk) = frame.into_data() else { continue };
            let room = ANSWER_BYTES - self.bytes.len();
            self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                return;
            }
        }
    }

    /// Whether nothing of it is missing.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The answer as a message: about what the request was about.
    pub fn into_message(
        self,
        batch: &[Message],
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Message {
        let content_type = text(headers, CONTENT_TYPE);
        let mut http = Map::new();
        http.insert("status".to_owned(), status.as_u16().into());
        if let Some(content_type) = content_type {
            http.insert("content_type".to_owned(), content_type.into());
        }
        if !self.is_whole {
            http.insert("cut".to_owned(), true.into());
        }
        // What else is known about a question is known about its answer.
        let mut meta = match batch {
            [message] => message.meta.clone(),
            _ => Meta::default(),
        };
        meta.source = None;
        meta.insert("http", http);
        let topic = batch.first().map_or_else(|| "".into(), |first| Arc::clone(&first.topic));
        Message { meta, ..Message::new(topic, self.payload(content_type.unwrap_or_default())) }
    }

    /// What is cut is read as text or bytes; what is nothing is `null`.
    fn payload(self, content_type: &str) -> Payload {
        if self.is_whole && self.bytes.is_empty() {
            return Value::Null.into();
        }
        let format = if let (true, Some(format)) = (self.is_whole, format_of(content_type)) {
            format
        } else if std::str::from_utf8(&self.bytes).is_ok() {
            Format::Text
        } else {
            Format::Bytes
        };
        Payload::encoded(self.bytes, format)
    }
}

/// In what a body of this type is written: `application/json; charset=utf-8`, and the likes of
/// `application/problem+json`.
pub(crate) fn format_of(content_type: &str) -> Option<Format> {
    let (kind, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    match kind.trim().to_ascii_lowercase().as_str() {
        "application/json" => Some(Format::Json),
        "application/cbor" => Some(Format::Cbor),
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
            Some(Format::Msgpack)
        }
        kind if kind.ends_with("+json") => Some(Format::Json),
        kind if kind.ends_with("+cbor") => Some(Format::Cbor),
        _ => None,
    }
}

/// The answer in a few words, on one line.
pub(crate) fn describe(
    status: StatusCode,
    headers: &HeaderMap,
    answer: &[u8],
    url: &Url,
    secrets: &[String],
) -> String {
    if status.is_redirection() {
        let location = text(headers, LOCATION).and_then(|location| url.join(location).ok());
        let host = location.as_ref().and_then(Url::host_str).unwrap_or("another place");
        return format!("{status}: it sends us to {host}; redirects are not followed");
    }
    match excerpt(answer, secrets) {
        excerpt if excerpt.is_empty() => status.to_string(),
        excerpt => format!("{status}: {excerpt}"),
    }
}

/// The beginning of a text from outside. A server that repeats what it was sent does not bring
/// secrets into the log.
fn excerpt(answer: &[u8], secrets: &[String]) -> String {
    let mut text = String::from_utf8_lossy(answer).into_owned();
    for secret in secrets {
        text = text.replace(secret, "<hidden>");
    }
    let text = text.trim();
    let mut excerpt = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == EXCERPT_CHARS {
            excerpt.push('…');
            break;
        }
        if c.is_control() {
            excerpt.extend(c.escape_default());
        } else {
            excerpt.push(c);
        }
    }
    excerpt
}

/// What must not come back in an excerpt: values of headers, with and without the word in front,
/// and the path and query of the url.
pub(crate) fn secrets(headers: &HeaderMap, url: &Url) -> Vec<String> {
    /// Anything shorter is no secret, and stands in many a text by chance.
    const SHORTEST: usize = 6;
    let mut secrets = Vec::new();
    for value in headers.values().filter_map(|value| value.to_str().ok()) {
        secrets.push(value.to_owned());
        secrets.extend(value.split_whitespace().map(str::to_owned));
    }
    secrets.push(url.path().to_owned());
    for (_, value) in url.query_pairs() {
        secrets.push(value.into_owned());
    }
    secrets.extend(url.query().map(str::to_owned));
    secrets.retain(|secret| secret.len() >= SHORTEST);
    // The longest first, so that no rest of it stays behind.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
