//! What pipelines may use: the node types at hand, each with the settings that every node has.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use forebay_sdk::{Expansion, NodeType, Plugin, Role};
use serde_json::{Map, Value, json};

use super::{common, loader::Loader};
use crate::rules::Rules;

/// A node type and the whole of what its author may write.
pub struct NodeTypeEntry {
    /// The type itself.
    pub node_type: Arc<dyn NodeType>,
    /// The plugin that offers it.
    pub plugin: Arc<Plugin>,
}

impl NodeTypeEntry {
    /// JSON Schema of the node: its own settings and those that every node has. Made anew at each call: those of all
    /// types together are megabytes, at which nobody looks while a folder runs.
    pub fn schema(&self) -> Value {
        let node_type = &*self.node_type;
        let common = common_of(node_type.role(), node_type.name(), node_type.summary());
        let common =
            common.filter(|(key, _)| key != "connection" || !node_type.connections().is_empty());
        whole_schema(common.collect(), node_type.schema(), node_type.summary())
    }
}

/// Something that stands for several nodes, and the whole of what its author may write.
pub struct ExpansionEntry {
    /// What takes it apart.
    pub expansion: Arc<dyn Expansion>,
    /// The plugin that offers it.
    pub plugin: Arc<Plugin>,
}

impl ExpansionEntry {
    /// JSON Schema of one of them: its own settings and, for a type, those that every node has. Made anew at each call.
    pub fn schema(&self) -> Value {
        let expansion = &*self.expansion;
        let (name, summary) = (expansion.name(), expansion.summary());
        let common = expansion.role().into_iter().flat_map(|role| common_of(role, name, summary));
        // What its parts connect to is its own affair.
        let common = common.filter(|(key, _)| key != "connection");
        whole_schema(common.collect(), expansion.schema(), summary)
    }
}

/// The node types at hand: those of a build, or of a build and a folder.
#[derive(Clone)]
pub struct Types {
    nodes: BTreeMap<Role, BTreeMap<String, Arc<NodeTypeEntry>>>,
    expansions: BTreeMap<Option<Role>, BTreeMap<String, Arc<ExpansionEntry>>>,
    rules: Rules,
    loader: Option<Arc<dyn Loader>>,
}

impl Types {
    /// Gathers the types of plugins that are compiled in.
    pub fn new(plugins: Vec<Plugin>) -> Types {
        let none = Types {
            nodes: BTreeMap::new(),
            expansions: BTreeMap::new(),
            rules: Rules::with([]),
            loader: None,
        };
        none.with(plugins)
    }

    /// Looks for further plugins in each folder that is read.
    pub fn loading(self, loader: impl Loader + 'static) -> Types {
        Types { loader: Some(Arc::new(loader)), ..self }
    }

    /// What finds further plugins in a folder.
    pub(super) fn loader(&self) -> Option<Arc<dyn Loader>> {
        self.loader.clone()
    }

    /// These types and those of some more plugins. A name that is taken stays with who has it.
    pub(super) fn with(&self, plugins: Vec<Plugin>) -> Types {
        let mut types = self.clone();
        let of_plugins = plugins.iter().flat_map(|plugin| plugin.rules.iter().copied());
        types.rules = Rules::with(self.rules.iter().chain(of_plugins));
        plugins.into_iter().map(Arc::new).for_each(|plugin| types.add(&plugin));
        types
    }

    fn add(&mut self, plugin: &Arc<Plugin>) {
        for node_type in &plugin.types {
            let of_role = self.nodes.entry(node_type.role()).or_default();
            if of_role.get(node_type.name()).is_some_and(|there| !there.node_type.gives_way()) {
                continue;
            }
            let name = node_type.name().to_owned();
            let (node_type, plugin) = (Arc::clone(node_type), Arc::clone(plugin));
            of_role.insert(name, Arc::new(NodeTypeEntry { node_type, plugin }));
        }
        for expansion in &plugin.expansions {
            let of_role = self.expansions.entry(expansion.role()).or_default();
            of_role.entry(expansion.name().to_owned()).or_insert_with(|| {
                let (expansion, plugin) = (Arc::clone(expansion), Arc::clone(plugin));
                Arc::new(ExpansionEntry { expansion, plugin })
            });
        }
    }

