//! A router with RutOS, as far as the documented shapes say what that is, with faults that are switched on.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use forebay_sdk::world::{Listener, memory::Memory};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

pub const PLACE: &str = "192.168.1.1";
pub const PASSWORD: &str = "secret-of-the-router";

/// Cloning shares it.
#[derive(Clone)]
pub struct Simulated(Arc<Mutex<State>>);

pub struct State {
    /// What stands at each path, with its status.
    pub answers: BTreeMap<String, (u16, Value)>,
    /// Else it is a web server of another kind.
    pub is_router: bool,
    pub has_bulk: bool,
    pub password: String,
    pub expires: u64,
    /// Whether a question about a session makes it longer.
    pub prolongs: bool,
    tokens: BTreeMap<String, Instant>,
    pub logins: Vec<Instant>,
    /// Each request, as `GET /api/modems/status`.
    pub asked: Vec<String>,
    pub bodies: Vec<Value>,
    /// What happens to the next requests, and then to none.
    pub faults: VecDeque<Fault>,
    /// Sessions that were asked with and not known, and exchanges of logins or for the state of a session that came to
    /// nothing.
    pub taken: usize,
    pub spoilt: usize,
    pub certificate: Option<TlsAcceptor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next one is answered as it should be.
    None,
    Silence,
    /// The connection is cut in the middle of the answer.
    Half,
    Garbage,
    Status(u16),
    Slow(Duration),
    /// It has forgotten all sessions: it has booted.
    Boot,
    /// What was asked is done, and the answer never comes.
    DoneInSilence,
}

impl Simulated {
    /// Answers at `http://192.168.1.1` and `https://192.168.1.1` of a world in memory.
    pub fn start(memory: &Memory) -> Simulated {
        let state = State {
            answers: BTreeMap::new(),
            is_router: true,
            has_bulk: true,
            password: PASSWORD.to_owned(),
            expires: 299,
            prolongs: true,
            tokens: BTreeMap::new(),
            logins: Vec::new(),
            asked: Vec::new(),
            bodies: Vec::new(),
            faults: VecDeque::new(),
            taken: 0,
            spoilt: 0,
            certificate: None,
        };
        let simulated = Simulated(Arc::new(Mutex::new(state)));
        for port in [80, 443] {
            let (door, own) = (memory.open(&format!("{PLACE}:{port}")), simulated.clone());
            tokio::spawn(async move {
                while let Ok((stream, _)) = door.accept().await {
                    let certificate = own.state().certificate.clone().filter(|_| port == 443);
                    let own = own.clone();
                    tokio::spawn(async move {
                        match certificate {
                            None => own.serve(stream).await,
                            Some(acceptor) => {
                                if let Ok(stream) = acceptor.accept(stream).await {
                                    own.serve(stream).await;
                                }
                            }
                        }
                    });
                }
            });
        }
        simulated
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn put(&self, path: &str, data: Value) {
        let answer = json!({ "success": true, "data": data });
        self.state().answers.insert(path.to_owned(), (200, answer));
    }

    pub fn refuse(&self, path: &str, status: u16, code: u64) {
        let errors = json!([{ "code": code, "error": "no", "source": "sim", "section": "" }]);
        let answer = json!({ "success": false, "errors": errors });
        self.state().answers.insert(path.to_owned(), (status, answer));
    }

    pub fn count(&self, what: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.ends_with(what)).count()
    }

    /// Gives it a certificate of its own making.
    pub fn certify(&self) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["router".to_owned()]).unwrap();
        let made = made.self_signed(&key).unwrap();
        let der = made.der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der.clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        self.state().certificate = Some(TlsAcceptor::from(Arc::new(config)));
        der
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        while let Some((line, token, body)) = request(&mut stream).await {
            let is_router = self.state().is_router;
            let fault = match is_router {
                true => self.state().faults.pop_front().unwrap_or(Fault::None),
                false => Fault::Garbage,
            };
            if fault != Fault::None
                && ["/api/login", "/api/session/status"].iter().any(|it| line.ends_with(it))
            {
                self.state().spoilt += 1;
            }
            if fault == Fault::Status(401) {
                self.state().taken += 1;
            }
            match fault {
                Fault::Silence => return std::future::pending().await,
                Fault::Slow(time) => sleep(time).await,
                Fault::Boot => self.state().tokens.clear(),
                _ => (),
            }
            let (status, answer) = self.answer(&line, token.as_deref(), body);
            let (status, text) = match fault {
                Fault::DoneInSilence => return std::future::pending().await,
                Fault::Garbage => (200, "<html>503 Service Unavailable</html>".to_owned()),
                Fault::Status(status) => (status, String::new()),
                _ => (status, answer.to_string()),
            };
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", text.len());
            let whole = head + &text;
            let end =
                if fault == Fault::Half { whole.len() - text.len() / 2 - 1 } else { whole.len() };
            if stream.write_all(&whole.as_bytes()[..end]).await.is_err() || fault == Fault::Half {
                return;
            }
        }
    }

    fn answer(&self, line: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let mut state = self.state();
        state.asked.push(line.to_owned());
        state.bodies.push(body.clone());
        let (method, path) = line.split_once(' ').unwrap();
        let error =
            |code: u64| json!({ "success": false, "errors": [{ "code": code, "error": "no" }] });
        match path {
            "/api/unauthorized/status" => return (200, json!({ "success": true, "data": {} })),
            "/api/login" => {
                state.logins.push(Instant::now());
                if body["password"] != state.password.as_str() {
                    return (401, error(121));
                }
                let token = format!("token-{}", state.logins.len());
                let expires = state.expires;
                let ends = Instant::now() + Duration::from_secs(expires);
                state.tokens.insert(token.clone(), ends);
                let data = json!({ "username": "forebay", "token": token, "expires": expires });
                return (200, json!({ "success": true, "data": data }));
            }
            _ => (),
        }
        let known =
            token.filter(|it| state.tokens.get(*it).is_some_and(|ends| *ends > Instant::now()));
        let Some(token) = known else {
            state.taken += 1;
            return (401, error(123));
        };
        let expires = Duration::from_secs(state.expires);
        let one = |state: &State, path: &str| {
            state.answers.get(path).cloned().unwrap_or_else(|| (404, error(100)))
        };
        match path {
            "/api/session/status" => {
                if state.prolongs {
                    state.tokens.insert(token.to_owned(), Instant::now() + expires);
                }
                (200, json!({ "success": true, "data": { "active": true } }))
            }
            "/api/bulk" if !state.has_bulk => (404, error(100)),
            "/api/bulk" => {
                let asked = body["data"].as_array().cloned().unwrap_or_default();
                let rows: Vec<Value> = asked
                    .iter()
                    .map(|it| one(&state, it["endpoint"].as_str().unwrap()).1)
                    .collect();
                (207, json!({ "success": true, "data": rows }))
            }
            _ if method == "GET" => one(&state, path.split('?').next().unwrap()),
            _ => (200, json!({ "success": true, "data": {} })),
        }
    }
}

/// The first line of a request, its token and its body.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Option<String>, Value)> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut chunk = [0; 4096];
        if let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut chunk).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let length: usize = header("content-length").map_or(0, |it| it.parse().unwrap());
    while bytes.len() < end + length {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let token = header("authorization").and_then(|it| Some(it.strip_prefix("Bearer ")?.to_owned()));
    Some((line, token, serde_json::from_slice(&bytes[end..]).unwrap_or_default()))
}
