//! The web service that a node asks, for tests of pipelines: what it answers is written down.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::anyhow;
use bytes::Bytes;
use forebay_sdk::{
    Finding, Format, Message, Payload, Peer, Period,
    peer::{Played, Side, Stage},
    rules::SETTING_VALUE,
    schema_of,
    world::{Listener, memory::Door},
    yaml::{self, Yaml},
};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{answer::format_of, shape::Shape, sink::HttpSink};

/// The largest request that is read.
const MOST_BYTES: usize = 64 << 20;

/// What a test says of a web service.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ServiceSettings {
    /// What a web service answers, request by request; the last of them from then on. `200` without a body unless given.
    #[serde(default)]
    answers: Vec<AnswerSettings>,
}

/// One answer.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnswerSettings {
    /// The status.
    #[serde(default = "usual_status")]
    #[schemars(range(min = 200, max = 599))]
    status: u16,
    /// Headers, such as `Retry-After`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The body: a text as it stands, all else as JSON.
    #[serde(default)]
    payload: Value,
    /// How long it thinks.
    after: Option<Period>,
}

fn usual_status() -> u16 {
    200
}

/// The peer.
pub(crate) fn peer() -> Peer {
    Peer {
        side: Side::Web,
        summary: "A web service that answers what is written down.",
        schema: schema_of::<ServiceSettings>,
        play: |stage| Box::new(Playing { stage, service: Arc::default() }),
    }
}

/// A web service that is played.
struct Playing {
    stage: Stage,
    service: Arc<Service>,
}

#[derive(Default)]
struct Service(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    answers: VecDeque<AnswerSettings>,
    taken: Vec<(Instant, Message)>,
}

impl Played for Playing {
    fn tell(&mut self, said: &Yaml, findings: &mut Vec<Finding>) {
        let settings = yaml::decode::<ServiceSettings>(said, "the web service", findings);
        let Some(ServiceSettings { answers }) = settings else { return };
        for (index, answer) in answers.iter().enumerate() {
            for (name, value) in &answer.headers {
                if header(name, value).is_none() {
                    let span = said.at(&format!("answers[{index}].headers")).span;
                    let message = format!("`{name}` cannot be a header");
                    let label = "expected a name such as `Retry-After`, and a value in one line";
                    findings.push(Finding::error(&SETTING_VALUE, span, message, label));
                }
            }
        }
        self.service.inside().answers = answers.into();
    }

    fn serve(&mut self) -> BoxFuture<'static, ()> {
        let shape = self.stage.connection::<HttpSink>().map_or(Shape::Single, |sink| sink.shape);
        let doors = self.stage.places.iter().map(|place| self.stage.memory.open(place));
        let talks = doors.map(|door| talk(door, Arc::clone(&self.service), shape));
        join_all(talks.collect::<Vec<_>>()).map(|_| ()).boxed()
    }

    fn send(&self, _: Message) -> BoxFuture<'static, anyhow::Result<()>> {
        async { Err(anyhow!("a web service sends nothing by itself")) }.boxed()
    }

    fn taken(&self) -> Vec<(Instant, Message)> {
        std::mem::take(&mut self.service.inside().taken)
    }
}

/// Serves who comes, until dropped.
async fn talk(door: Door, service: Arc<Service>, shape: Shape) {
    let mut talks = JoinSet::new();
    while let Ok((stream, _)) = door.accept().await {
        while talks.try_join_next().is_some() {}
        let service = Arc::clone(&service);
        let answer = service_fn(move |request| {
            let service = Arc::clone(&service);
            async move { Ok::<_, Infallible>(service.answer(request, shape).await) }
        });
        let mut server = http1::Builder::new();
        // The date would be that of the system.
        server.auto_date_header(false);
        talks.spawn(server.serve_connection(TokioIo::new(stream), answer));
    }
}

impl Service {
    async fn answer(&self, request: Request<Incoming>, shape: Shape) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await;
        let Ok(body) = body.map(|body| body.to_bytes()) else {
            return response(StatusCode::PAYLOAD_TOO_LARGE, &Value::Null);
        };
        let answer = self.inside().next();
        let Some(AnswerSettings { status, headers, payload, after }) = answer else {
            self.inside().take(&head, body, shape);
            return response(StatusCode::OK, &Value::Null);
        };
        if let Some(after) = after {
            sleep(*after).await;
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        if status.is_success() {
            self.inside().take(&head, body, shape);
        }
        let mut response = response(status, &payload);
        let headers = headers.iter().filter_map(|(name, value)| header(name, value));
        response.headers_mut().extend(headers);
        response
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn next(&mut self) -> Option<AnswerSettings> {
        match self.answers.len() {
            0 | 1 => self.answers.front().cloned(),
            _ => self.answers.pop_front(),
        }
    }

    /// Takes what a request brings: a message, or several.
    fn take(&mut self, head: &hyper::http::request::Parts, body: Bytes, shape: Shape) {
        let headers = head.headers.iter();
        let headers: serde_json::Map<String, Value> = headers
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.into())))
            .collect();
        let mut http = json!({ "method": head.method.as_str(), "headers": headers });
        if let Some(query) = head.uri.query() {
            http["query"] = query.into();
        }
        for payload in payloads(body, headers.get(CONTENT_TYPE.as_str()), shape) {
            let mut message = Message::new(head.uri.path(), payload);
            message.meta.insert("http", http.clone());
            self.taken.push((Instant::now(), message));
        }
    }
}

fn payloads(body: Bytes, content_type: Option<&Value>, shape: Shape) -> Vec<Payload> {
    let content_type = content_type.and_then(Value::as_str).unwrap_or_default();
    let format = match format_of(content_type) {
        Some(format) => format,
        None if std::str::from_utf8(&body).is_ok() => Format::Text,
        None => Format::Bytes,
    };
    match shape {
        Shape::Single if body.is_empty() => vec![Value::Null.into()],
        Shape::Single => vec![Payload::encoded(body, format)],
        Shape::Lines => body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| Payload::encoded(line.to_vec(), Format::Json))
            .collect(),
        Shape::Array => match Payload::encoded(body, format).to_value_lossy() {
            Value::Array(items) => items.into_iter().map(Payload::from).collect(),
            other => vec![other.into()],
        },
    }
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, value.parse().ok()?))
}

fn response(status: StatusCode, payload: &Value) -> Response<Full<Bytes>> {
    let (kind, body) = match payload {
        Value::Null => (None, Bytes::new()),
        Value::String(text) => (Some("text/plain"), text.clone().into()),
        other => (Some("application/json"), other.to_string().into()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}
