//! What a client of either version of MQTT takes and gives.

use std::time::Duration;

use forebay_sdk::{Secret, Size, mqtt::Publication};
use tokio::sync::oneshot;

/// The most publications on their way without an acknowledgement. AWS allows 100.
pub const MOST_IN_FLIGHT: u16 = 100;
/// The most requests that wait for the connection to take them.
pub const MOST_REQUESTS: usize = 128;
/// The most requests that leave in one write.
pub const MOST_IN_WRITE: usize = 64;
/// How long one write may be stuck. The kernel notices a dead link earlier; this is for the rest.
pub const LONGEST_WRITE: Duration = Duration::from_secs(300);
/// How long the broker may take to answer a SUBSCRIBE.
pub const LONGEST_ANSWER: Duration = Duration::from_secs(60);
/// How long the broker may take to acknowledge the last words. We have a second for good-bye.
pub const LONGEST_GOODBYE: Duration = Duration::from_millis(800);

/// What we say of ourselves in CONNECT, beside the client id.
#[derive(Clone, Debug)]
pub struct Hello {
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Whole seconds.
    pub keep_alive: u16,
    pub clean_session: bool,
    /// For how many seconds a session that is kept outlives the connection. Of MQTT 5; before, it
    /// does so for ever.
    pub session_expiry: u32,
    pub will: Option<Publication>,
    /// How many seconds the broker waits before it publishes the will. Of MQTT 5.
    pub will_delay: u32,
    /// Published first on each connection.
    pub birth: Option<Publication>,
    /// Published before the connection is closed.
    pub goodbye: Option<Publication>,
    pub max_packet: Size,
}

/// What a broker said when it let us in.
#[derive(Debug)]
pub struct Welcome {
    /// Whether it remembers the session.
    pub resumed: bool,
    pub limits: Limits,
    /// The client id that it has chosen, when that was left to it, and it says so.
    pub assigned: Option<String>,
    /// What goes on where the connection before has left it.
    pub going_on: Vec<Resumed>,
}

/// A message of QoS 2 that goes on, and how that ends.
pub type Resumed = (Publication, oneshot::Receiver<Result<(), Untaken>>);

/// What a broker takes. With MQTT 3.1.1 it does not say, and closes the connection on what is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a packet.
    pub max_packet: u64,
    /// 0, 1 or 2.
    pub max_qos: u8,
    /// Whether it keeps messages for later subscribers.
    pub keeps_retained: bool,
    /// Whether it says with each message by which subscriptions that comes.
    pub names_subscriptions: bool,
    /// For how many seconds it keeps the session, when that is not what was asked for.
    pub session_expiry: Option<u32>,
}

impl Limits {
    /// At which QoS it takes a publication.
    pub fn qos(&self, publication: &Publication) -> u8 {
        publication.qos.min(self.max_qos)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_packet: u64::MAX,
            max_qos: 2,
            keeps_retained: true,
            names_subscriptions: false,
            session_expiry: None,
        }
    }
}

/// What a connection brings.
pub enum Arrival {
    /// A message.
    Publish {
        publication: Publication,
        /// Its packet id. 0 at QoS 0.
        packet: u16,
        /// The broker's mark for what it sends once more.
        again: bool,
        /// The numbers of the subscriptions by which it comes. Empty when the broker does not say.
        by: Vec<u32>,
    },
    /// A message that was too large, without its payload. It is to be acknowledged all the same.
    Beheaded { publication: Publication, packet: u16, again: bool },
    /// The broker has released a message of QoS 2.
    Released(u16),
    /// Something that the client dealt with by itself.
    Other,
}

/// The connection ended before the broker answered, or could not take any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// Why the broker did not take responsibility for a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untaken {
    /// Nobody knows whether it did.
    Lost,
    /// It will not have this one, for a reason in words.
    Refused(String),
}

impl From<Lost> for Untaken {
    fn from(Lost: Lost) -> Untaken {
        Untaken::Lost
    }
}
