//! What a pipeline can be made of: node types, and what stands for several nodes.

use forebay_sdk::{Plugin, Profile, Role};
use serde_json::Value;

use crate::config::Types;

/// Something that users can write.
pub struct Kind<'a> {
    /// What stands behind `type:`; without a role, the name of a section of its own.
    pub name: &'a str,
    /// One of them, as users call it.
    pub noun: &'a str,
    /// The section in which it is a type.
    pub role: Option<Role>,
    /// One sentence.
    pub summary: &'a str,
    /// JSON Schema of one of them.
    pub schema: Value,
    /// The plugin that offers it.
    pub plugin: &'a Plugin,
    /// The profiles that it can take in, as far as they are built in.
    pub profiles: &'static [Profile],
}

impl Kind<'_> {
    /// What to call it where others stand beside it: `mqtt source`.
    pub fn title(&self) -> String {
        match self.role {
            Some(_) => format!("{} {}", self.name, self.noun),
            None => self.noun.to_owned(),
        }
    }
}

/// All of them, node types first.
pub fn all(types: &Types) -> Vec<Kind<'_>> {
    let nodes = types.iter().map(|entry| {
        let node_type = &*entry.node_type;
        let role = node_type.role();
        let (name, noun, summary) = (node_type.name(), role.noun(), node_type.summary());
        let (schema, plugin) = (entry.schema(), &*entry.plugin);
        let profiles = node_type.profiles().map_or(&[][..], |profiles| profiles.native);
        Kind { name, noun, role: Some(role), summary, schema, plugin, profiles }
    });
    let several = types.expansions().map(|entry| {
        let several = &*entry.expansion;
        let (name, noun, summary) = (several.name(), several.noun(), several.summary());
        let (schema, plugin) = (entry.schema(), &*entry.plugin);
        Kind { name, noun, role: several.role(), summary, schema, plugin, profiles: &[] }
    });
    nodes.chain(several).collect()
}
