//! The side that answers.

use std::{
    convert::Infallible,
    fs::{self, Permissions},
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use forebay_sdk::{
    Compression, GzipStream, beside,
    tls::{ClientCertificates, Tls},
    world::Program,
};
use futures_util::future::{BoxFuture, FutureExt};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming, SizeHint},
    header::{
        ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
        CONTENT_TYPE, HeaderValue, REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, UnixListener},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::{
    events,
    guard::{Door, Guard, TurnedAway},
    guests::{Guests, MOST_LOOKING_ON, Progress, Stage},
    page,
    question::{Exposition, Question, Reply, Side, Tap, Wanted},
    routes::Route,
};
use crate::warnings::{API_CERTIFICATE, NO_SOCKET, PORT_IN_USE};

/// The socket's name in the data folder.
pub(super) const SOCKET: &str = "api.sock";
/// How long one may take, from its first byte to the last of its answer.
const LONGEST: Duration = Duration::from_secs(30);
/// Who looks on and takes nothing for so long is gone, or might as well be.
const LONGEST_UNREAD: Duration = Duration::from_secs(60);
/// What is read of a question at most: its first line and its headers.
const MOST_HEAD_BYTES: usize = 16 << 10;
const MOST_HEADERS: usize = 64;
/// Of those who come at once, so many wait in the system.
const MOST_AT_ONCE: u32 = 128;
/// Questions that are not answered yet.
const MOST_QUESTIONS: usize = 16;

/// What was asked. The socket is there as long as this is.
pub struct Questions {
    asked: mpsc::Receiver<Question>,
    ask: mpsc::Sender<Question>,
    /// Closes with this.
    _socket: Option<Socket>,
    door: Option<OpenDoor>,
}

/// Opens the socket in a data folder, which has to be this process's own. Without one the program runs all
/// the same, and cannot be asked.
pub fn open(data: &Path) -> Questions {
    let (ask, asked) = mpsc::channel(MOST_QUESTIONS);
    let path = data.join(SOCKET);
    let socket = match listen(&path) {
        Ok(listener) => {
            let task = tokio::spawn(serve(Inlet::Socket(listener), Guard::Socket, ask.clone()));
            Some(Socket { path, task })
        }
        Err(error) => {
            warn!(rule = %NO_SOCKET, %error, "cannot open {}; `forebay status` will not reach this process", path.display());
            None
        }
    };
    Questions { asked, ask, _socket: socket, door: None }
}

impl Questions {
    /// The next question. Dropping the future loses none.
    pub async fn next(&mut self) -> Question {
        match self.asked.recv().await {
            Some(question) => question,
            // A sender is held.
            None => std::future::pending().await,
        }
    }

    /// Asks from within, for nodes that tell how the program is.
    pub fn from_within(&self) -> Arc<dyn Program> {
        Arc::new(Within(self.ask.clone()))
    }

    /// Answers at this door, and at no other any more.
    pub fn open_door(&mut self, door: Option<Door>) {
        let is_open = match (&self.door, &door) {
            (Some(open), Some(door)) => open.door.is_like(door),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if is_open {
            return;
        }
        // Its address is free before it is wanted again.
        self.door = None;
        self.door = door.map(|door| {
            let task = tokio::spawn(keep_open(door.clone(), self.ask.clone()));
            OpenDoor { door, task }
        });
    }
}

struct Within(mpsc::Sender<Question>);

impl Program for Within {
    fn status(&self) -> BoxFuture<'static, Option<Value>> {
        let ask = self.0.clone();
        async move { serde_json::from_str(&Question::ask(&ask, Wanted::Status).await?).ok() }
            .boxed()
    }
}

