//! The REST interface of RutOS: one session, one request for all that is asked, and the patience that
//! keeps a router from locking us out.

use std::{collections::BTreeMap, time::Duration};

use anyhow::anyhow;
use forebay_sdk::{Secret, connection::Down};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::{
    counters::Asked,
    figures::Figures,
    group::Part,
    patience::Patience,
    web::{Answer, Ask, Failure, Web},
};

/// A session is renewed so long before it ends.
const BEFORE_END: Duration = Duration::from_secs(60);
/// What a session lasts when nobody says.
const USUAL_SESSION: u64 = 299;
const LONGEST_SESSION: u64 = 86_400;
/// A session of this age that still serves shows that all is well.
const PROOF: Duration = Duration::from_secs(60);
/// How long what a router does not have is not asked for again.
const MISSING_FOR: Duration = Duration::from_secs(3600);
/// And what it does not let us see.
const FORBIDDEN_FOR: Duration = Duration::from_secs(600);
/// An action that was not carried out is tried again after this.
const BEFORE_AGAIN: Duration = Duration::from_secs(5);
/// What was there before is believed to be gone after so many refusals in a row.
const MOST_STRIKES: u32 = 3;

/// A router that is asked by REST.
pub struct Rutos {
    web: Web,
    username: String,
    password: Secret,
    session: Option<Session>,
    /// That a session lasts longer when it is asked for its state.
    prolonging: Known,
    patience: Patience,
    /// One request for all.
    bulk: Known,
    parts: BTreeMap<Part, Known>,
}

struct Session {
    token: String,
    opened: Instant,
    lasts: Duration,
    renew_at: Instant,
    ends: Instant,
    is_prolonged: bool,
}

/// What is known of something that a router may not have.
#[derive(Clone, Debug, Default)]
struct Known {
    /// It was there once.
    is_seen: bool,
    /// How often in a row it was refused since.
    strikes: u32,
    /// Why it is not asked for, and until when.
    missing: Option<(String, Instant)>,
}

impl Known {
    fn is_there(&mut self) {
        *self = Known { is_seen: true, ..Known::default() };
    }

    /// Why it is not asked for now.
    fn missing(&self) -> Option<&str> {
        let (why, until) = self.missing.as_ref()?;
        (Instant::now() < *until).then_some(why)
    }

    /// The router says that it has no such thing. Whether it is believed.
    fn refused(&mut self, why: &str, time: Duration) -> bool {
        self.strikes += 1;
        let is_believed = !self.is_seen || self.strikes >= MOST_STRIKES;
        if is_believed {
            self.missing = Some((why.to_owned(), Instant::now() + time));
        }
        is_believed
    }
}

/// All that was asked for: each a value, or why there is none.
pub type Answers = BTreeMap<Part, Result<Value, Absent>>;

/// Why one of the answers is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// This router does not have it, or does not show it to us.
    Lasting(String),
    /// It may be there the next time.
    Now(String),
}

/// What an exchange in a session gave.
enum Outcome {
    Done(Answer),
    /// The router does not know the session.
    NoSession(String),
}

impl Rutos {
    pub fn new(web: Web, username: String, password: Secret) -> Rutos {
        Rutos {
            web,
            username,
            password,
            session: None,
            prolonging: Known::default(),
            patience: Patience::default(),
            bulk: Known::default(),
            parts: BTreeMap::new(),
        }
    }

    /// Opens a session unless there is one.
    pub async fn enter(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let Some(session) = &self.session else { return self.login().await };
        if now < session.renew_at {
            return Ok(());
        }
        // Each login leaves a session behind on the router, and some run out of memory for that. One that is asked
        // for its state lasts longer.
        let (lasts, is_over) = (session.lasts, now >= session.ends);
        if self.prolonging.missing().is_none() && !is_over && self.is_alive().await {
            if let Some(session) = &mut self.session {
                if session.opened.elapsed() > lasts + BEFORE_END {
                    self.prolonging.is_there();
                }
                (session.renew_at, session.ends) = (renew_at(now, lasts), now + lasts);
                session.is_prolonged = true;
            }
            return Ok(());
        }
        self.session = None;
        self.patience.session_lasted();
        self.login().await
    }

