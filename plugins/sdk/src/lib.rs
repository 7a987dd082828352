//! The contract between Forebay's engine and a plugin: all that a native plugin imports from us.
//!
//! A plugin has one settings struct for each node type it offers ([`Settings`]). It is read once,
//! into what runs ([`Configured`]), and that makes the node: a [`Source`], [`Transform`], [`Sink`] or
//! [`Connection`]. Retries, back-off, queues, batches, acknowledgement, time-outs and shutdown live in
//! the engine; a node has none of them. It opens nothing by itself: the [`World`] does.
//!
//! A plugin's folder holds `Cargo.toml`, `README.md`, `sample.yaml`, `src/` and, when it has rules of
//! its own, `rules/` with a page for each. In `src/`, `lib.rs` has `pub fn plugin()`, the list of what
//! it offers; `settings.rs` all that users write, named `…Settings`; `source.rs`, `transform.rs`,
//! `sink.rs` and `connection.rs` what runs. Settings name what runs, never the reverse. In the README
//! the table of a type's settings stands between `<!-- settings: mqtt source -->` and
//! `<!-- /settings -->`; the test suite keeps it true (`UPDATE=1` rewrites it).

pub mod beat;
pub mod beside;
pub mod claim;
pub mod clock;
pub mod coding;
pub mod connection;
pub mod coverage;
pub mod deadband;
pub mod delivery;
pub mod drop_in;
pub mod emitter;
pub mod endpoint;
pub mod envelope;
mod evidence;
pub mod examination;
pub mod expression;
pub mod facts;
pub mod fault;
pub mod held;
#[cfg(feature = "http")]
pub mod http;
pub mod json;
pub mod kept;
pub mod line;
pub mod link;
pub mod mark;
pub mod message;
pub mod mqtt;
pub mod node;
pub mod number;
pub mod orders;
pub mod outlet;
pub mod own_time;
pub mod panel;
#[cfg(feature = "passwords")]
pub mod password;
pub mod path;
pub mod payload;
pub mod peer;
pub mod plugin;
mod progress;
pub mod rules;
pub mod series;
pub mod settings;
pub mod short;
pub mod site;
mod small_file;
pub mod template;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;
pub mod timestamp;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tls")]
mod tls_examination;
#[cfg(feature = "tls")]
mod tls_fingerprint;
#[cfg(feature = "tls")]
mod tls_pin;
#[cfg(feature = "tls")]
mod tls_server;
pub mod tool;
pub mod topic;
pub mod voice;
pub mod web;
#[cfg(feature = "websocket")]
pub mod websocket;
pub mod world;
pub mod yaml;
#[cfg(feature = "zones")]
pub mod zone;

// What stands in YAML, and what is found wrong with it, is a crate of its own.
pub use forebay_yaml::{
    Edit, Finding, Level, ModuleSource, Rule, Span, finding, schema_of,
    units::{self, Period, Rate, Script, Secret, Size, SyncPolicy},
};

#[cfg(feature = "zones")]
pub use crate::zone::Zone;
pub use crate::{
    beat::Beat,
    beside::beside,
    claim::{Claim, Holding},
    clock::{Moment, Now},
    coding::{Coding, Compression, GzipStream},
    connection::{Connection, Shared},
    coverage::{Coverage, Reachable, Spot},
    deadband::{Deadband, DeadbandSettings, Sending, Sent},
    delivery::{Delivery, Outcome, Receipt, Witness},
    drop_in::{Compiled, Language, ScriptLimits, ScriptSource},
    emitter::Emitter,
    endpoint::{Endpoint, NoEndpoint},
    envelope::{Envelope, Port},
    examination::{Examination, Step},
    expression::{Expression, Gives},
    facts::{Busy, Exchange, FieldRead, Fields, Sends, Topics},
    fault::{At, Fault},
    held::{Held, Saved},
    kept::Kept,
    link::{Link, LinkView, Links},
    mark::Mark,
    message::{Message, Meta},
    node::{Input, Node, Sink, Source, Transform, WriteError, Written},
    outlet::Outlet,
    own_time::{OwnTime, TimeForm},
    path::Path,
    payload::{DecodeError, Format, Payload, Value},
    peer::Peer,
    plugin::{
        Device, Expanded, Expansion, Native, NodeType, Plugin, Profile, Profiles, Resolved, Role,
        RunningDevice, TakeIn, Taken,
    },
    progress::Progress,
    series::{By, Due, Series},
    settings::{Capabilities, Configured, Import, Inventory, Problem, Settings},
    short::ShortOr,
    site::Site,
    small_file::{read_json, replace_file, replace_file_by, replace_json},
    template::Template,
    timestamp::Timestamp,
    tool::Tool,
    topic::Filter,
    voice::{Figure, Voice},
    world::World,
};
