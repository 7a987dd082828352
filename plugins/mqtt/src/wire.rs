//! The byte stream to a broker, with TLS or without, and how many bytes go over it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use forebay_sdk::{
    Endpoint, Figure, Voice, World,
    tls::rustls::{ClientConfig, pki_types::ServerName},
    world::Dial,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

/// Below this a slow mobile link looks dead.
const SHORTEST_SILENCE: Duration = Duration::from_secs(30);

/// The way to a broker.
#[derive(Clone)]
pub struct Way {
    pub world: World,
    pub broker: Endpoint,
    /// How long the line may be silent.
    pub keep_alive: Duration,
    /// None without TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// Hears of the bytes.
    pub voice: Voice,
}

impl Way {
    /// Connects to the first of the host's addresses that answers.
    ///
    /// What was sent and is not confirmed within `keep_alive` ends the connection: MQTT's own pings
    /// do not notice a silent link while something is being written, and may be off.
    pub async fn open(self) -> io::Result<Wire> {
        let Way { world, broker, keep_alive, tls, voice } = self;
        let silence = Some(keep_alive.max(SHORTEST_SILENCE));
        let plain = world.connect(Dial { to: broker.clone(), silence }).await?;
        let stream: Box<dyn Bytes> = match tls {
            None => Box::new(plain),
            Some(config) => {
                let name = ServerName::try_from(broker.host).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(config).connect(name, plain).await?)
            }
        };
        Ok(Wire { stream, voice })
    }
}

/// Bytes in both directions.
trait Bytes: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Bytes for T {}

/// A byte stream that tells how much goes over it, without what TLS adds.
pub struct Wire {
    stream: Box<dyn Bytes>,
    voice: Voice,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.voice.count(Figure::BytesIn, (buffer.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.voice.count(Figure::BytesOut, written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts))?;
        self.voice.count(Figure::BytesOut, written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
