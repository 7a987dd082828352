//! A server that says what it was told to say, and remembers what it heard.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

/// One turn of the server, after it read a request.
pub(super) enum Turn {
    /// Answers and waits for the next request.
    Say(String),
    /// Answers and hangs up.
    SayAndClose(String),
    /// Never answers.
    Silence,
}

pub(super) struct Server {
    /// `127.0.0.1:port`.
    pub address: String,
    /// What was heard, whole requests.
    pub requests: mpsc::Receiver<String>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Serves the turns in order, then closes its port.
    pub async fn start(turns: impl IntoIterator<Item = Turn>, tls: Option<TlsAcceptor>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (heard, requests) = mpsc::channel(100);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let mut turns: Vec<Turn> = turns.into_iter().collect();
        turns.reverse();
        tokio::spawn(async move {
            while !turns.is_empty() {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                match &tls {
                    None => converse(stream, &mut turns, &heard).await,
                    // A client that does not trust us hangs up.
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => converse(stream, &mut turns, &heard).await,
                        Err(_) => continue,
                    },
                }
            }
        });
        Server { address, requests, connections }
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    turns: &mut Vec<Turn>,
    heard: &mpsc::Sender<String>,
) {
    while let Some(request) = request(&mut stream).await {
        heard.send(request).await.unwrap();
        // A client may close before it has read everything.
        match turns.pop().expect("a turn for each request") {
            Turn::Say(answer) => {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Turn::SayAndClose(answer) => {
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
                return;
            }
            Turn::Silence => std::future::pending().await,
        }
    }
}

/// A whole request, or None when the client hung up.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Some(text.into_owned());
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// An answer with a body of known length.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

pub(super) fn ok() -> Turn {
    Turn::Say(answer("200 OK", "", ""))
}