struct OpenDoor {
    door: Door,
    task: JoinHandle<()>,
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens the door as soon as nobody else has the address, and serves who comes.
async fn keep_open(door: Door, ask: mpsc::Sender<Question>) {
    const PAUSE: Duration = Duration::from_secs(10);
    let address = door.address;
    let mut was_said = false;
    let listener = loop {
        match bind(address) {
            Ok(listener) => break listener,
            Err(error) if was_said => debug!(%error, "cannot listen at {address}"),
            Err(error) => {
                warn!(
                    rule = %PORT_IN_USE,
                    "cannot listen at {address} for who asks how it is: {error}; tried again every 10 s"
                );
                was_said = true;
            }
        }
        sleep(PAUSE).await;
    };
    let guard = Guard::of(&door);
    let inlet = match door.tls {
        None => Inlet::Network(listener),
        Some(tls) => Inlet::Tls(listener, Certificates::new(tls)),
    };
    info!("answers at {}://{address}", inlet.scheme());
    serve(inlet, guard, ask).await;
}

/// What waits in the system to be sent is old when it arrives: over 64 kbit/s, so much is two seconds.
const SEND_BUFFER_BYTES: u32 = 16 << 10;

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    // Those who are let in have it from here.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(MOST_AT_ONCE)
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

/// Where those come in who ask.
enum Inlet {
    Socket(UnixListener),
    Network(TcpListener),
    Tls(TcpListener, Certificates),
}

impl Inlet {
    /// Who came in, and from where.
    async fn accept(&mut self) -> io::Result<(Caller, Option<IpAddr>)> {
        Ok(match self {
            Inlet::Socket(listener) => (Caller::Plain(Box::new(listener.accept().await?.0)), None),
            Inlet::Network(listener) => {
                let (stream, from) = listener.accept().await?;
                (Caller::Plain(Box::new(stream)), Some(from.ip()))
            }
            Inlet::Tls(listener, certificates) => {
                let (stream, from) = listener.accept().await?;
                (Caller::Tls(stream, certificates.now().await?), Some(from.ip()))
            }
        })
    }

    fn scheme(&self) -> &'static str {
        match self {
            Inlet::Socket(_) | Inlet::Network(_) => "http",
            Inlet::Tls(..) => "https",
        }
    }
}

/// Who came in.
enum Caller {
    Plain(Box<dyn Stream>),
    Tls(TcpStream, TlsAcceptor),
}

impl Caller {
    /// What there is to read and write, once both know whom they speak with.
    async fn stream(self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Caller::Plain(stream) => stream,
            Caller::Tls(stream, acceptor) => Box::new(acceptor.accept(stream).await?),
        })
    }
}

/// The certificates of a door. Files that are renewed are read again.
struct Certificates {
    tls: Tls,
    read: Option<(Instant, TlsAcceptor)>,
    was_said: bool,
}

impl Certificates {
    fn new(tls: Tls) -> Certificates {
        Certificates { tls, read: None, was_said: false }
    }

    /// Those of a minute ago at most; or those that could be read last.
    async fn now(&mut self) -> io::Result<TlsAcceptor> {
        const GOOD_FOR: Duration = Duration::from_secs(60);
        if let Some((at, acceptor)) = &self.read
            && at.elapsed() < GOOD_FOR
        {
            return Ok(acceptor.clone());
        }
        let tls = self.tls.clone();
        let reading = beside(move || tls.server_config(ClientCertificates::Required));
        match reading.await.map_err(anyhow::Error::from).flatten() {
            Ok(config) => {
                let acceptor = TlsAcceptor::from(Arc::new(config));
                self.read = Some((Instant::now(), acceptor.clone()));
                self.was_said = false;
                Ok(acceptor)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.was_said, true) {
                    warn!(rule = %API_CERTIFICATE, "who asks how it is gets no new certificate: {error:#}");
                }
                let before = self.read.as_ref().map(|(_, acceptor)| acceptor.clone());
                before.ok_or_else(|| io::Error::other(format!("{error:#}")))
            }
        }
    }
}