    async fn is_alive(&mut self) -> bool {
        let Ok(Outcome::Done(answer)) = self.get("/api/session/status").await else { return false };
        let said = body(&answer);
        let active = said.as_ref().map(|said| Figures::of(said).inside("data"));
        answer.status.is_success() && active.and_then(|it| it.truth(&["active"])) == Some(true)
    }

    /// Logs in, but not too often.
    async fn login(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.patience.may_log_in(self.web.place())?;
        let credentials = json!({ "username": self.username, "password": self.password.expose() });
        let ask =
            Ask { method: Method::POST, path: "/api/login", token: None, body: Some(&credentials) };
        let answered = self.web.ask_once(ask).await;
        let place = self.web.place().clone();
        let answer = match answered {
            Ok(answer) => answer,
            // Nobody has counted it.
            Err(Failure::NotSent(error)) => return Err(error),
            Err(Failure::Unknown(error)) => {
                self.patience.failed();
                return Err(error.context("logging in"));
            }
        };
        let said = body(&answer).unwrap_or_default();
        let all = Figures::of(&said);
        let found = all.inside("data");
        let token = found.text(&["token", "ubus_rpc_session"]).or_else(|| all.text(&["token"]));
        if let Some(token) = token.filter(|_| answer.status.is_success()) {
            let lasts = found.count(&["expires", "timeout", "expires_in"]);
            let lasts = lasts.filter(|seconds| *seconds > 0).unwrap_or(USUAL_SESSION);
            let lasts = Duration::from_secs(lasts.min(LONGEST_SESSION));
            debug!(%place, "logged in");
            self.session = Some(Session {
                token,
                opened: now,
                lasts,
                renew_at: renew_at(now, lasts),
                ends: now + lasts,
                is_prolonged: false,
            });
            self.patience.logged_in();
            return Ok(());
        }
        let status = answer.status;
        let why = complaint(&said).unwrap_or_else(|| format!("it answers {status}"));
        let is_no = matches!(status.as_u16(), 400 | 401 | 403 | 422 | 423 | 429)
            || (status.is_success() && all.truth(&["success"]) == Some(false));
        if !is_no {
            self.patience.failed();
            return Err(anyhow!("logging in at {place}: {why}"));
        }
        Err(self.patience.refused(&place, &self.username, &why).into())
    }

    /// Says good-bye, so that the session does not stay behind.
    pub async fn leave(&mut self) {
        if self.session.is_some() {
            let _ = self.post("/api/logout", None).await;
            self.session = None;
        }
    }

    /// Reads some answers, with one login when the router has forgotten the session.
    pub async fn read(&mut self, parts: &[Part]) -> anyhow::Result<Answers> {
        let mut answers = Answers::new();
        let mut wanted = Vec::with_capacity(parts.len());
        for part in parts {
            match self.parts.get(part).and_then(Known::missing) {
                Some(why) => drop(answers.insert(*part, Err(Absent::Lasting(why.to_owned())))),
                None => wanted.push(*part),
            }
        }
        if wanted.is_empty() {
            return Ok(answers);
        }
        self.enter().await?;
        let read = match self.read_all(&wanted).await? {
            Ok(read) => read,
            Err(why) => {
                self.forgotten(&why);
                self.enter().await?;
                match self.read_all(&wanted).await? {
                    Ok(read) => read,
                    Err(why) => {
                        self.session = None;
                        self.patience.failed();
                        let place = self.web.place();
                        return Err(anyhow!(
                            "{place} lets `{}` in and then does not know the session ({why})",
                            self.username
                        ));
                    }
                }
            }
        };
        if self.session.as_ref().is_some_and(|it| it.opened.elapsed() >= PROOF) {
            self.patience.proved();
        }
        answers.extend(read);
        Ok(answers)
    }

