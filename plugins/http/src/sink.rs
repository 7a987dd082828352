//! One request per batch, and one verdict.

use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use forebay_sdk::{Format, Message, Period, Sink, WriteError};
use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use crate::{
    answer::{self, Verdict},
    body,
    client::{Open, Opening},
    settings::Shape,
};

pub(crate) struct HttpSink {
    pub opening: Opening,
    pub method: Method,
    pub headers: HeaderMap,
    pub shape: Shape,
    pub format: Format,
    pub timeout: Duration,
    pub retry_also: Vec<u16>,
    /// None until it is needed, and again when connecting failed: the list of certificates may
    /// have changed.
    pub open: Option<Open>,
}

impl Sink for HttpSink {
    async fn connect(&mut self) -> anyhow::Result<()> {
        if self.open.is_none() {
            let opening = self.opening.clone();
            let open = spawn_blocking(move || opening.open());
            self.open = Some(open.await.context("making the HTTP client")??);
        }
        Ok(())
    }

    async fn write(&mut self, batch: &[Message]) -> Result<(), WriteError> {
        let body = body::body(batch, self.shape, self.format).map_err(WriteError::Reject)?;
        let open = self.open.as_ref().context("writing before connecting")?;
        let doing = format!("sending to {}", origin(&open.url));
        let deadline = Instant::now() + self.timeout;
        let request = self.request(open, body);
        let mut response = match timeout_at(deadline, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                if error.is_connect() {
                    self.open = None;
                }
                return Err(WriteError::retry(anyhow!(error.without_url()).context(doing)));
            }
            Err(_) => {
                let error = anyhow!("no answer within {}", Period(self.timeout));
                return Err(WriteError::retry(error.context(doing)));
            }
        };
        let mut text = Vec::new();
        // The status decides. When the rest does not come, the connection is closed and that is it.
        let _ = timeout_at(deadline, answer::read(&mut response, &mut text)).await;
        self.judge(&response, &text, &open.url, doing)
    }
}

impl HttpSink {
    fn request(&self, open: &Open, body: Vec<u8>) -> RequestBuilder {
        let mut headers = self.headers.clone();
        headers.entry(CONTENT_TYPE).or_insert_with(|| {
            HeaderValue::from_static(body::content_type(self.shape, self.format))
        });
        open.client.request(self.method.clone(), open.url.clone()).headers(headers).body(body)
    }

    fn judge(
        &self,
        response: &Response,
        text: &[u8],
        url: &Url,
        doing: String,
    ) -> Result<(), WriteError> {
        let (status, headers) = (response.status(), response.headers());
        let verdict = answer::verdict(status, &self.retry_also);
        if verdict == Verdict::Settled {
            return Ok(());
        }
        let secrets = answer::secrets(&self.headers, url);
        let error = anyhow!(answer::describe(status, headers, text, url, &secrets)).context(doing);
        match verdict {
            Verdict::Reject => Err(WriteError::Reject(error)),
            _ => {
                let after = answer::wait(headers, SystemTime::now());
                Err(WriteError::Retry { error, after })
            }
        }
    }
}

/// What may be shown of a url: path and query can hold a secret.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}
