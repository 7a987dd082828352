//! Who may connect.

use std::{
    collections::BTreeMap,
    future::{Future, ready},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use forebay_sdk::{Secret, Voice};
use mqtt5::{
    broker::{AuthProvider, AuthResult, DynamicStorage, StorageBackend, storage::ClientSession},
    packet::connect::ConnectPacket,
    protocol::v5::reason_codes::ReasonCode,
};
use tokio::time::{Instant, sleep};

use crate::{
    hall::{Hall, household},
    private::is_private,
};

/// Wrong passwords that cost nothing.
const FREE_GUESSES: u32 = 3;
/// The pause after the first that does. It doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// mqtt5 waits for ten seconds until a client is in.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many refused logins of one address are logged.
const MOST_LOGGED: u32 = 5;
/// How long an address must be quiet until its wrong passwords are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// The most addresses whose wrong passwords are remembered.
const MOST_GUESSERS: usize = 1000;

/// Checks passwords, and bounds the sessions that the broker remembers.
pub struct Users {
    /// None lets anybody in.
    pub passwords: Option<BTreeMap<String, Secret>>,
    /// Where sessions are.
    pub storage: Arc<DynamicStorage>,
    /// The most sessions to remember.
    pub most_sessions: usize,
    /// Who is in.
    pub hall: Arc<Hall>,
    pub guesses: Mutex<BTreeMap<IpAddr, Guesses>>,
    /// Hears of logins that are refused.
    pub voice: Voice,
}

/// The wrong passwords of one address.
pub struct Guesses {
    count: u32,
    last: Instant,
}

impl Users {
    async fn admit(&self, connect: &ConnectPacket, from: SocketAddr) -> AuthResult {
        let mut user = None;
        if let Some(passwords) = &self.passwords {
            // All logins of an address that guesses wait, so that the pause tells nothing.
            sleep(self.pause(from)).await;
            user = right_user(passwords, connect);
            if user.is_none() {
                self.wrong_password(connect, from);
                return AuthResult::fail(ReasonCode::BadUsernameOrPassword);
            }
            if let Some(owner) = self.other_owner(&connect.client_id, user).await {
                let why = format!("the client id is in use by user `{owner}`");
                self.refuse(connect, from, &why);
                return AuthResult::fail(ReasonCode::NotAuthorized);
            }
        }
        if is_remembered(connect) && !self.has_room_for(&connect.client_id).await {
            let why = format!("{} sessions are remembered already", self.most_sessions);
            self.refuse(connect, from, &why);
            return AuthResult::fail(ReasonCode::ServerUnavailable);
        }
        if let Err(error) = self.hall.admit(from) {
            self.refuse(connect, from, &error.to_string());
            return AuthResult::fail(ReasonCode::ServerUnavailable);
        }
        match user {
            Some(user) => AuthResult::success_with_user(user),
            None => AuthResult::success(),
        }
    }

    fn refuse(&self, connect: &ConnectPacket, from: SocketAddr, why: &str) {
        let ip = from.ip();
        let client_id = &connect.client_id;
        let user = match &connect.username {
            Some(name) => format!("user `{name}`"),
            None => "nobody".to_owned(),
        };
        let client = format!("{user} with client id `{client_id}` from {ip}");
        self.voice.trouble(&anyhow!("refused a login of {}: {why}", printable(&client)));
    }

    /// How long a login of this address waits.
    fn pause(&self, from: SocketAddr) -> Duration {
        let mut guesses = self.lock();
        guesses.retain(|_, guesses| guesses.last.elapsed() < FORGOTTEN);
        let count = guesses.get(&household(from.ip())).map_or(0, |guesses| guesses.count);
        match count.checked_sub(FREE_GUESSES) {
            None => Duration::ZERO,
            Some(steps) => (FIRST_PAUSE * (1 << steps.min(10))).min(LONGEST_PAUSE),
        }
    }

    /// Counts a wrong password, and logs the first few of an address.
    fn wrong_password(&self, connect: &ConnectPacket, from: SocketAddr) {
        let mut guesses = self.lock();
        if guesses.len() >= MOST_GUESSERS {
            guesses.pop_first();
        }
        let new = Guesses { count: 0, last: Instant::now() };
        let known = guesses.entry(household(from.ip())).or_insert(new);
        known.count = known.count.saturating_add(1);
        known.last = Instant::now();
        let count = known.count;
        drop(guesses);
        if count < MOST_LOGGED {
            self.refuse(connect, from, "bad user name or password");
        } else if count == MOST_LOGGED {
            let why = format!(
                "bad user name or password, {count} times by now; until this address is quiet for \
                 {} minutes its logins are answered late and no more is logged of them",
                FORGOTTEN.as_secs() / 60
            );
            self.refuse(connect, from, &why);
        }
    }

    /// Another user, whose connection or session has that client id.
    async fn other_owner(&self, client_id: &str, user: Option<&str>) -> Option<String> {
        let session = self.storage.get_session(client_id).await.ok()??;
        let owner = session.user_id.clone().filter(|owner| Some(owner.as_str()) != user)?;
        (!session.is_expired()).then_some(owner)
    }

    async fn has_room_for(&self, client_id: &str) -> bool {
        match self.storage.session_client_ids().await {
            Ok(known) => known.len() < self.most_sessions || known.iter().any(|k| k == client_id),
            // The memory store never fails.
            Err(_) => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Guesses>> {
        // Every change leaves the map whole, so a panic elsewhere does not matter.
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The user whose password a client knows.
fn right_user<'a>(
    passwords: &BTreeMap<String, Secret>,
    connect: &'a ConnectPacket,
) -> Option<&'a str> {
    let name = connect.username.as_deref()?;
    let given = connect.password.as_deref().unwrap_or_default();
    let right = passwords.get(name)?.expose().as_bytes();
    same(given, right).then_some(name)
}

/// Whether the session of a client outlives its connection.
fn is_remembered(connect: &ConnectPacket) -> bool {
    ClientSession::expiry_from_connect(connect) != Some(0)
}

/// A text from outside, as it may stand in a log.
fn printable(text: &str) -> String {
    const MOST: usize = 200;
    text.chars().take(MOST).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Compares in a time that does not tell how much of a guess is right.
fn same(given: &[u8], right: &[u8]) -> bool {
    let differences = given.iter().zip(right).fold(0, |all, (one, other)| all | (one ^ other));
    given.len() == right.len() && differences == 0
}

/// A future that mqtt5's traits return.
type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl AuthProvider for Users {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move { Ok(self.admit(connect, from).await) })
    }

    fn authorize_publish<'a>(&self, _: &str, _: Option<&'a str>, _: &'a str) -> Answer<'a, bool> {
        Box::pin(ready(true))
    }

    fn authorize_subscribe<'a>(
        &self,
        _: &str,
        _: Option<&'a str>,
        filter: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(ready(!is_private(filter)))
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn only_the_right_password_is_the_same() {
        assert!(same(b"secret", b"secret") && same(b"", b""));
        for wrong in [&b""[..], b"secre", b"secrets", b"Secret"] {
            assert!(!same(wrong, b"secret"), "{wrong:?}");
        }
    }
}