    /// The router does not know the session any more. One that lasted is replaced at once; after one that did
    /// not, logins are further and further apart.
    fn forgotten(&mut self, why: &str) {
        let place = self.web.place();
        debug!(%place, why, "the session is gone");
        let Some(session) = self.session.take() else { return };
        let lasted = session.opened.elapsed();
        if session.is_prolonged {
            match lasted > session.lasts + BEFORE_END {
                true => self.prolonging.is_there(),
                false => drop(self.prolonging.refused("it ended all the same", MISSING_FOR)),
            }
        }
        match lasted >= session.lasts / 2 {
            true => self.patience.session_lasted(),
            false => self.patience.session_was_lost(),
        }
    }

    /// The inner error: the session is not known.
    async fn read_all(&mut self, parts: &[Part]) -> anyhow::Result<Result<Answers, String>> {
        if self.bulk.missing().is_none() && parts.len() > 1 {
            match self.read_bulk(parts).await? {
                Ok(Some(answers)) => return Ok(Ok(answers)),
                Ok(None) => (),
                Err(why) => return Ok(Err(why)),
            }
        }
        let mut answers = Answers::new();
        for part in parts {
            let answer = match self.get(part.path()).await {
                Ok(Outcome::Done(answer)) => answer,
                Ok(Outcome::NoSession(why)) => return Ok(Err(why)),
                // One answer that is cut off says nothing about the others; silence does.
                Err(Failure::Unknown(error)) if !answers.is_empty() => {
                    answers.insert(*part, Err(Absent::Now(format!("{error:#}"))));
                    continue;
                }
                Err(failure) => return Err(failure.into_error()),
            };
            let said = body(&answer);
            let found = self.understand(*part, answer.status.as_u16(), said.as_ref());
            answers.insert(*part, found);
        }
        Ok(Ok(answers))
    }

    /// All in one request. None when the router does not take such.
    async fn read_bulk(
        &mut self,
        parts: &[Part],
    ) -> anyhow::Result<Result<Option<Answers>, String>> {
        let asked = parts.iter().map(|part| json!({ "endpoint": part.path(), "method": "GET" }));
        let asked = json!({ "data": asked.collect::<Vec<_>>() });
        let answer = match self.post("/api/bulk", Some(&asked)).await {
            Ok(Outcome::Done(answer)) => answer,
            Ok(Outcome::NoSession(why)) => return Ok(Err(why)),
            Err(failure) => return Err(failure.into_error()),
        };
        let place = self.web.place().clone();
        match answer.status {
            status if status.is_success() => (),
            StatusCode::BAD_REQUEST
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::NOT_IMPLEMENTED => {
                self.no_bulk(&format!("it answers {}", answer.status));
                return Ok(Ok(None));
            }
            status => return Err(anyhow!("{place} answers {status}")),
        }
        let said = body(&answer);
        let rows = said.as_ref().and_then(|said| rows(said, parts));
        let Some(rows) = rows else {
            let shown = shown(&answer.bytes);
            self.no_bulk(&format!("it answers {shown}"));
            return Ok(Ok(None));
        };
        self.bulk.is_there();
        if rows.iter().all(|row| is_no_session(0, row)) {
            return Ok(Err("it wants to know who we are".to_owned()));
        }
        let understood = parts.iter().zip(rows).map(|(part, row)| {
            let status = Figures::of(row).count(&["http_status", "status_code", "http_code"]);
            let status = status.and_then(|it| u16::try_from(it).ok()).unwrap_or(200);
            (*part, self.understand(*part, status, Some(row)))
        });
        Ok(Ok(Some(understood.collect())))
    }

    /// A request for several answers was refused, or not understood.
    fn no_bulk(&mut self, why: &str) {
        let place = self.web.place();
        if self.bulk.refused(why, MISSING_FOR) {
            info!(%place, why, "no requests for several answers at once here; asking for each");
        }
    }

