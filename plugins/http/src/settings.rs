//! What users write under an `http` sink, and what can be wrong with it.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use forebay_sdk::tls::Tls;
use forebay_sdk::{
    Capabilities, Endpoint, Format, Links, Node, Period, Problem, Secret, Settings, units::form,
};
use reqwest::{
    Method, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{client::Opening, sink::HttpSink};

const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpSettings {
    /// Where the requests go, such as `https://example.com/ingest?site=a`. Logs and errors show
    /// only scheme, host and port of it.
    url: String,
    /// The request method.
    #[serde(default)]
    method: Verb,
    /// Headers of each request, by name. Their values are never shown.
    #[serde(default)]
    #[schemars(schema_with = "headers_schema")]
    headers: BTreeMap<String, Secret>,
    /// How messages become requests.
    #[serde(default)]
    body: Shape,
    /// How a payload is written with `body: single`.
    #[serde(default)]
    format: Format,
    /// Time for a whole exchange, from connecting to the end of the answer: 10ms to 1h. What is
    /// not answered by then is sent again.
    #[serde(default = "default_timeout")]
    timeout: Period,
    /// Time for finding the host and connecting to it, TLS included: 10ms to 1h.
    #[serde(default = "default_connect_timeout")]
    connect_timeout: Period,
    /// The certificates to trust, and no others: the path of a PEM file, or the PEM text itself.
    /// When left out: those of the operating system, or Mozilla's list when it has none.
    #[serde(default)]
    ca: Option<String>,
    /// Statuses from 400 to 499 after which a request is sent again, as after 3xx, 408, 429 and
    /// 5xx. The others of these reject the messages for good. For what somebody can put right
    /// while the messages wait: `[401, 403]` when a token may run out.
    #[serde(default)]
    #[schemars(length(max = 100), inner(range(min = 400, max = 499)))]
    retry_also: Vec<u16>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Verb {
    #[default]
    Post,
    Put,
}

/// How messages become the body of a request.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shape {
    /// One request per message; its body is the payload.
    #[default]
    Single,
    /// Many messages per request, as a JSON array of payloads; of one payload too.
    Array,
    /// Many messages per request, as JSON lines (`application/x-ndjson`).
    Lines,
}

/// Some headers hold secrets, and some a `Content-Type`.
fn headers_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "format": form::HIDDEN },
    })
}

fn default_timeout() -> Period {
    Period::seconds(10)
}

fn default_connect_timeout() -> Period {
    Period::seconds(5)
}

/// Messages in one request, unless `batch:` says otherwise.
const USUAL_BATCH: usize = 100;

impl Settings for HttpSettings {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(check_url(&self.url));
        problems.extend(check_headers(&self.headers));
        if self.body != Shape::Single && self.format != Format::Json {
            let message = "`format` is for `body: single` only";
            let label = "expected `json`: the other bodies are made of JSON";
            problems.push(Problem::new("format", message, label));
        }
        for (name, period) in [("timeout", self.timeout), ("connect_timeout", self.connect_timeout)]
        {
            const RANGE: RangeInclusive<Duration> = SHORTEST_TIMEOUT..=LONGEST_TIMEOUT;
            if !RANGE.contains(&period.0) {
                let message = format!("`{name}` is out of range");
                let label = format!("expected 10ms to 1h, found {period}");
                problems.push(Problem::new(name, message, label));
            }
        }
        if self.ca.as_ref().is_some_and(|ca| ca.trim().is_empty()) {
            let message = "`ca` is empty";
            problems.push(Problem::new(
                "ca",
                message,
                "expected the path of a PEM file, or its text",
            ));
        }
        problems
    }

    fn capabilities(&self) -> Capabilities {
        let batch_messages = match self.body {
            Shape::Single => 1,
            Shape::Array | Shape::Lines => USUAL_BATCH,
        };
        Capabilities { batch_messages, ..Capabilities::default() }
    }

    fn build(self, links: Links) -> Node {
        let method = match self.method {
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
        };
        let tls = Tls { folder: links.folder, ca: self.ca, cert: None, key: None };
        let opening = Opening { url: self.url, tls, connect_timeout: self.connect_timeout.0 };
        Node::sink(HttpSink {
            opening,
            method,
            headers: header_map(&self.headers),
            shape: self.body,
            format: self.format,
            timeout: self.timeout.0,
            retry_also: self.retry_also,
            open: None,
        })
    }
}

