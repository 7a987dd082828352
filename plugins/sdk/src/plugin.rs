//! A plugin: the node types it offers, and what describes them.

use std::{borrow::Cow, marker::PhantomData, path::PathBuf, sync::Arc};

use forebay_yaml::{self as yaml, Finding, Rule, Span, Yaml};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    peer::Peer,
    settings::{Configured, Import, Problem, Settings},
    tool::Tool,
};

/// A plugin: one folder under `plugins/`. A native one has one entry in `src/plugins.rs`.
pub struct Plugin {
    /// The name of the folder.
    pub name: Cow<'static, str>,
    /// The node types and connection types it offers.
    pub types: Vec<Arc<dyn NodeType>>,
    /// What it lets users write for several nodes at once.
    pub expansions: Vec<Arc<dyn Expansion>>,
    /// The rules of its own, whose pages stand in its folder.
    pub rules: Vec<&'static Rule>,
    /// sample.yaml of the folder: a complete pipeline file.
    pub sample: Cow<'static, str>,
    /// Samples of types that it does not show, by their names.
    pub more_samples: Vec<(&'static str, &'static str)>,
    /// Devices that the plugin can play, for demonstrations and tests.
    pub devices: Vec<Device>,
    /// The other sides of connections that it can play in tests of pipelines.
    pub peers: Vec<Peer>,
    /// Verbs of the command line that it brings.
    pub tools: Vec<Tool>,
}

impl Plugin {
    /// A plugin that offers nothing yet. `sample` is a file of its folder.
    pub fn new(name: impl Into<Cow<'static, str>>, sample: impl Into<Cow<'static, str>>) -> Plugin {
        Plugin {
            name: name.into(),
            types: Vec::new(),
            expansions: Vec::new(),
            rules: Vec::new(),
            sample: sample.into(),
            more_samples: Vec::new(),
            devices: Vec::new(),
            peers: Vec::new(),
            tools: Vec::new(),
        }
    }

    /// Offers a node type.
    pub fn offers(mut self, node_type: impl NodeType + 'static) -> Plugin {
        self.types.push(Arc::new(node_type));
        self
    }

    /// Lets users write several nodes as one.
    pub fn expands(mut self, expansion: impl Expansion + 'static) -> Plugin {
        self.expansions.push(Arc::new(expansion));
        self
    }

