//! The rules of this folder.

use forebay_sdk::Rule;

/// The embedded broker lets anybody on the network in.
pub static OPEN_BROKER: Rule = Rule::new("open-broker", include_str!("../rules/open-broker.md"));

/// Devices send their passwords over a network where others can read them.
pub static PASSWORDS_IN_THE_CLEAR: Rule =
    Rule::new("passwords-in-the-clear", include_str!("../rules/passwords-in-the-clear.md"));
