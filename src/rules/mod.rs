//! The rules that are found in pipelines as a whole, each beside its page, and the set of all rules.
//!
//! A rule's page is its explanation, its documentation and its test in one. Those about YAML and
//! settings are declared by the contract, those about one kind of node by its plugin.

use forebay_sdk::{Rule, finding::nearest, rules::RULES as CONTRACT};

/// All rules that a finding can name: those of the contract, of the core and of some plugins.
#[derive(Clone)]
pub struct Rules(Vec<&'static Rule>);

impl Rules {
    /// The set with the rules of these plugins in it.
    pub fn with(plugins: impl IntoIterator<Item = &'static Rule>) -> Rules {
        let mut rules: Vec<&Rule> = CONTRACT.into_iter().chain(CORE).chain(plugins).collect();
        rules.sort();
        rules.dedup();
        Rules(rules)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &'static Rule> {
        self.0.iter().copied()
    }

    /// The rule of that name.
    pub fn find(&self, name: &str) -> Option<&'static Rule> {
        self.iter().find(|rule| rule.name == name)
    }

    /// The rule that was probably meant.
    pub fn near(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.iter().map(|rule| rule.name))
    }
}

/// A rule is switched off in a way that does not work.
pub static BAD_ALLOW: Rule = Rule::new("bad-allow", include_str!("bad-allow.md"));
/// A script imports what is no module of its folder.
pub static BAD_IMPORT: Rule = Rule::new("bad-import", include_str!("bad-import.md"));
/// A name has characters that names do not have.
pub static BAD_NAME: Rule = Rule::new("bad-name", include_str!("bad-name.md"));
/// Two nodes or connections claim what only one can hold.
pub static CLAIMED_TWICE: Rule = Rule::new("claimed-twice", include_str!("claimed-twice.md"));
/// Two connections lead to one device.
pub static CONNECTED_TWICE: Rule = Rule::new("connected-twice", include_str!("connected-twice.md"));
/// A node reads, by way of others, what it sends.
pub static CYCLE: Rule = Rule::new("cycle", include_str!("cycle.md"));
/// A buffer on the way to a sink that must deliver drops messages when it is full.
pub static DROPS_WHEN_FULL: Rule = Rule::new("drops-when-full", include_str!("drops-when-full.md"));
/// Two connections have the same name.
pub static DUPLICATE_CONNECTION: Rule =
    Rule::new("duplicate-connection", include_str!("duplicate-connection.md"));
/// Two nodes of a pipeline have the same name.
pub static DUPLICATE_NODE: Rule = Rule::new("duplicate-node", include_str!("duplicate-node.md"));
/// Two files have the same name but for their ending.
pub static DUPLICATE_PIPELINE: Rule =
    Rule::new("duplicate-pipeline", include_str!("duplicate-pipeline.md"));
/// A pipeline file has no node and no connection.
pub static EMPTY_PIPELINE: Rule = Rule::new("empty-pipeline", include_str!("empty-pipeline.md"));
/// A file looks like a pipeline and is not read.
pub static IGNORED_FILE: Rule = Rule::new("ignored-file", include_str!("ignored-file.md"));
/// A source that cannot send again feeds, without a disk between, a sink that must deliver.
pub static LOST_ON_RESTART: Rule = Rule::new("lost-on-restart", include_str!("lost-on-restart.md"));
/// A sink publishes what a source that leads to it subscribes to, on the same broker.
pub static MESSAGE_LOOP: Rule = Rule::new("message-loop", include_str!("message-loop.md"));
/// A sink sends what waited no faster than its sources go on to send.
pub static NEVER_CATCHES_UP: Rule =
    Rule::new("never-catches-up", include_str!("never-catches-up.md"));
/// Nothing can come out of what a node reads.
pub static NEVER_RECEIVES: Rule = Rule::new("never-receives", include_str!("never-receives.md"));
/// A transform or sink does not say what it reads.
pub static NO_INPUT: Rule = Rule::new("no-input", include_str!("no-input.md"));
/// Whoever reaches an address could ask the program how it is.
pub static OPEN_API: Rule = Rule::new("open-api", include_str!("open-api.md"));
/// A password, token or key stands in the file.
pub static PLAIN_SECRET: Rule = Rule::new("plain-secret", include_str!("plain-secret.md"));
/// The nodes on a connection ask for more time than it has, or for nearly all of it.
pub static POLLS_TOO_FAST: Rule = Rule::new("polls-too-fast", include_str!("polls-too-fast.md"));
/// The file of a script cannot be read.
pub static SCRIPT_MISSING: Rule = Rule::new("script-missing", include_str!("script-missing.md"));
/// A sink that nobody answers has a buffer on disk, or must deliver.
pub static UNCONFIRMED_WRITE: Rule =
    Rule::new("unconfirmed-write", include_str!("unconfirmed-write.md"));