    /// Brings rules of its own.
    pub fn rules(mut self, rules: &[&'static Rule]) -> Plugin {
        self.rules.extend(rules);
        self
    }

    /// Shows a type in a complete pipeline file of its own.
    pub fn sample(mut self, node_type: &'static str, text: &'static str) -> Plugin {
        self.more_samples.push((node_type, text));
        self
    }

    /// The pipeline file that shows a type.
    pub fn sample_of(&self, node_type: &str) -> &str {
        let more = self.more_samples.iter().find(|(name, _)| *name == node_type);
        more.map_or(&self.sample, |(_, text)| text)
    }

    /// Brings a verb of the command line.
    pub fn does(mut self, tool: Tool) -> Plugin {
        self.tools.push(tool);
        self
    }

    /// Can play the other side of a connection in tests of pipelines. Left out of a program without such tests.
    pub fn is_peer(mut self, peer: Peer) -> Plugin {
        if cfg!(feature = "played") {
            self.peers.push(peer);
        }
        self
    }

    /// Can play a device. Left out of a program that has no use for it.
    pub fn plays(mut self, device: Device) -> Plugin {
        if cfg!(feature = "played") {
            self.devices.push(device);
        }
        self
    }
}

/// The section of a pipeline file in which a type is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// What is known about a node type: compiled in, or loaded from a folder.
pub trait NodeType: Send + Sync {
    /// What users write after `type:`.
    fn name(&self) -> &str;
    /// The section it belongs to.
    fn role(&self) -> Role;
    /// One sentence.
    fn summary(&self) -> &str;
    /// The types of connection it can use. Empty when it uses none.
    fn connections(&self) -> &[Cow<'static, str>];
    /// JSON Schema of its settings, made anew at each call.
    fn schema(&self) -> Value;
    /// Changes when the type's own code does, so that its nodes are made anew. Always the same for
    /// what is compiled in.
    fn fingerprint(&self) -> u64 {
        0
    }
    /// Whether one of the same name, which a folder brings along, takes its place.
    fn gives_way(&self) -> bool {
        false
    }
    /// What a script among its settings imports.
    fn imports(&self, _script: &str) -> Vec<Import> {
        Vec::new()
    }
    /// Ready-made settings that a node can take in. None for most types.
    fn profiles(&self) -> Option<Profiles> {
        None
    }
    /// Reads settings from their map, without the keys that every node has. The map was checked
    /// against the schema; what only reading it shows is reported with its position, and then there
    /// are no settings.
    fn configure(&self, settings: &Yaml, findings: &mut Vec<Finding>) -> Resolved;
}

/// Ready-made settings that a node takes in by the name of one: `profile: sdm630`. A file `profiles/NAME.yaml`
/// of the user's goes before what is compiled in.
#[derive(Clone, Copy)]
pub struct Profiles {
    /// Those that are compiled in.
    pub native: &'static [Profile],
    /// JSON Schema of such a file.
    pub schema: fn() -> Value,
    /// Puts what a profile has into the settings of a node, before these are checked, so that what is
    /// wrong in a profile is shown at its place there. What keeps a profile from being taken in is
    /// among the findings then.
    pub take_in: TakeIn,
}

/// Puts a profile into settings.
pub type TakeIn = fn(Taken<'_>, &mut Yaml, &mut Vec<Finding>);

/// A profile that is compiled in.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// What users write after `profile:`.
    pub name: &'static str,
    /// A file of YAML, which begins with `summary: ` and one sentence.
    pub text: &'static str,
}

/// A profile that a node takes in.
pub struct Taken<'a> {
    /// What users call it.
    pub name: &'a str,
    /// Where the node names it.
    pub span: Span,
    /// What stands in it.
    pub profile: &'a Yaml,
}

impl Profile {
    /// One sentence.
    pub fn summary(&self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default();
        first.strip_prefix("summary:").unwrap_or_default().trim()
    }
}

/// What was understood of the settings of a node.
#[derive(Default)]
pub struct Resolved {
    /// None when nothing could run by them.
    pub configured: Option<Arc<dyn Configured>>,
    /// What is wrong, by setting.
    pub problems: Vec<Problem>,
}

/// Something that users write as one and that stands for several connections and nodes, such as a
/// bridge between two brokers. It is taken apart when files are read: what comes out is checked,
/// planned and run as if its author had written that.
pub trait Expansion: Send + Sync {
    /// What users write: the name of a section of its own, or what stands after `type:`.
    fn name(&self) -> &str;
    /// One of them, as users call it: "bridge".
    fn noun(&self) -> &str;
    /// The section in which it is a type. None when it has a section of its own.
    fn role(&self) -> Option<Role>;
    /// One sentence.
    fn summary(&self) -> &str;
    /// JSON Schema of one of them. A type also has the settings that every node of its role has,
    /// without `connection`. Made anew at each call.
    fn schema(&self) -> Value;
    /// The file beside which the scripts of its parts stand. None for that of the pipeline.
    fn beside(&self) -> Option<PathBuf> {
        None
    }
    /// The parts it stands for. The settings were checked against the schema; a type hands on those
    /// that every node has, such as `from` and `buffer`, to the parts that they concern. Spans in
    /// what comes out are those of the YAML that made it, so that findings point there.
    fn expand(&self, name: &str, settings: &Yaml, findings: &mut Vec<Finding>) -> Vec<Expanded>;
}

/// One part of what an [`Expansion`] stands for.
pub struct Expanded {
    /// Connection, source, transform or sink.
    pub role: Role,
    /// Names it among the parts, in letters, digits, `-` and `_`: the node becomes `NAME:PART`, which
    /// no user can write. Empty for the one that has the name itself, and that others read and use
    /// by it.
    pub part: String,
    /// All of its settings, as if written: with `type`, `from`, `connection`. Another part is named
    /// `:PART` there.
    pub settings: Yaml,
    /// The YAML that made it, such as one rule of a bridge.
    pub origin: Span,
}

/// A node type written in Rust, by its settings struct.
pub struct Native<S> {
    role: Role,
    name: &'static str,
    summary: &'static str,
    connections: Vec<Cow<'static, str>>,
    profiles: Option<Profiles>,
    settings: PhantomData<fn() -> S>,
}

impl<S: Settings> Native<S> {
    /// Declares a type.
    pub fn new(role: Role, name: &'static str, summary: &'static str) -> Native<S> {
        Native {
            role,
            name,
            summary,
            connections: Vec::new(),
            profiles: None,
            settings: PhantomData,
        }
    }

    /// Names the types of connection that the node can use; it then needs one.
    pub fn using(mut self, connections: &[&'static str]) -> Native<S> {
        self.connections = connections.iter().map(|name| Cow::Borrowed(*name)).collect();
        self
    }

    /// Lets the node take in a profile; its settings have a `profile`, then.
    pub fn taking(mut self, profiles: Profiles) -> Native<S> {
        self.profiles = Some(profiles);
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
    fn connections(&self) -> &[Cow<'static, str>] {
        &self.connections
    }
    fn schema(&self) -> Value {
        yaml::schema_of::<S>()
    }
    fn imports(&self, script: &str) -> Vec<Import> {
        S::imports(script)
    }
    fn profiles(&self) -> Option<Profiles> {
        self.profiles
    }

    fn configure(&self, settings: &Yaml, findings: &mut Vec<Finding>) -> Resolved {
        let subject = format!("{} {}", self.name, self.role.noun());
        let Some(settings) = yaml::decode::<S>(settings, &subject, findings) else {
            return Resolved::default();
        };
        let mut problems = Vec::new();
        let configured = settings.resolve(&mut problems);
        let configured = configured.map(|configured| Arc::new(configured) as Arc<dyn Configured>);
        Resolved { configured, problems }
    }
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