    /// What one answer says, and what is learnt of it.
    fn understand(
        &mut self,
        part: Part,
        status: u16,
        said: Option<&Value>,
    ) -> Result<Value, Absent> {
        let fails = said.is_some_and(|said| Figures::of(said).truth(&["success"]) == Some(false));
        let data = said.and_then(|said| said.get("data"));
        if let Some(data) = data.filter(|data| !data.is_null() && !fails && status < 300) {
            self.parts.entry(part).or_default().is_there();
            return Ok(data.clone());
        }
        let why = said.and_then(complaint).unwrap_or_else(|| format!("it answers {status}"));
        let code = said.and_then(first_code);
        let lasting = match (status, code) {
            (403, _) => Some(FORBIDDEN_FOR),
            (404 | 405 | 501, _) | (_, Some(100 | 102 | 113 | 116 | 122)) => Some(MISSING_FOR),
            _ => None,
        };
        let is_gone =
            lasting.is_some_and(|time| self.parts.entry(part).or_default().refused(&why, time));
        Err(if is_gone { Absent::Lasting(why) } else { Absent::Now(why) })
    }

    async fn get(&mut self, path: &str) -> Result<Outcome, Failure> {
        self.exchange(Method::GET, path, None).await
    }

    async fn post(&mut self, path: &str, body: Option<&Value>) -> Result<Outcome, Failure> {
        self.exchange(Method::POST, path, body).await
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Outcome, Failure> {
        let token = self.session.as_ref().map(|session| session.token.clone());
        Ok(outcome(self.web.ask(Ask { method, path, token: token.as_deref(), body }).await?))
    }

    /// Does something that must not be done twice. A session that is not known has done nothing.
    pub async fn act(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ActFailure> {
        for is_last in [false, true] {
            self.enter().await.map_err(ActFailure::not_done)?;
            let token = self.session.as_ref().map(|session| session.token.clone());
            let ask = Ask { method: method.clone(), path, token: token.as_deref(), body };
            let answer = match self.web.ask_once(ask).await {
                Ok(answer) => answer,
                Err(Failure::NotSent(error)) => return Err(ActFailure::not_done(error)),
                Err(Failure::Unknown(error)) => return Err(ActFailure::InDoubt(error)),
            };
            match outcome(answer) {
                Outcome::Done(answer) => return done(&answer, self.web.place().to_string()),
                Outcome::NoSession(why) if is_last => {
                    self.session = None;
                    self.patience.failed();
                    return Err(ActFailure::not_done(anyhow!(why)));
                }
                Outcome::NoSession(why) => self.forgotten(&why),
            }
        }
        Err(ActFailure::not_done(anyhow!("the session was lost twice")))
    }

    /// What it has on record of a SIM.
    pub async fn record(&mut self, asked: &Asked) -> Result<Option<Value>, ActFailure> {
        let Asked { modem, sim, esim, month, now, .. } = asked;
        let sim = match esim {
            Some(profile) => format!("esim/{profile}"),
            None => format!("sim/{sim}"),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:/".contains(c);
        if !modem.chars().chain(sim.chars()).all(is_plain) {
            return Ok(None);
        }
        let path =
            format!("/api/data_usage/custom/modem/{modem}/{sim}/status?from={month}&to={now}");
        let said = self.look(&path).await?;
        // Some firmwares say beside the rows what they are.
        Ok(Some(said.get("usage").cloned().unwrap_or(said)))
    }

    /// Reads what an action has to know first.
    pub async fn look(&mut self, path: &str) -> Result<Value, ActFailure> {
        for _ in 0..2 {
            self.enter().await.map_err(ActFailure::not_done)?;
            match self.get(path).await {
                Ok(Outcome::Done(answer)) => return done(&answer, self.web.place().to_string()),
                Ok(Outcome::NoSession(why)) => self.forgotten(&why),
                Err(failure) => return Err(ActFailure::not_done(failure.into_error())),
            }
        }
        Err(ActFailure::not_done(anyhow!("the router does not keep a session")))
    }
}

/// Why an action was not carried out.
#[derive(Debug)]
pub enum ActFailure {
    /// Nothing has happened, and it may be tried again, when it is known by then.
    NotDone { error: anyhow::Error, after: Option<Duration> },
    /// The router will not do it.
    Refused(anyhow::Error),
    /// It may have happened.
    InDoubt(anyhow::Error),
}

impl ActFailure {
    /// Nothing has happened. While the connection is down, that is waited for; else a while.
    pub fn not_done(error: anyhow::Error) -> ActFailure {
        let after = (!error.is::<Down>()).then_some(BEFORE_AGAIN);
        ActFailure::NotDone { error, after }
    }
}

fn done(answer: &Answer, place: String) -> Result<Value, ActFailure> {
    let said = body(answer).unwrap_or_default();
    let fails = Figures::of(&said).truth(&["success"]) == Some(false);
    let status = answer.status;
    let why = || complaint(&said).unwrap_or_else(|| format!("{place} answers {status}"));
    match status.as_u16() {
        200..=299 if !fails => Ok(said.get("data").cloned().unwrap_or_default()),
        // A server that broke down over it may have done it before.
        500 | 502 | 504 => Err(ActFailure::InDoubt(anyhow!(why()))),
        429 | 503 => Err(ActFailure::not_done(anyhow!(why()))),
        _ => Err(ActFailure::Refused(anyhow!(why()))),
    }
}

fn outcome(answer: Answer) -> Outcome {
    let said = body(&answer);
    let is_gone = said.as_ref().is_some_and(|said| is_no_session(answer.status.as_u16(), said))
        || answer.status == StatusCode::UNAUTHORIZED;
    if is_gone {
        let why = said.as_ref().and_then(complaint);
        return Outcome::NoSession(why.unwrap_or_else(|| format!("it answers {}", answer.status)));
    }
    Outcome::Done(answer)
}

/// 120 and 123: not authorized, and a token that is none.
fn is_no_session(status: u16, said: &Value) -> bool {
    status == 401 || matches!(first_code(said), Some(120 | 123))
}

fn renew_at(now: Instant, lasts: Duration) -> Instant {
    now + lasts.saturating_sub(BEFORE_END).max(lasts / 2)
}

fn body(answer: &Answer) -> Option<Value> {
    serde_json::from_slice(&answer.bytes).ok()
}

/// The answers to a request for several, in the order of the questions.
fn rows<'a>(said: &'a Value, parts: &[Part]) -> Option<Vec<&'a Value>> {
    let rows = said.get("data").unwrap_or(said).as_array()?;
    let by_name = |part: &Part| {
        rows.iter().find(|row| row.get("endpoint").and_then(Value::as_str) == Some(part.path()))
    };
    if let Some(found) = parts.iter().map(by_name).collect::<Option<Vec<_>>>() {
        return Some(found);
    }
    let is_row = |row: &Value| row.get("success").is_some() || row.get("data").is_some();
    (rows.len() == parts.len() && rows.iter().all(is_row)).then(|| rows.iter().collect())
}

/// What a router complains about, in its words.
fn complaint(said: &Value) -> Option<String> {
    let first = Figures::of(said).list(&["errors"]).first();
    let one = first.or_else(|| said.get("error"))?;
    let error = Figures::of(one);
    let text = one.as_str().map(str::to_owned).or_else(|| error.text(&["error", "message"]))?;
    Some(match error.count(&["code"]) {
        Some(code) => format!("{} (code {code})", shorten(&text)),
        None => shorten(&text),
    })
}

fn first_code(said: &Value) -> Option<u64> {
    Figures::of(Figures::of(said).list(&["errors"]).first()?).count(&["code"])
}

/// What somebody else wrote, for one line of a log.
fn shorten(text: &str) -> String {
    const MOST: usize = 120;
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    line.trim().to_owned()
}

fn shown(bytes: &[u8]) -> String {
    match bytes.is_empty() {
        true => "nothing".to_owned(),
        false => format!("`{}`", shorten(&String::from_utf8_lossy(bytes))),
    }
}

/// Whether a router of this kind answers, before anybody logs in.
pub async fn is_here(web: &mut Web) -> anyhow::Result<bool> {
    let path = "/api/unauthorized/status";
    let ask = Ask { method: Method::GET, path, token: None, body: None };
    let answer = web.ask(ask).await.map_err(Failure::into_error)?;
    let said = body(&answer);
    Ok(said.is_some_and(|said| said.get("success").is_some() || said.get("errors").is_some()))
}
