//! One request per batch, and one verdict.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Capabilities, Configured, Emitter, Endpoint, Format, Message, Node, Period, Port, Problem,
    Sink, Site, Timestamp, WriteError, Written, connection::Refused, node::LONGEST_TRY, tls::Tls,
};
use reqwest::{
    Client, Method, RequestBuilder, Response, Url,
    header::{HOST, HeaderMap},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use crate::{
    answer::{self, Answer, Verdict},
    body::body,
    client::client,
    shape::Shape,
};

/// Messages in one request, unless `batch:` says otherwise.
const USUAL_BATCH: usize = 100;
/// So that the sink, who knows whom it waits for, gives up before the engine does.
const GRACE: Duration = Duration::from_secs(10);
/// The output on which the answers leave.
const ANSWERS: &str = "answers";

/// An HTTP sink that was understood.
#[derive(Clone)]
pub(crate) struct HttpSink {
    pub url: Url,
    pub method: Method,
    /// All but those that follow from the url and the body.
    pub headers: HeaderMap,
    /// What must not come back in an error.
    pub secrets: Arc<[String]>,
    pub shape: Shape,
    pub format: Format,
    pub timeout: Period,
    pub connect_timeout: Period,
    pub ca: Option<String>,
    pub retry_also: Vec<u16>,
}

impl Configured for HttpSink {
    fn build(&self, site: Site) -> Node {
        let tls = self.certificates(site.folder);
        Node::sink(Sending { sink: self.clone(), tls, client: None })
    }

    fn capabilities(&self) -> Capabilities {
        let batch_messages = match self.shape {
            Shape::Single => 1,
            Shape::Array | Shape::Lines => USUAL_BATCH,
        };
        // `timeout` holds for the whole of a write, `connect_timeout` for a part of it.
        let longest_try = LONGEST_TRY.max(*self.timeout + GRACE);
        let is_near = self.url.host_str().is_some_and(is_near);
        Capabilities { batch_messages, longest_try, is_near, ..Capabilities::default() }
    }

    fn check_files(&self, folder: &Path) -> Vec<Problem> {
        self.certificates(folder.into()).problems()
    }

    fn files(&self, folder: &Path) -> Vec<PathBuf> {
        self.certificates(folder.into()).files()
    }

    fn outputs(&self) -> Vec<String> {
        vec![ANSWERS.to_owned()]
    }
}

impl HttpSink {
    fn certificates(&self, folder: Arc<Path>) -> Tls {
        Tls { folder, ca: self.ca.clone(), cert: None, key: None }
    }

    fn request(&self, client: &Client, body: Vec<u8>) -> RequestBuilder {
        let request = client.request(self.method.clone(), self.url.clone());
        request.headers(self.headers.clone()).body(body)
    }

    /// How large a request is with its line and its headers, as they go into the connection.
    fn request_bytes(&self, body: &[u8]) -> usize {
        let header = |name: &str, value: usize| name.len() + ": ".len() + value + "\r\n".len();
        let query = self.url.query().map_or(0, |query| "?".len() + query.len());
        let line = self.method.as_str().len() + "  HTTP/1.1\r\n".len();
        let line = line + self.url.path().len() + query;
        let ours: usize =
            self.headers.iter().map(|(name, value)| header(name.as_str(), value.len())).sum();
        let host = if self.headers.contains_key(HOST) {
            0
        } else {
            header("host", self.url.authority().len())
        };
        let length = header("content-length", body.len().to_string().len());
        line + ours + host + length + "\r\n".len() + body.len()
    }

    /// Why the server did not take the messages.
    fn refusal(&self, response: &Response, answer: &Answer) -> anyhow::Error {
        let (status, headers) = (response.status(), response.headers());
        anyhow!(answer::describe(status, headers, &answer.bytes, &self.url, &self.secrets))
            .context(self.doing())
    }

    /// What may be shown of a url: path and query can hold a secret.
    fn doing(&self) -> String {
        format!("sending to {}", self.url.origin().ascii_serialization())
    }
}

/// Whether a host is on the local network.
fn is_near(host: &str) -> bool {
    Endpoint::parse(host, 80).is_ok_and(|endpoint| endpoint.is_local())
}

struct Sending {
    sink: HttpSink,
    tls: Tls,
    /// None until it is needed, and again when connecting failed: the list of certificates may
    /// have changed.
    client: Option<Client>,
}

impl Sink for Sending {
    async fn connect(&mut self) -> anyhow::Result<()> {
        if self.client.is_none() {
            let (tls, connect_timeout) = (self.tls.clone(), *self.sink.connect_timeout);
            let made = spawn_blocking(move || client(&tls, connect_timeout)).await;
            self.client = Some(made.context("making the HTTP client")??);
        }
        Ok(())
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        let sink = &self.sink;
        let body = body(batch, sink.shape, sink.format).map_err(WriteError::Reject)?;
        let client = self.client.as_ref().context("writing before connecting")?;
        let deadline = Instant::now() + *sink.timeout;
        let written = Written::bytes(sink.request_bytes(&body));
        let request = sink.request(client, body);
        let mut response = match timeout_at(deadline, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                if error.is_connect() {
                    self.client = None;
                }
                let error = anyhow!(error.without_url()).context(sink.doing());
                return Err(WriteError::retry(error));
            }
            Err(_) => {
                let error = anyhow!("no answer within {}", sink.timeout).context(sink.doing());
                return Err(WriteError::retry(error));
            }
        };
        let mut answer = Answer::default();
        // The status decides. When the rest does not come, the connection is closed and that is it.
        let _ = timeout_at(deadline, answer.read(&mut response)).await;
        match answer::verdict(response.status(), &sink.retry_also) {
            Verdict::Settled => {
                let message = answer.into_message(batch, response.status(), response.headers());
                out.emit_to(Port::named(0), message);
                Ok(written)
            }
            Verdict::Reject => Err(WriteError::Reject(sink.refusal(&response, &answer))),
            verdict @ (Verdict::Retry | Verdict::Barred) => {
                let mut error = sink.refusal(&response, &answer);
                if verdict == Verdict::Barred {
                    error = Refused::new(format!("{error:#}")).into();
                }
                let after = answer::wait(response.headers(), Timestamp::now());
                Err(WriteError::Retry { error, after, taken: 0 })
            }
        }
    }
}
