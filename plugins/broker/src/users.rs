//! Who may connect.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use forebay_sdk::{Secret, Voice};
use tokio::time::{Instant, sleep};

use crate::{
    hall::{Hall, household},
    house::House,
    wire::{Connect, Refusal, code},
};

/// Wrong passwords that cost nothing.
const FREE_GUESSES: u32 = 3;
/// The pause after the first that does. It doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Below the time that many a client waits for an answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many refused logins of one address are logged.
const MOST_LOGGED: u32 = 5;
/// How long an address must be quiet until its wrong passwords are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// The most addresses whose wrong passwords are remembered.
const MOST_GUESSERS: usize = 1000;

/// Checks passwords.
pub struct Users {
    /// None lets anybody in.
    pub passwords: Option<BTreeMap<String, Secret>>,
    /// Who is in.
    pub hall: Arc<Hall>,
    guesses: Mutex<BTreeMap<IpAddr, Guesses>>,
    /// Hears of logins that are refused.
    voice: Voice,
}

/// The wrong passwords of one address.
pub struct Guesses {
    count: u32,
    last: Instant,
}

impl Users {
    pub fn new(
        passwords: Option<BTreeMap<String, Secret>>,
        hall: Arc<Hall>,
        voice: Voice,
    ) -> Users {
        Users { passwords, hall, guesses: Mutex::default(), voice }
    }

    /// Lets a client in: the user that it is, when users are told apart. A refusal is in the log.
    pub async fn admit(
        &self,
        connect: &Connect,
        from: SocketAddr,
        house: &House,
    ) -> Result<Option<Arc<str>>, Refusal> {
        let mut user = None;
        if let Some(passwords) = &self.passwords {
            // All logins of an address that guesses wait, so that the pause tells nothing.
            sleep(self.pause(from)).await;
            let Some(name) = right_user(passwords, connect) else {
                self.wrong_password(connect, from);
                return Err(Refusal::new(code::BAD_LOGIN, "bad user name or password"));
            };
            let owner = house.with(|broker| broker.owner(&connect.client_id)).flatten();
            if let Some(owner) = owner.filter(|owner| **owner != *name) {
                let why = format!("the client id is in use by user `{owner}`");
                self.refuse(connect, from, &why);
                return Err(Refusal::new(code::NOT_AUTHORIZED, "the client id is in use"));
            }
            user = Some(name.into());
        }
        if let Err(error) = self.hall.admit(from) {
            self.refuse(connect, from, &error.to_string());
            return Err(Refusal::new(code::SERVER_UNAVAILABLE, error.to_string()));
        }
        Ok(user)
    }

    /// Writes a refused login into the log.
    pub fn refuse(&self, connect: &Connect, from: SocketAddr, why: &str) {
        let ip = from.ip();
        let client_id = &connect.client_id;
        let user = match &connect.user {
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
    fn wrong_password(&self, connect: &Connect, from: SocketAddr) {
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Guesses>> {
        // Every change leaves the map whole, so a panic elsewhere does not matter.
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The user whose password a client knows.
fn right_user<'a>(passwords: &BTreeMap<String, Secret>, connect: &'a Connect) -> Option<&'a str> {
    let name = connect.user.as_deref()?;
    let given = connect.password.as_deref().unwrap_or_default();
    let right = passwords.get(name)?.expose().as_bytes();
    same(given, right).then_some(name)
}

/// A text from outside, as it may stand in a log.
pub fn printable(text: &str) -> String {
    const MOST: usize = 200;
    text.chars().take(MOST).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Compares in a time that does not tell how much of a guess is right.
fn same(given: &[u8], right: &[u8]) -> bool {
    let differences = given.iter().zip(right).fold(0, |all, (one, other)| all | (one ^ other));
    given.len() == right.len() && differences == 0
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