    /// The type called `name` in the section of `role`.
    pub fn get(&self, role: Role, name: &str) -> Option<&Arc<NodeTypeEntry>> {
        self.nodes.get(&role)?.get(name)
    }

    /// What is called `name` in the section of `role` and stands for several nodes.
    pub fn expansion(&self, role: Role, name: &str) -> Option<&Arc<ExpansionEntry>> {
        self.expansions.get(&Some(role))?.get(name)
    }

    /// What has a section of this name of its own.
    pub fn section(&self, name: &str) -> Option<&Arc<ExpansionEntry>> {
        self.expansions.get(&None)?.get(name)
    }

    /// All types, by role and name.
    pub fn iter(&self) -> impl Iterator<Item = &NodeTypeEntry> {
        self.nodes.values().flat_map(BTreeMap::values).map(|entry| &**entry)
    }

    /// All that stands for several nodes: what has a section of its own, then the types.
    pub fn expansions(&self) -> impl Iterator<Item = &ExpansionEntry> {
        self.expansions.values().flat_map(BTreeMap::values).map(|entry| &**entry)
    }

    /// What can stand behind `type:` in the section of a role.
    pub fn names(&self, role: Role) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.get(&role).into_iter().flat_map(BTreeMap::keys);
        let several = self.expansions.get(&Some(role)).into_iter().flat_map(BTreeMap::keys);
        nodes.chain(several).map(String::as_str)
    }

    /// What can stand at the top of a pipeline file.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        let own = self.expansions.get(&None).into_iter().flat_map(BTreeMap::keys);
        let usual = [DESCRIPTION].into_iter().chain(Role::ALL.map(Role::section));
        usual.chain(own.map(String::as_str))
    }

    /// The names that no other plugin can have.
    pub(super) fn taken(&self) -> BTreeSet<(Option<Role>, String)> {
        let sections = self.sections().map(|name| (None, name.to_owned()));
        let stays =
            |role, name: &str| !self.get(role, name).is_some_and(|t| t.node_type.gives_way());
        let of_role = |role| {
            let names = self.names(role).filter(move |name| stays(role, name));
            names.map(move |name| (Some(role), name.to_owned()))
        };
        sections.chain(Role::ALL.into_iter().flat_map(of_role)).collect()
    }

    /// The rules that findings about these types can name.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// What a pipeline is for, at the top of its file.
pub const DESCRIPTION: &str = "description";

/// The settings that every node of a role has, in the words of one type.
fn common_of(role: Role, name: &str, summary: &str) -> impl Iterator<Item = (String, Value)> {
    let of_type = json!({ "const": name, "description": summary });
    common::settings(role).into_iter().map(move |(key, schema)| match key.as_str() {
        "type" => (key, of_type.clone()),
        _ => (key, schema),
    })
}

/// One schema of what every node has and of a type's own settings. What few pipelines need stands
/// last.
fn whole_schema(common: Map<String, Value>, mut schema: Value, summary: &str) -> Value {
    let is_in_front = |key: &String| common::IN_FRONT.contains(&key.as_str());
    // A type that can use a connection needs one.
    let is_needed = |key: &&str| common.contains_key(*key);
    let needed = ["type", "connection"].into_iter().filter(is_needed);
    let mut required: Vec<Value> = needed.map(Value::from).collect();
    let (mut properties, behind): (Map<_, _>, Map<_, _>) =
        common.into_iter().partition(|(key, _)| is_in_front(key));
    let object = schema.as_object_mut().expect("settings are a map");
    if let Some(Value::Object(own)) = object.remove("properties") {
        properties.extend(own);
    }
    properties.extend(behind);
    if let Some(Value::Array(own)) = object.remove("required") {
        required.extend(own);
    }
    object.remove("$schema");
    object.remove("title");
    object.insert("description".to_owned(), summary.into());
    object.insert("type".to_owned(), "object".into());
    object.insert("properties".to_owned(), properties.into());
    object.insert("required".to_owned(), required.into());
    // A type of which not all is known takes anything.
    object.entry("additionalProperties").or_insert(false.into());
    schema
}
