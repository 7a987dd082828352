//! What a server's answer means for the messages that were sent.

use std::time::{Duration, SystemTime};

use reqwest::{
    Response, StatusCode, Url,
    header::{DATE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER},
};

/// A server that asks for more than this is asked again anyway.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How much of an answer is read. A connection with more in it is closed.
const ANSWER_BYTES: usize = 64 * 1024;
const EXCERPT_CHARS: usize = 200;

/// What becomes of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Settled,
    Retry,
    Reject,
}

/// What a status says. `retry_also` are statuses that do not reject.
pub(crate) fn verdict(status: StatusCode, retry_also: &[u16]) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Settled,
        408 | 429 => Verdict::Retry,
        400..=499 if !retry_also.contains(&status.as_u16()) => Verdict::Reject,
        // A redirect too: a mobile network without credit sends everybody to its own page.
        _ => Verdict::Retry,
    }
}

/// How long the server asks to be left alone, an hour at most.
pub(crate) fn wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = text(headers, RETRY_AFTER)?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let end = httpdate::parse_http_date(text).ok()?;
            // Both by the clock of the server: ours may not have been set.
            let date = text_date(headers).unwrap_or(now);
            end.duration_since(date).ok()?
        }
    };
    (!wait.is_zero()).then(|| wait.min(LONGEST_WAIT))
}

/// Reads an answer as far as there is any use in it. Keeps what was read when the rest fails.
pub(crate) async fn read(response: &mut Response, answer: &mut Vec<u8>) {
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ANSWER_BYTES - answer.len();
        answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            return;
        }
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
        match c.is_control() {
            true => excerpt.extend(c.escape_default()),
            false => excerpt.push(c),
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

fn text_date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, DATE)?).ok()
}
