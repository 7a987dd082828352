//! Who may connect.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use forebay_sdk::{Voice, beside};
use ring::{hmac, rand::SystemRandom};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use crate::{
    hall::{Hall, household},
    house::House,
    roll::{Credential, Roll},
    session::ConnectionId,
    terms::Listener,
    wire::{Connect, Refusal, code},
    words::printable,
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
    roll: Mutex<Arc<Roll>>,
    /// Who is in.
    pub hall: Arc<Hall>,
    guesses: Mutex<BTreeMap<IpAddr, Guesses>>,
    /// What proved right, so that many who come back at once cost no more than many new ones.
    proven: Proven,
    /// One digest is made at a time: the other core is for the messages.
    turn: Semaphore,
    /// By what those who are connected got in.
    passes: Mutex<BTreeMap<ConnectionId, Pass>>,
    /// Hears of logins that are refused.
    voice: Voice,
}

/// The wrong passwords of one address.
pub struct Guesses {
    count: u32,
    last: Instant,
}

/// By what somebody got in.
#[derive(Clone, Debug)]
pub struct Pass {
    pub user: Option<Arc<str>>,
    proof: Proof,
    listener: Listener,
}

#[derive(Clone, Debug)]
enum Proof {
    /// Nobody asked.
    None,
    Password(Credential),
    Certificate,
}

/// A pass of who is connected, until it is dropped.
pub struct Inside<'a> {
    users: &'a Users,
    id: ConnectionId,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        lock(&self.users.passes).remove(&self.id);
    }
}

impl Pass {
    /// Whether it is good with other users and listeners, too.
    fn is_good(&self, roll: &Roll, listeners: &[Listener]) -> bool {
        let Some(listener) = listeners.iter().find(|it| it.is_same_way(&self.listener)) else {
            return false;
        };
        match (&self.proof, &self.user) {
            (Proof::None, _) => listener.anonymous,
            (Proof::Certificate, _) => true,
            (Proof::Password(proof), Some(user)) => roll.credential(user) == Some(proof),
            (Proof::Password(_), None) => false,
        }
    }
}

/// What passwords proved right, by a digest that is of no use to anybody else.
struct Proven {
    key: hmac::Key,
    known: Mutex<BTreeMap<Arc<str>, hmac::Tag>>,
}

impl Proven {
    fn new() -> anyhow::Result<Proven> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| anyhow!("the system has no random numbers"))?;
        Ok(Proven { key, known: Mutex::default() })
    }

    fn is_known(&self, user: &str, password: &[u8]) -> bool {
        let known = lock(&self.known).get(user).copied();
        known.is_some_and(|tag| hmac::verify(&self.key, password, tag.as_ref()).is_ok())
    }

    fn learn(&self, user: &str, password: &[u8]) {
        lock(&self.known).insert(user.into(), hmac::sign(&self.key, password));
    }

    fn forget(&self) {
        lock(&self.known).clear();
    }
}