/// A node publishes on the connection of a bridge what the bridge asks for, and the bridge does not get it.
pub static UNBRIDGED_TOPIC: Rule = Rule::new("unbridged-topic", include_str!("unbridged-topic.md"));
/// A node names a connection that is not there, or does not fit.
pub static UNKNOWN_CONNECTION: Rule =
    Rule::new("unknown-connection", include_str!("unknown-connection.md"));
/// `from:` names a node that is not in this pipeline.
pub static UNKNOWN_NODE: Rule = Rule::new("unknown-node", include_str!("unknown-node.md"));
/// `from:` names an output that the node does not have.
pub static UNKNOWN_OUTPUT: Rule = Rule::new("unknown-output", include_str!("unknown-output.md"));
/// There is no profile of that name, or its file cannot be read.
pub static UNKNOWN_PROFILE: Rule = Rule::new("unknown-profile", include_str!("unknown-profile.md"));
/// A comment or `forebay.yaml` names a rule that is not there.
pub static UNKNOWN_RULE: Rule = Rule::new("unknown-rule", include_str!("unknown-rule.md"));
/// A pipeline file has a section that does not exist.
pub static UNKNOWN_SECTION: Rule = Rule::new("unknown-section", include_str!("unknown-section.md"));
/// There is no node type of that name in this section.
pub static UNKNOWN_TYPE: Rule = Rule::new("unknown-type", include_str!("unknown-type.md"));
/// A script reads a field of the payload that no node upstream gives.
pub static UNPRODUCED_FIELD: Rule =
    Rule::new("unproduced-field", include_str!("unproduced-field.md"));
/// Nobody reads the errors of a sink that must deliver.
pub static UNREAD_ERRORS: Rule = Rule::new("unread-errors", include_str!("unread-errors.md"));
/// Nobody reads a source or transform.
pub static UNREAD_NODE: Rule = Rule::new("unread-node", include_str!("unread-node.md"));
/// Nobody reads an output of a node.
pub static UNREAD_OUTPUT: Rule = Rule::new("unread-output", include_str!("unread-output.md"));
/// A file with the name of a pipeline cannot be read.
pub static UNREADABLE_FILE: Rule = Rule::new("unreadable-file", include_str!("unreadable-file.md"));
/// A variable has no value.
pub static UNSET_VARIABLE: Rule = Rule::new("unset-variable", include_str!("unset-variable.md"));
/// No node uses a connection.
pub static UNUSED_CONNECTION: Rule =
    Rule::new("unused-connection", include_str!("unused-connection.md"));
/// A comment allows what is not there.
pub static USELESS_ALLOW: Rule = Rule::new("useless-allow", include_str!("useless-allow.md"));

/// Those above.
static CORE: [&Rule; 38] = [
    &BAD_ALLOW,
    &BAD_IMPORT,
    &BAD_NAME,
    &CLAIMED_TWICE,
    &CONNECTED_TWICE,
    &CYCLE,
    &DROPS_WHEN_FULL,
    &DUPLICATE_CONNECTION,
    &DUPLICATE_NODE,
    &DUPLICATE_PIPELINE,
    &EMPTY_PIPELINE,
    &IGNORED_FILE,
    &LOST_ON_RESTART,
    &MESSAGE_LOOP,
    &NEVER_CATCHES_UP,
    &NEVER_RECEIVES,
    &NO_INPUT,
    &OPEN_API,
    &PLAIN_SECRET,
    &POLLS_TOO_FAST,
    &SCRIPT_MISSING,
    &UNCONFIRMED_WRITE,
    &UNBRIDGED_TOPIC,
    &UNKNOWN_CONNECTION,
    &UNKNOWN_NODE,
    &UNKNOWN_OUTPUT,
    &UNKNOWN_PROFILE,
    &UNKNOWN_RULE,
    &UNKNOWN_SECTION,
    &UNKNOWN_TYPE,
    &UNPRODUCED_FIELD,
    &UNREAD_ERRORS,
    &UNREAD_NODE,
    &UNREAD_OUTPUT,
    &UNREADABLE_FILE,
    &UNSET_VARIABLE,
    &UNUSED_CONNECTION,
    &USELESS_ALLOW,
];

#[cfg(test)]
mod tests {
    use forebay_sdk::Level;

    use super::*;

    #[test]
    fn rules_are_found_by_name() {
        let rules = Rules::with([]);
        assert_eq!(rules.find("cycle").map(Rule::level), Some(Level::Error));
        assert_eq!(rules.find("unread-node").map(Rule::level), Some(Level::Warning));
        assert!(rules.find("no-such-rule").is_none());
        assert_eq!(rules.near("unread-nod"), Some("unread-node"));
    }

    #[test]
    fn a_plugin_brings_rules_of_its_own() {
        static DRY: Rule = Rule::new("pump-runs-dry", "# pump-runs-dry\n\nLevel: warning\n");
        let rules = Rules::with([&DRY, &CYCLE]);
        assert_eq!(rules.find("pump-runs-dry"), Some(&DRY));
        assert_eq!(rules.iter().filter(|rule| *rule == &CYCLE).count(), 1);
    }
}
