//! One web server, asked one question at a time over a connection that is kept.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use forebay_sdk::{
    http,
    tls::rustls::ClientConfig,
    world::{Dial, Proxy, Speaks, Via, World},
};
use http_body_util::Full;
use hyper::{
    Request, Response, Uri,
    body::Incoming,
    header::{HOST, HeaderValue, PROXY_AUTHORIZATION},
};
use tokio::time::timeout;

/// Whom a client asks, and how it gets there.
pub(crate) struct Client {
    pub world: World,
    /// The server.
    pub dial: Dial,
    /// None without TLS.
    pub tls: Option<Arc<ClientConfig>>,
    pub connect_timeout: Duration,
    /// By way of whom it goes.
    pub proxy: Option<Proxy>,
    /// Kept from one request to the next.
    pub line: Option<Line>,
}

/// Why nothing came back.
pub(crate) enum Failure {
    /// There was no connection.
    Connect(anyhow::Error),
    Exchange(anyhow::Error),
}

/// A connection.
pub(crate) type Line = http::Line<Full<Bytes>>;

impl Client {
    /// Asks, and gives what is answered with the line on which the rest of it comes. Who has read all of it gives the
    /// line back. A line that had died before the request left is replaced.
    pub(crate) async fn ask(
        &mut self,
        request: &Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Line), Failure> {
        let was_kept = self.line.is_some();
        match self.ask_once(request).await {
            Err(Unanswered { never_left: true, .. }) if was_kept => self.ask_once(request).await,
            other => other,
        }
        .map_err(|unanswered| unanswered.failure)
    }

    async fn ask_once(
        &mut self,
        request: &Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Line), Unanswered> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => {
                let opened = timeout(self.connect_timeout, self.open()).await;
                let opened = opened.unwrap_or_else(|_| Err(anyhow!("it took too long")));
                let failure = |error: anyhow::Error| Failure::Connect(error.context("connecting"));
                opened.map_err(|error| Unanswered { failure: failure(error), never_left: false })?
            }
        };
        let exchange = async {
            line.send.ready().await?;
            line.send.send_request(self.dressed(request)).await
        };
        match exchange.await {
            Ok(response) => Ok((response, line)),
            Err(error) => {
                let never_left = error.is_canceled() || error.is_closed();
                let error = anyhow!(error).context("the connection broke before the answer");
                Err(Unanswered { failure: Failure::Exchange(error), never_left })
            }
        }
    }

    /// A web proxy wants to know the whole url of what is not encrypted.
    fn forwards(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|proxy| self.tls.is_none() && proxy.speaks == Speaks::Http)
    }

    fn dressed(&self, request: &Request<Full<Bytes>>) -> Request<Full<Bytes>> {
        let mut request = request.clone();
        let Some(proxy) = self.forwards() else { return request };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        if let Some(Ok(whole)) = host.map(|host| format!("http://{host}{path}").parse::<Uri>()) {
            *request.uri_mut() = whole;
        }
        if let Some((user, password)) = &proxy.login {
            let login = BASE64_STANDARD.encode(format!("{user}:{}", password.expose()));
            if let Ok(mut value) = HeaderValue::try_from(format!("Basic {login}")) {
                value.set_sensitive(true);
                request.headers_mut().insert(PROXY_AUTHORIZATION, value);
            }
        }
        request
    }

    async fn open(&self) -> anyhow::Result<Line> {
        let dial = match (self.forwards(), &self.proxy) {
            (Some(proxy), _) => Dial::new(proxy.at.clone()),
            (None, Some(proxy)) => Dial { via: Via::Proxy(proxy.clone()), ..self.dial.clone() },
            (None, None) => Dial { via: Via::Straight, ..self.dial.clone() },
        };
        let stream = self.world.connect(dial).await?;
        let Some(config) = &self.tls else { return Line::over(stream).await };
        let why = |error| http::failed_handshake(&self.dial.to, error);
        Line::over_tls(stream, &self.dial.to.host, Arc::clone(config), why).await
    }
}

/// Why nothing was answered.
struct Unanswered {
    failure: Failure,
    /// The request was not sent.
    never_left: bool,
}
