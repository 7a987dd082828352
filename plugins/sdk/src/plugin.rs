//! A plugin: the node types it offers, and what describes them.

use std::{
    marker::PhantomData,
    sync::{Arc, OnceLock},
};

use futures_util::future::BoxFuture;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use crate::{
    finding::Finding,
    settings::{Configured, Settings},
    yaml::{self, Yaml},
};

/// A native plugin: one folder under `plugins/`, one entry in `src/plugins.rs`.
pub struct Plugin {
    /// The name of the folder.
    pub name: &'static str,
    /// The node types and connection types it offers.
    pub types: &'static [&'static dyn NodeType],
    /// README.md of the folder.
    pub readme: &'static str,
    /// sample.yaml of the folder: a complete pipeline file.
    pub sample: &'static str,
    /// Devices that the plugin can play, for demonstrations and tests.
    pub devices: &'static [Device],
}

/// The section of a pipeline file in which a type is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Something that nodes share.
    Connection,
    /// Brings messages in.
    Source,
    /// Turns messages into others.
    Transform,
    /// Takes messages out.
    Sink,
}

impl Role {
    /// All roles, in the order in which data flows.
    pub const ALL: [Role; 4] = [Role::Connection, Role::Source, Role::Transform, Role::Sink];

    /// One such thing, as users call it.
    pub fn noun(self) -> &'static str {
        match self {
            Role::Connection => "connection",
            Role::Source => "source",
            Role::Transform => "transform",
            Role::Sink => "sink",
        }
    }

    /// The section of a pipeline file.
    pub fn section(self) -> &'static str {
        match self {
            Role::Connection => "connections",
            Role::Source => "sources",
            Role::Transform => "transforms",
            Role::Sink => "sinks",
        }
    }
}

/// What is known about a node type: compiled in, or loaded from a script plugin.
pub trait NodeType: Send + Sync {
    /// What users write after `type:`.
    fn name(&self) -> &str;
    /// The section it belongs to.
    fn role(&self) -> Role;
    /// One sentence.
    fn summary(&self) -> &str;
    /// The types of connection it can use. Empty when it uses none.
    fn connections(&self) -> &[&'static str];
    /// JSON Schema of its settings.
    fn schema(&self) -> &Value;
    /// Reads settings from their map, without the keys that every node has. The map was checked
    /// against the schema; what only reading it shows is reported with its position, and then there
    /// are no settings.
    fn configure(
        &self,
        settings: &Yaml,
        findings: &mut Vec<Finding>,
    ) -> Option<Arc<dyn Configured>>;
}

/// A node type written in Rust, by its settings struct.
pub struct Native<S> {
    role: Role,
    name: &'static str,
    summary: &'static str,
    connections: &'static [&'static str],
    schema: OnceLock<Value>,
    settings: PhantomData<fn() -> S>,
}

impl<S: Settings> Native<S> {
    /// Declares a type; put it in a `static`.
    pub const fn new(role: Role, name: &'static str, summary: &'static str) -> Native<S> {
        Native {
            role,
            name,
            summary,
            connections: &[],
            schema: OnceLock::new(),
            settings: PhantomData,
        }
    }

    /// Names the types of connection that the node can use; it then needs one.
    pub const fn using(mut self, connections: &'static [&'static str]) -> Native<S> {
        self.connections = connections;
        self
    }
}

impl<S: Settings> NodeType for Native<S> {
    fn name(&self) -> &str {
        self.name
    }
    fn role(&self) -> Role {
        self.role
    }
    fn summary(&self) -> &str {
        self.summary
    }
    fn connections(&self) -> &[&'static str] {
        self.connections
    }
    fn schema(&self) -> &Value {
        self.schema.get_or_init(schema_of::<S>)
    }

    fn configure(
        &self,
        settings: &Yaml,
        findings: &mut Vec<Finding>,
    ) -> Option<Arc<dyn Configured>> {
        let subject = format!("{} {}", self.name, self.role.noun());
        let settings: S = yaml::decode(settings, &subject, findings)?;
        Some(Arc::new(settings))
    }
}

/// The JSON Schema of a settings struct, in one piece: without references to definitions.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(schema) = schema.as_object_mut() {
        // The name of a Rust type says nothing to users.
        schema.remove("title");
    }
    schema
}

/// A device that a plugin can play.
pub struct Device {
    /// What it is called, such as `sdm630`.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Starts it on a free port of the loopback interface.
    pub start: fn() -> BoxFuture<'static, anyhow::Result<RunningDevice>>,
}

/// A device that runs as long as `serve` is polled.
pub struct RunningDevice {
    /// Where it answers, as a connection's `url`.
    pub url: String,
    /// Serves until dropped.
    pub serve: BoxFuture<'static, ()>,
}
