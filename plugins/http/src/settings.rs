//! What users write under an `http` sink, and what can be wrong with it.

use std::{collections::BTreeMap, time::Duration};

use forebay_sdk::{
    Coding, Compression, Configured, Endpoint, Format, Period, Problem, Secret, Settings,
    rules::UNENCRYPTED, units::form,
};
use hyper::{
    Method,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
        USER_AGENT,
    },
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{answer, body, shape::Shape, sink::HttpSink};

const SHORTEST_TIMEOUT: Period = Period(Duration::from_millis(10));
const LONGEST_TIMEOUT: Period = Period::seconds(3600);
/// What a server hears of who calls.
pub(crate) const OUR_NAME: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpSettings {
    /// Where the requests go, such as `https://example.com/ingest?site=a`. Logs and errors show
    /// only scheme, host and port of it.
    #[schemars(extend("format" = form::URL))]
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
    /// How a payload is written.
    #[serde(default)]
    format: Format,
    /// How the body is packed; `Content-Encoding` says so to the server.
    #[serde(default)]
    compression: Option<Compression>,
    /// Time for a whole exchange, from connecting to the end of the answer: 10ms to 1h. What is
    /// not answered by then is sent again.
    #[serde(default = "default_timeout")]
    timeout: Period,
    /// Time for finding the host and connecting to it, TLS included: 10ms to 1h.
    #[serde(default = "default_connect_timeout")]
    connect_timeout: Period,
    /// The certificates to trust, and no others: a PEM file, its name relative to the configuration's
    /// folder, or the PEM text itself. When left out: those of the operating system, or Mozilla's list when it has none.
    #[serde(default)]
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    ca: Option<String>,
    /// More statuses from 400 to 499 after which a request is sent again, as after 401, 403, 404,
    /// 405, 407, 408, 410, 421, 423, 425, 429, and all of 3xx and 5xx. The others reject the messages
    /// for good. For what somebody can put right while the messages wait.
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

pub(crate) fn default_connect_timeout() -> Period {
    Period::seconds(5)
}

impl Settings for HttpSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let url = read_url(&self.url, problems);
        let mut headers = read_headers(&self.headers, problems);
        let (fits, label) = match self.body {
            Shape::Single => (true, ""),
            Shape::Array => (self.format.is_structured(), "expected `json`, `cbor` or `msgpack`"),
            Shape::Lines => (self.format == Format::Json, "expected `json`"),
        };
        if !fits {
            let message = "`format` does not go with this `body`";
            problems.push(Problem::new("format", message, label));
        }
        for (name, period) in [("timeout", self.timeout), ("connect_timeout", self.connect_timeout)]
        {
            let range = SHORTEST_TIMEOUT..=LONGEST_TIMEOUT;
            problems.extend(Problem::unless_within(name, &period, range));
        }
        let url = url?;
        let secrets = answer::secrets(&headers, &url).into();
        let content_type = body::content_type(self.body, self.format);
        let usual = [(CONTENT_TYPE, content_type), (ACCEPT, "*/*"), (USER_AGENT, OUR_NAME)];
        for (name, value) in usual {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        if let Some(compression) = self.compression {
            let value = HeaderValue::from_static(compression.name());
            headers.entry(CONTENT_ENCODING).or_insert(value);
        }
        Some(HttpSink {
            url,
            method: match self.method {
                Verb::Post => Method::POST,
                Verb::Put => Method::PUT,
            },
            headers,
            secrets,
            shape: self.body,
            coding: Coding { format: self.format, compression: self.compression },
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            ca: self.ca,
            retry_also: self.retry_also,
        })
    }
}

/// Reads a url. The labels never show it: there may be a secret in it.
pub(crate) fn read_url(text: &str, problems: &mut Vec<Problem>) -> Option<Url> {
    const EXPECTED: &str = "expected such as `https://example.com/ingest`";
    let mut refuse = |problem: Problem| {
        problems.push(problem);
        None
    };
    let problem = |label: String| Problem::new("url", "`url` cannot be used", label);
    let is_scheme = |scheme: &str| {
        text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    // The parser would also take `https:/example.com` and blanks in front.
    if !is_scheme("https://") && !is_scheme("http://") {
        let label = if text.contains("://") {
            "expected `http://` or `https://`".to_owned()
        } else {
            format!("{EXPECTED}, with `http://` or `https://` in front")
        };
        return refuse(problem(label));
    }
    if text.contains(char::is_whitespace) {
        return refuse(problem(format!("{EXPECTED}: a blank is written `%20`")));
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            let label = format!("{EXPECTED}: {}", url_words(&error.to_string()));
            return refuse(problem(label));
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        let problem = problem("expected no user and password".to_owned());
        return refuse(problem.note(
            "put them under `headers`: { Authorization: \"Basic ${file:secrets/ingest}\" }, \
             where the file holds user:password in base64",
        ));
    }
    problems.extend(unencrypted(&url));
    Some(url)
}

fn unencrypted(url: &Url) -> Option<Problem> {
    let endpoint = Endpoint::parse(url.authority(), 80).ok()?;
    if url.scheme() != "http" || endpoint.is_local() {
        return None;
    }
    let label = format!("expected `https://{}`", endpoint.host);
    let message = format!("`url` has no TLS, and {} is no local host", endpoint.host);
    let note = "who listens on the way reads messages and headers, and can change them";
    Some(Problem::new("url", message, label).rule(&UNENCRYPTED).warning().note(note))
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

/// Reads the headers that may be set, and refuses the others.
pub(crate) fn read_headers(
    headers: &BTreeMap<String, Secret>,
    problems: &mut Vec<Problem>,
) -> HeaderMap {
    // They say where a request ends. Another value would let one request pass for two.
    const OURS: [&str; 3] = ["connection", "content-length", "transfer-encoding"];
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let mut refuse = |message: String, label: &str| {
            problems.push(Problem::new(format!("headers.{name}"), message, label));
        };
        let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
            let label = "expected letters, digits and `-`, such as `X-Api-Key`";
            refuse(format!("`{name}` is no name of a header"), label);
            continue;
        };
        if OURS.contains(&known.as_str()) {
            refuse(format!("`{name}` cannot be set"), "it follows from the request");
            continue;
        }
        let Ok(mut value) = HeaderValue::from_str(value.expose()) else {
            let label = "expected no line break or other control character";
            refuse(format!("the value of `{name}` cannot stand in a header"), label);
            continue;
        };
        if known == AUTHORIZATION && names_nobody(value.as_bytes()) {
            let label = "expected one behind the scheme; without it, leave out the header";
            refuse(format!("`{name}` has no token"), label);
            continue;
        }
        value.set_sensitive(true);
        if map.insert(known, value).is_some() {
            let label = "the names of headers differ by more than upper and lower case";
            refuse(format!("`{name}` stands here twice"), label);
        }
    }
    map
}

/// Whether an `Authorization` is a scheme and nothing else, such as the `Bearer ` that an empty
/// variable leaves.
fn names_nobody(value: &[u8]) -> bool {
    const SCHEMES: [&str; 3] = ["Basic", "Bearer", "Token"];
    let said = value.trim_ascii();
    let is_scheme = |scheme: &&str| said.eq_ignore_ascii_case(scheme.as_bytes());
    value.ends_with(b" ") || SCHEMES.iter().any(is_scheme)
}
