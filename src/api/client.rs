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

use super::server::SOCKET;

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
    let asking = async {
        let Some(body) = request(&socket, path).await? else { return Ok(Answer::Nobody) };
        anyhow::Ok(Answer::Said(serde_json::from_slice(&read(body).await?)?))
    };
    match timeout(within, asking).await {
        Ok(answer) => answer.with_context(|| format!("asking at {}", socket.display())),
        Err(_) => bail!("no answer within {} s at {}", within.as_secs_f64(), socket.display()),
    }
}

/// Listens to an answer that comes line by line, until it ends or `take` says no. False when nobody is
/// there.
pub async fn listen(
    data: &Path,
    path: &str,
    mut take: impl FnMut(&str) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let Some(body) = request(&data.join(SOCKET), path).await? else { return Ok(false) };
    let (mut body, mut rest) = (pin!(body), Vec::new());
    while let Some(data) = next(body.as_mut()).await? {
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            if !take(String::from_utf8_lossy(&line).trim_end())? {
                return Ok(true);
            }
        }
        if rest.len() > MOST_BYTES {
            bail!("its answer is too long");
        }
    }
    Ok(true)
}

/// The body of the answer. None when nobody is there.
async fn request(socket: &Path, path: &str) -> anyhow::Result<Option<Incoming>> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                // Refused: its file was left behind.
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error.into()),
            };
        }
    };
    let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(HOST, "forebay").body(Nothing)?;
    // It ends with the exchange.
    tokio::spawn(connection);
    let response = send.send_request(request).await?;
    let (status, body) = (response.status(), response.into_body());
    if status.is_success() {
        return Ok(Some(body));
    }
    let said = read(body).await?;
    bail!("{}", String::from_utf8_lossy(&said).trim_end())
}

async fn read(body: Incoming) -> anyhow::Result<Vec<u8>> {
    let (mut body, mut bytes) = (pin!(body), Vec::new());
    while let Some(data) = next(body.as_mut()).await? {
        bytes.extend_from_slice(&data);
        if bytes.len() > MOST_BYTES {
            bail!("its answer is too long");
        }
    }
    Ok(bytes)
}

/// The next piece of a body.
async fn next(mut body: Pin<&mut Incoming>) -> anyhow::Result<Option<Bytes>> {
    loop {
        match std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
            None => return Ok(None),
            Some(frame) => {
                // What is no data is of no interest.
                if let Ok(data) = frame?.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
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
