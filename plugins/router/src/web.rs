//! One web server, asked one question at a time over a connection that is kept.
//!
//! Opens its stream by the world, so a simulated router is asked by the code that asks a real one.

use std::{convert::Infallible, io, pin::Pin, sync::Arc, task};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use forebay_sdk::{
    Period, beside,
    connection::Refused,
    http::{Line, failed_handshake},
    tls::{self, Distrust, Tls, rustls},
    world::{Dial, World},
};
use hyper::{
    Method, Request, StatusCode,
    body::{Body, Frame, Incoming},
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::place::{Check, Place};

/// Larger than any answer of a router that was seen, by far.
const MOST_BYTES: usize = 1 << 20;
const OUR_NAME: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));

/// Asks a web server.
pub struct Web {
    world: World,
    place: Place,
    certificates: Tls,
    timeout: Period,
    /// None until it is needed, and without TLS. Kept, so that sessions of TLS are resumed.
    config: Option<Arc<rustls::ClientConfig>>,
    line: Option<Line<Said>>,
}

/// A question.
pub struct Ask<'a> {
    pub method: Method,
    /// With all that stands in front: `/api/login`.
    pub path: &'a str,
    pub token: Option<&'a str>,
    pub body: Option<&'a Value>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub bytes: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug)]
pub enum Failure {
    /// The question never left.
    NotSent(anyhow::Error),
    /// It may have been understood.
    Unknown(anyhow::Error),
}

impl Failure {
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Failure::NotSent(error) | Failure::Unknown(error) => error,
        }
    }
}

impl Web {
    pub fn new(world: World, place: Place, certificates: Tls, timeout: Period) -> Web {
        Web { world, place, certificates, timeout, config: None, line: None }
    }

    /// Where it is, as `https://192.168.1.1`.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Asks what may be asked twice: once more when a connection that was kept has died meanwhile.
    pub async fn ask(&mut self, ask: Ask<'_>) -> Result<Answer, Failure> {
        let was_kept = self.line.is_some();
        let again = Ask { method: ask.method.clone(), ..ask };
        match self.within(ask).await {
            Err(Failure::Unknown(error)) if was_kept && !error.is::<TooLong>() => {
                self.within(again).await
            }
            other => other,
        }
    }

    /// Asks what must not be asked twice, on a new connection, so that an old one is no reason for a doubt.
    pub async fn ask_once(&mut self, ask: Ask<'_>) -> Result<Answer, Failure> {
        self.line = None;
        self.within(ask).await
    }

    async fn within(&mut self, ask: Ask<'_>) -> Result<Answer, Failure> {
        let (path, limit) = (ask.path.to_owned(), self.timeout);
        let mut line = match self.line.take() {
            Some(line) => line,
            None => match timeout(*limit, self.open()).await {
                Ok(opened) => opened.map_err(Failure::NotSent)?,
                Err(_) => {
                    let error = anyhow!("no connection to {} within {limit}", self.place);
                    return Err(Failure::NotSent(error));
                }
            },
        };
        let request = self.request(ask).map_err(Failure::NotSent)?;
        let exchange = async {
            let response = line.send.send_request(request).await?;
            let status = response.status();
            anyhow::Ok(Answer { status, bytes: read(response.into_body()).await? })
        };
        let doing = || format!("asking {}{path}", self.place);
        match timeout(*limit, exchange).await {
            Ok(Ok(answer)) => {
                self.line = (!line.send.is_closed()).then_some(line);
                Ok(answer)
            }
            Ok(Err(error)) => {
                let is_unsent = error.downcast_ref().is_some_and(hyper::Error::is_canceled);
                let error = error.context(doing());
                Err(if is_unsent { Failure::NotSent(error) } else { Failure::Unknown(error) })
            }
            Err(_) => Err(Failure::Unknown(anyhow!(TooLong(limit)).context(doing()))),
        }
    }

    fn request(&self, ask: Ask<'_>) -> anyhow::Result<Request<Said>> {
        let request = Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header(HOST, self.place.authority())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, OUR_NAME);
        let request = match ask.token {
            None => request,
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
        };
        let request = match ask.body {
            None => request.body(Said(None)),
            Some(body) => {
                let bytes = serde_json::to_vec(body)?;
                request.header(CONTENT_TYPE, "application/json").body(Said(Some(bytes.into())))
            }
        };
        request.context("writing the request")
    }

    async fn open(&mut self) -> anyhow::Result<Line<Said>> {
        let doing = format!("connecting to {}", self.place);
        let dial = Dial::new(self.place.endpoint.clone());
        let stream = self.world.connect(dial).await.context(doing)?;
        if !self.place.is_encrypted {
            return Line::over(stream).await;
        }
        // The file with certificates may be another one by the time that one is not trusted: it is kept once one is.
        let config = match self.config.take() {
            Some(config) => config,
            None => self.config().await?,
        };
        let (host, kept) = (&self.place.endpoint.host, Arc::clone(&config));
        let why = |error| distrust(&self.place, error);
        let line = Line::over_tls(stream, host, config, why).await?;
        self.config = Some(kept);
        Ok(line)
    }

    async fn config(&self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        if let Check::Fingerprint(pin) = self.place.check {
            return Ok(Arc::new(tls::trusting_only(pin)?));
        }
        let certificates = self.certificates.clone();
        let read = beside(move || certificates.client_config()).await;
        Ok(Arc::new(read.context("reading the certificates")??))
    }
}

/// A handshake that failed, and when it was for the certificate, what would have it trusted.
pub fn distrust(place: &Place, error: io::Error) -> anyhow::Error {
    let inner: Option<&rustls::Error> = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(distrust) = inner.and_then(Distrust::of) else {
        return failed_handshake(place, error);
    };
    let words = match place.check {
        Check::System => format!(
            "nothing shows yet that {place} is the router, for nobody here knows its certificate. When it is, write this \
             into its connection: `fingerprint: \"{}\"`",
            distrust.fingerprint
        ),
        Check::Authority | Check::Fingerprint(_) => {
            format!("{place} is not trusted: {distrust}")
        }
    };
    Refused::new(words).into()
}

/// The other side did not answer in time. It is not asked again for that.
#[derive(Debug)]
struct TooLong(Period);

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no answer within {}", self.0)
    }
}

impl std::error::Error for TooLong {}

async fn read(mut body: Incoming) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        // What is no data is of no interest.
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > MOST_BYTES {
                return Err(anyhow!("the answer is larger than {} MiB", MOST_BYTES >> 20));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// The body of a question.
struct Said(Option<Bytes>);

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        task::Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}
