//! The contract between Forebay's engine and a plugin: all that a native plugin imports from us.
//!
//! A plugin has one settings struct for each node type it offers ([`Settings`]) and one trait to
//! implement for each node ([`Source`], [`Transform`], [`Sink`], [`Connection`]). Retries,
//! back-off, queues, batches, acknowledgement and shutdown live in the engine; a node has none of
//! them.
//!
//! A plugin's folder holds `Cargo.toml`, `README.md`, `sample.yaml` and `src/`. Its `lib.rs` has one
//! `pub static PLUGIN: Plugin`, and one `static` [`Native`] for each type. In the README the table
//! of a type's settings stands between `<!-- settings: mqtt source -->` and `<!-- /settings -->`;
//! the test suite keeps it true (`UPDATE=1` rewrites it).

pub mod claim;
pub mod connection;
pub mod delivery;
pub mod endpoint;
pub mod facts;
pub mod finding;
pub mod json;
pub mod message;
pub mod node;
pub mod number;
pub mod outlet;
pub mod payload;
pub mod plugin;
pub mod settings;
pub mod tally;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
pub mod tls;
pub mod units;
pub mod yaml;

pub use crate::{
    claim::{Claim, Held},
    connection::{Connection, PubSub, Shared, Subscription},
    delivery::{Delivery, Outcome, Receipt},
    endpoint::{Endpoint, NoEndpoint},
    facts::{Busy, FieldRead, Fields, Sends},
    finding::{Edit, Finding, Level, Span},
    message::{Message, Meta, Timestamp},
    node::{Emitter, Node, Port, Sink, Source, Transform, WriteError},
    outlet::{Envelope, Outlet},
    payload::{DecodeError, Format, Payload, Value},
    plugin::{Device, Native, NodeType, Plugin, Role, RunningDevice, schema_of},
    settings::{Capabilities, Configured, Links, Memory, Problem, Settings},
    tally::Tally,
    units::{Period, Rate, Script, Secret, Size, SyncPolicy},
};
