//! A connection to a web server, over a stream that the world has opened.

use std::{error, fmt::Display, io, sync::Arc};

use anyhow::{Context, anyhow};
use hyper::{
    body::Body,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

use crate::{tls, world::Stream};

/// A connection, for one question at a time. Dropped, it is closed.
pub struct Line<B> {
    /// Sends a question.
    pub send: SendRequest<B>,
    driver: AbortHandle,
}

impl<B> Drop for Line<B> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl<B> Line<B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn error::Error + Send + Sync>>,
{
    /// Begins to speak HTTP over a stream.
    ///
    /// # Errors
    ///
    /// When the other side hangs up.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> anyhow::Result<Line<B>> {
        let (send, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the line.
        let driver = tokio::spawn(async { drop(driver.await) }).abort_handle();
        Ok(Line { send, driver })
    }

    /// Begins to speak HTTP in TLS. The other side must be `host`, as far as `config` checks that; `distrust` says why it
    /// is not.
    ///
    /// # Errors
    ///
    /// When `host` is no name, when the handshake fails, and when the other side hangs up.
    pub async fn over_tls(
        stream: Box<dyn Stream>,
        host: &str,
        config: Arc<ClientConfig>,
        distrust: impl FnOnce(io::Error) -> anyhow::Error,
    ) -> anyhow::Result<Line<B>> {
        let name =
            ServerName::try_from(host.to_owned()).context("reading the name of the server")?;
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        Line::over(shaken.map_err(distrust)?).await
    }
}

/// Says why a TLS handshake with a server failed, in our words where there are some.
pub fn failed_handshake(server: &impl Display, error: io::Error) -> anyhow::Error {
    let inner: Option<&rustls::Error> = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner.and_then(tls::why) {
        Some(why) => anyhow!("the TLS handshake with {server} failed: {why}"),
        None => anyhow!(error).context(format!("speaking TLS with {server}")),
    }
}