/// What is read and written.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn serve(mut inlet: Inlet, guard: Guard, ask: mpsc::Sender<Question>) {
    const PAUSE: Duration = Duration::from_millis(100);
    let (guard, seats) = (Arc::new(guard), Arc::new(Semaphore::new(MOST_LOOKING_ON)));
    // They end with this.
    let mut guests = Guests::default();
    loop {
        match inlet.accept().await {
            Ok((caller, from)) => guests.serve(from, |progress| {
                let (guard, seats) = (Arc::clone(&guard), Arc::clone(&seats));
                serve_one(caller, guard, ask.clone(), seats, progress)
            }),
            // Such as too many open files.
            Err(error) => {
                debug!(%error, "nobody can be let in to ask how it is");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve_one(
    caller: Caller,
    guard: Arc<Guard>,
    ask: mpsc::Sender<Question>,
    seats: Arc<Semaphore>,
    progress: Arc<Progress>,
) {
    const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);
    let stream = match timeout(LONGEST_HANDSHAKE, caller.stream()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return debug!(%error, "somebody who came to ask how it is was not let in");
        }
        Err(_) => return debug!("somebody who came to ask how it is said nothing"),
    };
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(LONGEST_UNREAD));
    // Held by who looks on.
    let seat = Mutex::new(None);
    let answer = service_fn(|request: Request<Incoming>| {
        let (ask, guard, seats) = (ask.clone(), Arc::clone(&guard), Arc::clone(&seats));
        let (progress, seat) = (&progress, &seat);
        async move {
            progress.reach(Stage::Asked);
            let mut response = match guard.lets_in(&request) {
                Ok(()) => answer(&request, &ask).await,
                Err(why) => turn_away(&why),
            };
            if matches!(response.body(), Said::Lines(..)) {
                match seats.try_acquire_owned() {
                    Ok(taken) => {
                        progress.reach(Stage::LooksOn);
                        *seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
                    }
                    Err(_) => response = said(StatusCode::SERVICE_UNAVAILABLE, TEXT, too_many()),
                }
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), answer);
    let mut connection = pin!(connection);
    // Whoever hangs up in the middle has had enough.
    let is_done = timeout(LONGEST, &mut connection).await.is_ok();
    if !is_done && progress.is_at(Stage::LooksOn) {
        let _ = connection.await;
    }
}

fn too_many() -> String {
    format!("{MOST_LOOKING_ON} look on already; close one of them\n")
}

async fn answer(request: &Request<Incoming>, ask: &mpsc::Sender<Question>) -> Response<Said> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let route = match Route::at(path) {
        Some(route) if request.method() != route.method() => return only(&route.method()),
        Some(route) => route,
        None if request.method() != Method::GET => return only(&Method::GET),
        None => return refuse(StatusCode::NOT_FOUND),
    };
    let wanted = match route {
        Route::Page => {
            let part = page::part(path);
            return part
                .map_or_else(|| refuse(StatusCode::NOT_FOUND), |it| show(it, request.headers()));
        }
        Route::Events => return follow(events::follow(ask.clone()), request.headers()),
        Route::Status => Ok(Wanted::Status),
        Route::Log => Ok(Wanted::Log),
        Route::Health => Ok(Wanted::Health),
        Route::Plan => Ok(Wanted::Plan),
        Route::Metrics => Ok(Wanted::Metrics(exposition(request.headers().get(ACCEPT)))),
        Route::Settings => wanted_node(query).map(Wanted::Settings),
        Route::History if query.is_empty() => Ok(Wanted::LastValues),
        Route::History => wanted_node(query).map(Wanted::History),
        Route::Tap => wanted_tap(query).map(Wanted::Tap),
        Route::Reload => Ok(Wanted::Reload),
        Route::DropBuffer => wanted_node(query).map(Wanted::DropBuffer),
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(why) => return said(StatusCode::BAD_REQUEST, TEXT, format!("{why}\n")),
    };
    let (answer, answered) = oneshot::channel();
    let asked = ask.send(Question { wanted, answer }).await;
    match (asked, answered.await) {
        (Ok(()), Ok(Reply::Whole { kind, text })) => {
            say(kind, Bytes::from(text), request.headers())
        }
        (Ok(()), Ok(Reply::Forbidden(why))) => {
            said(StatusCode::FORBIDDEN, TEXT, format!("{why}\n"))
        }
        (Ok(()), Ok(Reply::Refused(why))) => said(StatusCode::NOT_FOUND, TEXT, format!("{why}\n")),
        (Ok(()), Ok(Reply::Lines(lines))) => {
            respond(StatusCode::OK, "application/x-ndjson", Said::Lines(lines, None))
        }
        // It stops just now.
        _ => refuse(StatusCode::SERVICE_UNAVAILABLE),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What a collector would rather have. All who read OpenMetrics say so.
fn exposition(accept: Option<&HeaderValue>) -> Exposition {
    let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("application/openmetrics-text") {
        Exposition::OpenMetrics
    } else {
        Exposition::Prometheus
    }
}

/// `node=boiler/meter`, and nothing else.
fn wanted_node(query: &str) -> Result<String, String> {
    match query.split_once('=') {
        Some(("node", name)) if !name.contains(['&', '=']) => decoded(name),
        _ => Err("expected `?node=NAME`".to_owned()),
    }
}

fn decoded(value: &str) -> Result<String, String> {
    let decoded = percent_decode_str(value).decode_utf8().map_err(|error| error.to_string())?;
    Ok(decoded.into_owned())
}

/// `node=boiler/meter&output=errors&per_second=5`, or `in` or `both` in the place of `output`; with `waiting`, first what
/// waits in front of the node; with `most_bytes`, of larger messages only the beginning.
fn wanted_tap(query: &str) -> Result<Tap, String> {
    const MOST_PER_SECOND: f64 = 1000.0;
    let (mut node, mut side) = (None, Side::Out(None));
    let mut every = Duration::from_millis(100);
    let (mut with_waiting, mut most_bytes) = (false, None);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = decoded(value)?;
        match key {
            "node" => node = Some(value),
            "in" => side = Side::In,
            "both" => side = Side::Both,
            "waiting" => with_waiting = true,
            "most_bytes" => {
                most_bytes = Some(value.parse().map_err(|_| "`most_bytes` is a whole number")?);
            }
            "output" => side = Side::Out(Some(value)),
            "per_second" => {
                let rate =
                    value.parse().ok().filter(|rate| (0.001..=MOST_PER_SECOND).contains(rate));
                let rate: f64 = rate.ok_or("`per_second` is a number from 0.001 to 1000")?;
                every = Duration::from_secs_f64(1.0 / rate);
            }
            // As fast as they are taken.
            "all" => every = Duration::ZERO,
            _ => return Err(format!("nothing is called `{key}` here")),
        }
    }
    let node = node.ok_or("`node` is missing")?;
    Ok(Tap { node, side, every, with_waiting, most_bytes })
}

/// A part of the page. It has nothing of this machine in it, and asks nobody but us.
fn show(part: &page::Part, headers: &HeaderMap) -> Response<Said> {
    let mut response = say(part.kind, Bytes::from_static(part.text.as_bytes()), headers);
    let more = response.headers_mut();
    more.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
    more.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    more.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// An answer, in gzip for those who take that.
fn say(kind: &'static str, text: Bytes, headers: &HeaderMap) -> Response<Said> {
    match packed(&text, headers) {
        Some(packed) => {
            let mut response = respond(StatusCode::OK, kind, Said::Whole(Some(packed.into())));
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        None => respond(StatusCode::OK, kind, Said::Whole(Some(text))),
    }
}

/// Events as they come. Each is small, and much like the one before.
fn follow(events: mpsc::Receiver<String>, headers: &HeaderMap) -> Response<Said> {
    let packer = takes_gzip(headers).then(GzipStream::default);
    let is_packed = packer.is_some();
    let mut response = respond(StatusCode::OK, "text/event-stream", Said::Lines(events, packer));
    if is_packed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// A text in gzip, for those who take that: over a metered link metrics cost a tenth. None for others.
fn packed(text: &[u8], headers: &HeaderMap) -> Option<Vec<u8>> {
    takes_gzip(headers).then(|| Compression::Gzip.pack(text))
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|accepted| accepted.to_str().ok());
    let takes_it = |one: &str| {
        let (name, quality) = one.split_once(';').unwrap_or((one, ""));
        name.trim().eq_ignore_ascii_case("gzip") && quality.trim() != "q=0"
    };
    accepted.is_some_and(|accepted| accepted.split(',').any(takes_it))
}

fn turn_away(why: &TurnedAway) -> Response<Said> {
    match why {
        TurnedAway::Unknown => {
            let mut response = refuse(StatusCode::UNAUTHORIZED);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        TurnedAway::WantsToken => {
            let why = "this wants a `token` below `api` in forebay.yaml\n";
            said(StatusCode::FORBIDDEN, TEXT, why.to_owned())
        }
        TurnedAway::OfSomebodyElse => {
            let why = "this is not told to pages of others: call it by an address of this machine, and change something with the header `X-Forebay`\n";
            said(StatusCode::FORBIDDEN, TEXT, why.to_owned())
        }
    }
}

fn only(method: &Method) -> Response<Said> {
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED);
    let allowed = if method == Method::POST { "POST" } else { "GET" };
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn refuse(status: StatusCode) -> Response<Said> {
    said(status, TEXT, format!("{status}\n"))
}

fn said(status: StatusCode, kind: &'static str, text: String) -> Response<Said> {
    respond(status, kind, Said::Whole(Some(text.into())))
}

fn respond(status: StatusCode, kind: &'static str, body: Said) -> Response<Said> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The body of an answer.
enum Said {
    /// In one piece.
    Whole(Option<Bytes>),
    /// As it comes; packed for those who take that.
    Lines(mpsc::Receiver<String>, Option<GzipStream>),
}

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Said::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Said::Lines(lines, packer) => {
                let line = std::task::ready!(lines.poll_recv(context)).map(|line| line + "\n");
                Poll::Ready(line.map(|line| {
                    Ok(Frame::data(match packer {
                        Some(packer) => packer.pack(line.as_bytes()).into(),
                        None => line.into(),
                    }))
                }))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Said::Whole(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Said::Lines(..) => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Said::Whole(None))
    }
}
