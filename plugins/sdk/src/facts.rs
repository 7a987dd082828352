//! What settings say about a node to whoever looks at the whole graph: which fields of payloads it
//! reads and sends, and how much of its connection's time it takes.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

/// The fields of payloads, or the entries of `meta`, as far as a node's settings name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Fields that the node reads and is not prepared to miss.
    pub reads: Vec<FieldRead>,
    /// Fields that may be in what it sends, on any output but `errors`.
    pub sends: Sends,
}

/// A field that a node reads, and where its settings say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRead {
    /// The field of the payload, or the entry of `meta`.
    pub field: String,
    /// The setting that reads it.
    pub setting: Cow<'static, str>,
    /// The line and column inside a setting that holds a script, both from 1.
    pub inside: Option<(usize, usize)>,
}

/// The fields that a node sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sends {
    /// Nobody can say. Then nothing is said about the nodes behind it either.
    #[default]
    Unknown,
    /// These, and no others.
    Only(BTreeSet<String>),
    /// Those that came in, and these.
    Also(BTreeSet<String>),
}

impl Fields {
    /// Of a node that passes on what comes in, and reads these.
    pub fn passing(reads: impl IntoIterator<Item = FieldRead>) -> Fields {
        Fields { reads: reads.into_iter().collect(), sends: Sends::Also(BTreeSet::new()) }
    }
}

/// What topics messages have behind a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Topics {
    /// Nobody can say.
    #[default]
    Unknown,
    /// Those with which they came.
    Kept,
    /// These, as a filter: `+` stands for a level in which something is filled in.
    Made(String),
    /// Those with which they came, but for how they begin. The first that fits counts.
    Moved(Vec<Moved>),
}

/// Topics that begin otherwise behind a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Which topics, as a filter.
    pub filter: String,
    /// What is taken away in front of them.
    pub strip: String,
    /// What is put there instead.
    pub add: String,
}

/// What a node hears from a broker, when it exchanges messages with one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Which broker it is, the same for every connection to it. None when there is but one connection.
    pub broker: Option<String>,
    /// The topic filters that it subscribes to, without groups. None for who only publishes.
    pub hears: Vec<String>,
    /// It also hears what is published on its own connection.
    pub hears_itself: bool,
}

/// The time that a node takes of its connection, over and over. See [`crate::Configured::load`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Which of the users it is, by its place in the list.
    pub user: usize,
    /// The setting that says how often, such as `every`.
    pub setting: Cow<'static, str>,
    /// Time from the beginning of one round to that of the next.
    pub every: Duration,
    /// What one round takes of the connection, at least.
    pub takes: Duration,
    /// How that comes about: `3 requests at 9600 baud`.
    pub why: String,
    /// A change to the settings by which a round takes less, and what it then takes.
    pub less: Option<(String, Duration)>,
}
