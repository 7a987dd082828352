//! The side that answers.

use std::{
    convert::Infallible,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming, SizeHint},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::SOCKET;

/// Who comes beyond this many waits.
const MOST_CONNECTIONS: usize = 16;
/// How long one may take, from its first byte to the last of its answer.
const LONGEST: Duration = Duration::from_secs(30);
/// Questions that are not answered yet.
const MOST_QUESTIONS: usize = 16;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything that is known.
    Status,
    /// Whether all is well, and what is not.
    Health,
}

/// A question, and where its answer goes.
pub struct Question {
    /// What is asked.
    pub wanted: Wanted,
    answer: oneshot::Sender<String>,
}

impl Question {
    /// Answers it, with JSON. Whoever asked may be gone.
    pub fn answer(self, json: &impl serde::Serialize) {
        let json = serde_json::to_string(json).unwrap_or_else(|error| format!("{error:?}"));
        let _ = self.answer.send(json);
    }
}

/// What was asked. The socket is there as long as this is.
pub struct Questions {
    asked: mpsc::Receiver<Question>,
    socket: Option<Socket>,
}

/// Opens the socket in a data folder, which has to be this process's own. Without one the program runs all
/// the same, and cannot be asked.
pub fn open(data: &Path) -> Questions {
    let (ask, asked) = mpsc::channel(MOST_QUESTIONS);
    let path = data.join(SOCKET);
    let socket = match listen(&path) {
        Ok(listener) => {
            let task = tokio::spawn(serve(listener, ask));
            Some(Socket { path, task })
        }
        Err(error) => {
            warn!(%error, "cannot open {}; `forebay status` will not reach this process", path.display());
            None
        }
    };
    Questions { asked, socket }
}

impl Questions {
    /// The next question. Dropping the future loses none.
    pub async fn next(&mut self) -> Question {
        match (self.asked.recv().await, &self.socket) {
            (Some(question), Some(_)) => question,
            // Nobody can ask.
            _ => std::future::pending().await,
        }
    }
}

/// Removed from the disk when it is dropped.
struct Socket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// One that is there is of a process that ended without a word: the data folder is locked by now.
fn listen(path: &Path) -> io::Result<UnixListener> {
    const MODE: u32 = 0o600;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, ask: mpsc::Sender<Question>) {
    const PAUSE: Duration = Duration::from_millis(100);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_one(stream, ask.clone(), place));
            }
            // Such as too many open files.
            Err(error) => {
                debug!(%error, "nobody can be let in to ask how it is");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve_one(stream: UnixStream, ask: mpsc::Sender<Question>, _place: OwnedSemaphorePermit) {
    let answer = service_fn(|request: Request<Incoming>| {
        let ask = ask.clone();
        async move { Ok::<_, Infallible>(answer(&request, &ask).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    // Whoever hangs up in the middle has had enough.
    let _ = timeout(LONGEST, connection).await;
}

async fn answer(request: &Request<Incoming>, ask: &mpsc::Sender<Question>) -> Response<Text> {
    let wanted = match request.uri().path() {
        "/status" => Wanted::Status,
        "/health" => Wanted::Health,
        _ => return refuse(StatusCode::NOT_FOUND),
    };
    if request.method() != Method::GET {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let (answer, answered) = oneshot::channel();
    let asked = ask.send(Question { wanted, answer }).await;
    match (asked, answered.await) {
        (Ok(()), Ok(json)) => said(StatusCode::OK, "application/json", json),
        // It stops just now.
        _ => refuse(StatusCode::SERVICE_UNAVAILABLE),
    }
}

fn refuse(status: StatusCode) -> Response<Text> {
    said(status, "text/plain; charset=utf-8", format!("{status}\n"))
}

fn said(status: StatusCode, kind: &'static str, text: String) -> Response<Text> {
    let mut response = Response::new(Text(Some(text.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer in one piece.
struct Text(Option<Bytes>);

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |text| text.len() as u64))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
