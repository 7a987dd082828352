//! `buffer:` and `batch:`: the queue in front of a node, and how a sink reads it.

use std::time::Duration;

use forebay_sdk::{Period, Problem, Rate, Size, SyncPolicy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The queue in front of a node, as the engine makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Where messages wait.
    pub store: Store,
    /// The most messages that wait in memory.
    pub max_messages: u32,
    /// The most memory, or room on disk, that waiting messages may take, in bytes.
    pub max_bytes: u64,
    /// How long a message may wait.
    pub max_age: Option<Duration>,
    /// What happens to a message that finds the buffer full.
    pub when_full: WhenFull,
    /// When what is on disk is safe from a power cut.
    pub sync: SyncPolicy,
    /// What goes first once the link is back.
    pub order: Order,
    /// The pace at which what waited for the link is sent: the time from one message to the next.
    pub drain_every: Option<Duration>,
    /// How old a message may be when it is sent.
    pub expires_after: Option<Duration>,
}

/// The queue in front of the sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BufferSettings {
    /// Where messages wait.
    pub store: Store,
    /// The most messages that wait in memory; 10000 when left out. Not for `store: disk`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_messages: Option<u32>,
    /// The most room that waiting messages may take: memory, `4MiB` when left out, or disk, at least
    /// `1MiB` and `16MiB` when left out.
    pub max_bytes: Option<Size>,
    /// How long a message may wait; what waits longer is dropped, and counted. On disk by whole
    /// files, an eighth of `max_bytes` each. No limit when left out.
    pub max_age: Option<Period>,
    /// What happens to a message that finds the buffer full.
    pub when_full: WhenFull,
    /// On disk: when a message is safe from a power cut, and its source hears that it is. `always`
    /// at once; a duration such as `250ms` (which it is when left out) collects what comes within it,
    /// which wears flash less; a source that cannot send again (a meter, a timer) then loses what came
    /// since. `never` leaves it to the system: a power cut can take the last half minute, though
    /// sources were told it is safe; a crash of the program takes nothing.
    pub sync: Option<SyncPolicy>,
    /// What goes first once the link is back.
    pub order: Order,
    /// How fast what waited for the link is sent, such as `50/s`. As fast as the link takes it when
    /// left out.
    pub drain_rate: Option<Rate>,
    /// A message whose `time` is longer ago is dropped instead of sent, and counted. Never when
    /// left out. How old a message is that came before the clock was set is known, also while it is
    /// not, until the router restarts.
    pub expires_after: Option<Period>,
}

/// The queue in front of the transform, in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// The most messages that wait.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_messages: u32,
    /// The most memory that waiting messages may take.
    pub max_bytes: Size,
    /// What happens to a message that finds the queue full.
    pub when_full: WhenFull,
}

/// Where messages wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// In memory. They are gone when the program ends; a source that can will send them again.
    #[default]
    Memory,
    /// On disk, in the data folder. They survive the end of the program and a power cut.
    Disk,
    /// In memory while the link is good, on disk from when it fails, or a message waits for more
    /// than 5 seconds, until it has caught up: flash wears less. What a meter or timer sent
    /// and was still in memory when the power went is lost.
    Spill,
}

/// What happens to a message that finds a buffer full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Whoever sends it waits; in the end the source does.
    #[default]
    Block,
    /// The message that waited longest is dropped for it, and counted. On disk, the oldest file,
    /// an eighth of `max_bytes`.
    DropOldest,
    /// It is dropped, and counted.
    DropNewest,
}

/// What goes first once the link is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// What came first.
    #[default]
    Fifo,
    /// What comes now; what waited goes in the gaps, oldest first.
    LiveFirst,
}

/// The least that `max_bytes` can be on disk.
pub const LEAST_DISK_BYTES: u64 = 1 << 20;
const DISK_BYTES: u64 = 16 << 20;
const MEMORY_BYTES: u64 = 4 << 20;
const MEMORY_MESSAGES: u32 = 10_000;
const SYNC: SyncPolicy = SyncPolicy::Every(Duration::from_millis(250));

impl Default for Buffer {
    fn default() -> Buffer {
        BufferSettings::default().into()
    }
}

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        QueueSettings {
            max_messages: MEMORY_MESSAGES,
            max_bytes: Size(MEMORY_BYTES),
            when_full: WhenFull::default(),
        }
    }
}

impl BufferSettings {
    /// What the types cannot say.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let on_disk = self.store != Store::Memory;
        if self.sync.is_some() && !on_disk {
            problems.push(Problem::new("sync", "`sync` has no effect in memory", ONLY_ON_DISK));
        }
        if self.max_messages.is_some() && self.store == Store::Disk {
            let label = "bound it by `max_bytes`";
            problems.push(Problem::new("max_messages", "`max_messages` is for memory", label));
        }
        if let Some(Size(bytes)) =
            self.max_bytes.filter(|size| on_disk && size.0 < LEAST_DISK_BYTES)
        {
            let label = format!("expected at least `1MiB`, found `{}`", Size(bytes));
            problems.push(Problem::new("max_bytes", "the buffer on disk is too small", label));
        }
        problems
    }
}

const ONLY_ON_DISK: &str = "only for `store: disk` and `store: spill`";

impl From<BufferSettings> for Buffer {
    fn from(settings: BufferSettings) -> Buffer {
        let usual_bytes = match settings.store {
            Store::Memory => MEMORY_BYTES,
            Store::Disk | Store::Spill => DISK_BYTES,
        };
        Buffer {
            store: settings.store,
            max_messages: settings.max_messages.unwrap_or(MEMORY_MESSAGES),
            max_bytes: settings.max_bytes.map_or(usual_bytes, |size| size.0),
            max_age: settings.max_age.map(|age| *age),
            when_full: settings.when_full,
            sync: settings.sync.unwrap_or(SYNC),
            order: settings.order,
            drain_every: settings.drain_rate.map(|rate| rate.0),
            expires_after: settings.expires_after.map(|age| *age),
        }
    }
}

impl From<QueueSettings> for Buffer {
    fn from(settings: QueueSettings) -> Buffer {
        Buffer {
            max_messages: settings.max_messages,
            max_bytes: settings.max_bytes.0,
            when_full: settings.when_full,
            ..Buffer::default()
        }
    }
}

/// How many messages a sink writes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The most messages in one write.
    pub max_messages: usize,
    /// How long a batch that is not full waits for more.
    pub max_wait: Duration,
}

/// How many messages the sink writes at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// The most messages in one write. When left out, what suits the node type.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_messages: Option<u32>,
    /// How long a batch that is not full waits for more messages. When left out, what suits the node type,
    /// which is not at all for most.
    pub max_wait: Option<Period>,
}
