//! The node types that pipelines may use, each with the settings that every node has.

use std::collections::BTreeMap;

use forebay_sdk::{NodeType, Plugin, Role, schema_of};
use serde_json::{Map, Value, json};

use super::buffer::{BatchSettings, BufferSettings, QueueSettings};

/// A node type and the whole of what its author may write.
pub struct NodeTypeEntry {
    /// The type itself.
    pub node_type: &'static dyn NodeType,
    /// The plugin that offers it.
    pub plugin: &'static Plugin,
    /// JSON Schema of the node: its own settings and those that every node has.
    pub schema: Value,
}

/// All node types of a build.
pub struct Types {
    entries: BTreeMap<(Role, &'static str), NodeTypeEntry>,
}

/// The settings that the engine takes before a node sees its own.
pub const COMMON: [&str; 6] = ["type", "connection", "from", "buffer", "batch", "must_deliver"];

impl Types {
    /// Gathers the types of all plugins.
    pub fn new(plugins: &[&'static Plugin]) -> Types {
        let all = plugins.iter().flat_map(|plugin| plugin.types.iter().map(|t| (*plugin, *t)));
        let entry = |(plugin, node_type): (&'static Plugin, &'static dyn NodeType)| {
            let schema = whole_schema(node_type);
            ((node_type.role(), node_type.name()), NodeTypeEntry { node_type, plugin, schema })
        };
        Types { entries: all.map(entry).collect() }
    }

    /// The type called `name` in the section of `role`.
    pub fn get(&self, role: Role, name: &str) -> Option<&NodeTypeEntry> {
        self.entries.iter().find(|(key, _)| **key == (role, name)).map(|(_, entry)| entry)
    }

    /// All types, by role and name.
    pub fn iter(&self) -> impl Iterator<Item = &NodeTypeEntry> {
        self.entries.values()
    }

    /// The names of all types of a role.
    pub fn names(&self, role: Role) -> impl Iterator<Item = &'static str> {
        self.entries.keys().filter(move |(of, _)| *of == role).map(|(_, name)| *name)
    }
}

fn whole_schema(node_type: &dyn NodeType) -> Value {
    let mut properties = Map::new();
    let mut required = vec![json!("type")];
    properties.insert(
        "type".to_owned(),
        json!({ "const": node_type.name(), "description": node_type.summary() }),
    );
    if !node_type.connections().is_empty() {
        let description =
            "The connection to use: the name of a shared one, or the settings of one of its own.";
        let either = json!([{ "type": "string" }, { "type": "object" }]);
        properties.insert(
            "connection".to_owned(),
            json!({ "description": description, "anyOf": either }),
        );
        required.push(json!("connection"));
    }
    if matches!(node_type.role(), Role::Transform | Role::Sink) {
        let description = "The node to read, or a list of nodes; `node.output` reads a named output, `node.errors` what a node could not handle.";
        let either = json!([{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }]);
        properties
            .insert("from".to_owned(), json!({ "description": description, "anyOf": either }));
    }
    let mut schema = node_type.schema().clone();
    let object = schema.as_object_mut().expect("settings are a struct");
    if let Some(Value::Object(own)) = object.remove("properties") {
        properties.extend(own);
    }
    // Last, because few pipelines need them.
    if node_type.role() == Role::Transform {
        properties.insert("buffer".to_owned(), schema_of::<QueueSettings>());
    }
    if node_type.role() == Role::Sink {
        properties.insert("buffer".to_owned(), schema_of::<BufferSettings>());
        properties.insert("batch".to_owned(), schema_of::<BatchSettings>());
        let description = "Says that no message may be lost on the way to this sink. Lint then refuses what would lose one.";
        properties.insert(
            "must_deliver".to_owned(),
            json!({ "description": description, "type": "boolean", "default": false }),
        );
    }
    if let Some(Value::Array(own)) = object.remove("required") {
        required.extend(own);
    }
    object.remove("$schema");
    object.remove("title");
    object.insert("description".to_owned(), node_type.summary().into());
    object.insert("type".to_owned(), "object".into());
    object.insert("properties".to_owned(), properties.into());
    object.insert("required".to_owned(), required.into());
    object.insert("additionalProperties".to_owned(), false.into());
    schema
}
