//! The side that asks.

use std::{
    convert::Infallible,
    io,
    path::Path,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hyper::{
    Request,
    body::{Body, Frame, Incoming},
    client::conn::http1,
    header::HOST,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, time::timeout};

use super::SOCKET;

/// No answer is larger: thousands of nodes with their last errors are not.
const MOST_BYTES: usize = 64 << 20;

/// What came of a question.
pub enum Answer {
    /// Nobody is there.
    Nobody,
    /// What it says.
    Said(Value),
}

/// Asks the process that runs on a data folder. An error when it does not answer `within` that time.
pub async fn ask(data: &Path, path: &str, within: Duration) -> anyhow::Result<Answer> {
    let socket = data.join(SOCKET);
    match timeout(within, ask_at(&socket, path)).await {
        Ok(answer) => answer.with_context(|| format!("asking at {}", socket.display())),
        Err(_) => bail!("no answer within {} s at {}", within.as_secs_f64(), socket.display()),
    }
}

async fn ask_at(socket: &Path, path: &str) -> anyhow::Result<Answer> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                // Refused: its file was left behind.
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(Answer::Nobody),
                _ => Err(error.into()),
            };
        }
    };
    let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(HOST, "forebay").body(Nothing)?;
    // It ends with the exchange.
    tokio::spawn(connection);
    let response = send.send_request(request).await?;
    let status = response.status();
    let body = read(response.into_body()).await?;
    if !status.is_success() {
        bail!("it says {status}");
    }
    Ok(Answer::Said(serde_json::from_slice(&body)?))
}

async fn read(body: Incoming) -> anyhow::Result<Vec<u8>> {
    let (mut body, mut bytes) = (pin!(body), Vec::new());
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > MOST_BYTES {
            bail!("its answer is too long");
        }
    }
    Ok(bytes)
}

/// The body of a question.
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
