//! The rules of this folder.

use forebay_sdk::Rule;

/// The embedded broker lets anybody on the network in.
pub static OPEN_BROKER: Rule = Rule::new("open-broker", include_str!("../rules/open-broker.md"));
