//! One request per batch, and one verdict.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use forebay_sdk::{
    Capabilities, Coding, Configured, Emitter, Endpoint, Examination, Message, Node, Period, Port,
    Problem, Sink, Site, Timestamp, WriteError, Written, beside,
    connection::Refused,
    http::failed_handshake,
    node::LONGEST_TRY,
    orders::ANSWERS,
    tls::{Oldest, Tls, rustls::pki_types::ServerName},
    world::{Dial, Proxy, Via, World},
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use http_body_util::Full;
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{HOST, HeaderMap, HeaderValue},
};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::info;
use url::{Position, Url};

use crate::{
    answer::{self, Answer, Verdict},
    body::body,
    client::{Client, Failure},
    shape::Shape,
};

/// Messages in one request, unless `batch:` says otherwise.
const USUAL_BATCH: usize = 100;
/// So that the sink, who knows whom it waits for, gives up before the engine does.
const GRACE: Duration = Duration::from_secs(10);

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
    pub coding: Coding,
    pub timeout: Period,
    pub connect_timeout: Period,
    pub ca: Option<String>,
    pub retry_also: Vec<u16>,
}

impl Configured for HttpSink {
    fn build(&self, site: Site) -> Node {
        let tls = self.certificates(site.folder);
        let world = site.world;
        Node::sink(Sending::new(self.clone(), tls, world))
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

    fn examine<'a>(&'a self, asked: &'a Examination<'a>) -> Option<LocalBoxFuture<'a, ()>> {
        Some(self.examine_all(asked).boxed_local())
    }

    fn check_files(&self, folder: &Path) -> Vec<Problem> {
        self.certificates(folder.into()).problems()
    }

    fn files(&self, folder: &Path) -> Vec<PathBuf> {
        self.certificates(folder.into()).files()
    }

    fn reaches(&self) -> Vec<String> {
        self.dial().map(|dial| dial.to.to_string()).into_iter().collect()
    }

    fn outputs(&self) -> Vec<String> {
        vec![ANSWERS.to_owned()]
    }
}

impl HttpSink {
    fn certificates(&self, folder: Arc<Path>) -> Tls {
        Tls { folder, ca: self.ca.clone(), cert: None, key: None, oldest: Oldest::default() }
    }

    /// How the server is called.
    fn dial(&self) -> Option<Dial> {
        let host = self.url.host_str()?.trim_matches(['[', ']']).to_owned();
        let to = Endpoint { host, port: self.url.port_or_known_default()? };
        // In small letters alone: in capitals it may be a header `Proxy` of a request that a web server runs us for.
        let names: &[&str] = match self.url.scheme() {
            "https" => &["HTTPS_PROXY", "ALL_PROXY"],
            _ => &["http_proxy", "ALL_PROXY"],
        };
        Some(Dial { via: Via::Environment(names), ..Dial::new(to) })
    }

    /// By way of whom requests go, as the environment says.
    fn proxy(&self, world: &World) -> anyhow::Result<Option<Proxy>> {
        let Some(dial) = self.dial() else { return Ok(None) };
        Ok(world.proxy(&dial)?)
    }

    fn request(&self, method: Method, body: Bytes) -> anyhow::Result<Request<Full<Bytes>>> {
        let path = &self.url[Position::BeforePath..Position::AfterQuery];
        let request = Request::builder().method(method).uri(path);
        let mut request = request.body(Full::new(body)).context("writing the request")?;
        *request.headers_mut() = self.headers.clone();
        let host = &self.url[Position::BeforeHost..Position::AfterPort];
        let host = HeaderValue::try_from(host).context("writing the request")?;
        request.headers_mut().entry(HOST).or_insert(host);
        Ok(request)
    }