/// The labels never show the url: there may be a secret in it.
fn check_url(text: &str) -> Option<Problem> {
    const EXPECTED: &str = "expected such as `https://example.com/ingest`";
    let problem = |label: String| Problem::new("url", "`url` cannot be used", label);
    let is_scheme = |scheme: &str| {
        text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    // The parser would also take `https:/example.com` and blanks in front.
    if !is_scheme("https://") && !is_scheme("http://") {
        return Some(problem(match text.contains("://") {
            true => "expected `http://` or `https://`".to_owned(),
            false => format!("{EXPECTED}, with `http://` or `https://` in front"),
        }));
    }
    if text.contains(char::is_whitespace) {
        return Some(problem(format!("{EXPECTED}: a blank is written `%20`")));
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            return Some(problem(format!("{EXPECTED}: {}", url_words(&error.to_string()))));
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        let problem = problem("expected no user and password".to_owned());
        return Some(problem.note(
            "put them under `headers`: { Authorization: \"Basic ${file:secrets/ingest}\" }, \
             where the file holds user:password in base64",
        ));
    }
    let endpoint = Endpoint::parse(url.authority(), 80).ok()?;
    if url.scheme() == "http" && !endpoint.is_local() {
        let label = format!("expected `https://{}`", endpoint.host);
        let message = format!("`url` has no TLS, and {} is no local host", endpoint.host);
        let problem = Problem::new("url", message, label);
        let note = "who listens on the way reads messages and headers, and can change them";
        return Some(problem.rule("unencrypted").warning().note(note));
    }
    None
}

/// What the parser says, in words about what is wrong.
fn url_words(error: &str) -> &str {
    match error {
        "empty host" => "the host is missing",
        "invalid port number" => "a port is a number from 1 to 65535",
        "invalid IPv4 address" => "this is no IPv4 address",
        "invalid IPv6 address" => "an IPv6 address stands in brackets, as in `[fe80::1]`",
        "invalid domain character" | "invalid international domain name" => {
            "the host has a character that no host has"
        }
        other => other,
    }
}

fn check_headers(headers: &BTreeMap<String, Secret>) -> Vec<Problem> {
    // They say where a request ends. Another value would let one request pass for two.
    const OURS: [&str; 3] = ["connection", "content-length", "transfer-encoding"];
    let mut problems = Vec::new();
    let mut seen = Vec::new();
    for (name, value) in headers {
        let setting = format!("headers.{name}");
        let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
            let message = format!("`{name}` is no name of a header");
            let label = "expected letters, digits and `-`, such as `X-Api-Key`";
            problems.push(Problem::new(setting, message, label));
            continue;
        };
        if OURS.contains(&known.as_str()) {
            let message = format!("`{name}` cannot be set");
            problems.push(Problem::new(setting, message, "it follows from the request"));
        } else if HeaderValue::from_str(value.expose()).is_err() {
            let message = format!("the value of `{name}` cannot stand in a header");
            let label = "expected no line break or other control character";
            problems.push(Problem::new(setting, message, label));
        } else if seen.contains(&known) {
            let message = format!("`{name}` stands here twice");
            let label = "the names of headers differ by more than upper and lower case";
            problems.push(Problem::new(setting, message, label));
        }
        seen.push(known);
    }
    problems
}

/// The headers that [`check_headers`] let pass.
fn header_map(headers: &BTreeMap<String, Secret>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let parsed =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.expose()));
        if let (Ok(name), Ok(mut value)) = parsed {
            value.set_sensitive(true);
            map.insert(name, value);
        }
    }
    map
}