impl Users {
    /// Without any. `hall` is who is in.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn new(hall: Arc<Hall>, voice: Voice) -> anyhow::Result<Users> {
        Ok(Users {
            roll: Mutex::default(),
            hall,
            guesses: Mutex::default(),
            proven: Proven::new()?,
            turn: Semaphore::new(1),
            passes: Mutex::default(),
            voice,
        })
    }

    /// Goes on with other users and listeners. The connections that may not stay.
    pub fn change(&self, roll: Roll, listeners: &[Listener]) -> Vec<ConnectionId> {
        self.proven.forget();
        let passes = lock(&self.passes);
        let bad = passes.iter().filter(|(_, pass)| !pass.is_good(&roll, listeners));
        let bad = bad.map(|(id, _)| *id).collect();
        *lock(&self.roll) = Arc::new(roll);
        bad
    }

    /// Remembers by what a connection got in.
    pub fn enter(&self, id: ConnectionId, pass: Pass) -> Inside<'_> {
        lock(&self.passes).insert(id, pass);
        Inside { users: self, id }
    }

    /// Lets a client in. `certified` is the user whom its certificate names. A refusal is in the log.
    pub async fn admit(
        &self,
        connect: &Connect,
        from: SocketAddr,
        listener: &Listener,
        certified: Option<String>,
        house: &House,
    ) -> Result<Pass, Refusal> {
        let (user, proof) = match certified {
            Some(name) => (Some(name.into()), Proof::Certificate),
            None => self.prove(connect, from, listener).await?,
        };
        let owner = house.with(|broker| broker.owner(&connect.client_id)).flatten();
        if let Some(owner) = owner.filter(|owner| Some(owner) != user.as_ref()) {
            self.refuse(connect, from, &format!("the client id is in use by user `{owner}`"));
            return Err(Refusal::new(code::NOT_AUTHORIZED, "the client id is in use"));
        }
        if let Err(error) = self.hall.admit(from) {
            self.refuse(connect, from, &error.to_string());
            return Err(Refusal::new(code::QUOTA, error.to_string()));
        }
        Ok(Pass { user, proof, listener: listener.clone() })
    }

    /// Who a client is, by what it says.
    async fn prove(
        &self,
        connect: &Connect,
        from: SocketAddr,
        listener: &Listener,
    ) -> Result<(Option<Arc<str>>, Proof), Refusal> {
        let roll = Arc::clone(&lock(&self.roll));
        let user = connect.user.as_deref().filter(|_| !(roll.is_empty() && listener.anonymous));
        let Some(user) = user else {
            if listener.anonymous {
                return Ok((None, Proof::None));
            }
            self.refuse(connect, from, "it gave no user name");
            return Err(Refusal::new(
                code::NOT_AUTHORIZED,
                "a user name and a password are needed",
            ));
        };
        // All logins of an address that guesses wait, so that the pause tells nothing.
        sleep(self.pause(from)).await;
        let password = connect.password.as_deref().unwrap_or_default();
        match roll.credential(user) {
            Some(credential) if self.is_right(user, credential, password).await => {
                Ok((Some(user.into()), Proof::Password(credential.clone())))
            }
            _ => {
                self.wrong_password(connect, from);
                Err(Refusal::new(code::BAD_LOGIN, "bad user name or password"))
            }
        }
    }

    async fn is_right(&self, user: &str, credential: &Credential, password: &[u8]) -> bool {
        if let Credential::Plain(_) = credential {
            return credential.is_of(password);
        }
        if self.proven.is_known(user, password) {
            return true;
        }
        // It is never closed.
        let Ok(_turn) = self.turn.acquire().await else { return false };
        // Another connection of it may have proved it meanwhile.
        if self.proven.is_known(user, password) {
            return true;
        }
        let (credential, given) = (credential.clone(), password.to_vec());
        let is_right = beside(move || credential.is_of(&given)).await.unwrap_or(false);
        if is_right {
            self.proven.learn(user, password);
        }
        is_right
    }

    /// Writes a refused login into the log.
    pub fn refuse(&self, connect: &Connect, from: SocketAddr, why: &str) {
        let ip = from.ip();
        let client_id = printable(&connect.client_id);
        let user = match &connect.user {
            Some(name) => format!("user `{}`", printable(name)),
            None => "nobody".to_owned(),
        };
        let client = format!("{user} with client id `{client_id}` from {ip}");
        self.voice.trouble(&anyhow!("refused a login of {client}: {why}"));
    }

    /// How long a login of this address waits.
    fn pause(&self, from: SocketAddr) -> Duration {
        let mut guesses = lock(&self.guesses);
        guesses.retain(|_, guesses| guesses.last.elapsed() < FORGOTTEN);
        let count = guesses.get(&household(from.ip())).map_or(0, |guesses| guesses.count);
        match count.checked_sub(FREE_GUESSES) {
            None => Duration::ZERO,
            Some(steps) => (FIRST_PAUSE * (1 << steps.min(10))).min(LONGEST_PAUSE),
        }
    }

    /// Counts a wrong password, and logs the first few of an address.
    fn wrong_password(&self, connect: &Connect, from: SocketAddr) {
        let mut guesses = lock(&self.guesses);
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
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change leaves it whole, so a panic elsewhere does not matter.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