    /// A client that asks the server. Reads certificates, and connects to nobody.
    async fn client(
        &self,
        tls: &Tls,
        world: &World,
        proxy: Option<Proxy>,
    ) -> anyhow::Result<Client> {
        let is_encrypted = self.url.scheme() == "https" && !world.is_private();
        let certificates = tls.clone();
        let tls = match is_encrypted {
            true => Some(beside(move || certificates.client_config()).await??.into()),
            false => None,
        };
        let dial = self.dial().context("`url` has no host")?;
        let (world, connect_timeout) = (world.clone(), *self.connect_timeout);
        Ok(Client { world, dial, tls, connect_timeout, proxy, line: None })
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
    fn refusal(
        &self,
        response: &Response<Incoming>,
        answer: &Answer,
        doing: String,
    ) -> anyhow::Error {
        let (status, headers) = (response.status(), response.headers());
        anyhow!(answer::describe(status, headers, &answer.bytes, &self.url, &self.secrets))
            .context(doing)
    }

    /// For `forebay doctor`: from the name of the host to an answer. Nothing is sent there.
    async fn examine_all(&self, asked: &Examination<'_>) {
        const ANSWER: &str = "answer";
        let tls = self.certificates(Arc::clone(&asked.site.folder));
        let Some(config) = asked.read_certificates(&tls).await else { return };
        let Some(dial) = self.dial() else { return };
        let host = dial.to.host.clone();
        let Some(stream) = asked.reach(dial.clone(), self.connect_timeout).await else { return };
        if self.url.scheme() == "https" {
            let Ok(name) = ServerName::try_from(host) else { return };
            let words = |error: io::Error| failed_handshake(&dial.to, error);
            let shaken = asked.shake_hands(stream, name, config, self.connect_timeout, words).await;
            if shaken.is_none() {
                return;
            }
        } else {
            // Some servers talk with one at a time.
            drop(stream);
        }
        let world = &asked.site.world;
        let made = async {
            let client = self.client(&tls, world, self.proxy(world)?).await?;
            anyhow::Ok((client, self.request(Method::HEAD, Bytes::new())?))
        };
        let (mut client, request) = match made.await {
            Ok(made) => made,
            Err(error) => return asked.wrong(ANSWER, format!("{error:#}"), ""),
        };
        let response = match timeout(*self.timeout, client.ask(&request)).await {
            Ok(Ok((response, _))) => response,
            Ok(Err(Failure::Connect(error) | Failure::Exchange(error))) => {
                let error = error.context(self.doing(client.proxy.as_ref()));
                return asked.wrong(ANSWER, format!("{error:#}"), "is it a web server?");
            }
            Err(_) => {
                let seen = format!("no answer within {}", self.timeout);
                return asked.wrong(ANSWER, seen, "it may be busy, or `timeout` too short");
            }
        };
        let said =
            answer::describe(response.status(), response.headers(), &[], &self.url, &self.secrets);
        let (method, seen) = (&self.method, format!("to HEAD it answers {said}"));
        match response.status().as_u16() {
            200..=299 | 400 | 405 | 411 | 415 | 422 | 501 => {
                asked.fine(
                    ANSWER,
                    format!("{seen}; what it says to {method} shows with the first message"),
                );
            }
            401 | 403 => asked.wrong(ANSWER, seen, "it does not let us in: look at `headers`"),
            407 => asked.wrong(ANSWER, seen, "a proxy on the way wants to know who we are"),
            404 | 410 => asked.doubt(
                ANSWER,
                seen,
                "look at the path in `url`, unless it knows only the method of the sink",
            ),
            300..=399 => asked.wrong(ANSWER, seen, "write the place that it sends us to in `url`"),
            _ => asked.doubt(ANSWER, seen, "the messages wait meanwhile"),
        }
    }

    /// What may be shown of a url: path and query can hold a secret.
    fn doing(&self, proxy: Option<&Proxy>) -> String {
        let to = self.url.origin().ascii_serialization();
        match proxy {
            None => format!("sending to {to}"),
            Some(Proxy { at, .. }) => format!("sending to {to} by way of the proxy at {at}"),
        }
    }
}

/// Whether a host is on the local network.
fn is_near(host: &str) -> bool {
    Endpoint::parse(host, 80).is_ok_and(|endpoint| endpoint.is_local())
}

pub(crate) struct Sending {
    pub sink: HttpSink,
    tls: Tls,
    world: World,
    proxy: Option<Proxy>,
    /// None until it is needed, and again when connecting failed: the list of certificates may
    /// have changed.
    client: Option<Client>,
}

impl Sending {
    pub(crate) fn new(sink: HttpSink, tls: Tls, world: World) -> Sending {
        Sending { sink, tls, world, proxy: None, client: None }
    }

    /// One exchange: what the server answers about a batch that it took.
    pub(crate) async fn exchange(
        &mut self,
        body: Bytes,
        batch: &[Message],
    ) -> Result<Message, WriteError> {
        let sink = &self.sink;
        let doing = || sink.doing(self.proxy.as_ref());
        let client = self.client.as_mut().context("writing before connecting")?;
        let deadline = Instant::now() + *sink.timeout;
        let request = sink.request(sink.method.clone(), body).map_err(WriteError::Reject)?;
        let (mut response, line) = match timeout_at(deadline, client.ask(&request)).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(Failure::Connect(error))) => {
                self.client = None;
                return Err(WriteError::retry(error.context(doing())));
            }
            Ok(Err(Failure::Exchange(error))) => {
                return Err(WriteError::retry(error.context(doing())));
            }
            Err(_) => {
                let error = anyhow!("no answer within {}", sink.timeout).context(doing());
                return Err(WriteError::retry(error));
            }
        };
        let mut answer = Answer::default();
        // The status decides. When the rest does not come, the connection is closed and that is it.
        let _ = timeout_at(deadline, answer.read(response.body_mut())).await;
        client.line = answer.is_whole().then_some(line);
        match answer::verdict(response.status(), &sink.retry_also) {
            Verdict::Settled => {
                Ok(answer.into_message(batch, response.status(), response.headers()))
            }
            Verdict::Reject => Err(WriteError::Reject(sink.refusal(&response, &answer, doing()))),
            verdict @ (Verdict::Retry | Verdict::Barred) => {
                let mut error = sink.refusal(&response, &answer, doing());
                if verdict == Verdict::Barred {
                    error = Refused::new(format!("{error:#}")).into();
                }
                let after = answer::wait(response.headers(), Timestamp::now());
                Err(WriteError::Retry { error, after, taken: 0 })
            }
        }
    }
}

impl Sink for Sending {
    async fn connect(&mut self) -> anyhow::Result<()> {
        if self.client.is_none() {
            let proxy = self.sink.proxy(&self.world)?;
            if proxy != self.proxy {
                info!("{}, as the environment says", self.sink.doing(proxy.as_ref()));
            }
            self.proxy.clone_from(&proxy);
            let made = self.sink.client(&self.tls, &self.world, proxy).await;
            self.client = Some(made?);
        }
        Ok(())
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        let sink = &self.sink;
        let body = body(batch, sink.shape, sink.coding).map_err(WriteError::Reject)?;
        let written = Written::bytes(sink.request_bytes(&body));
        let answer = self.exchange(body, batch).await?;
        out.emit_to(Port::named(0), answer);
        Ok(written)
    }
}
