//! The rules of this folder.

use forebay_sdk::Rule;

/// A device is asked while it does not listen yet.
pub static ASKS_TOO_SOON: Rule =
    Rule::new("asks-too-soon", include_str!("../rules/asks-too-soon.md"));

/// An address looks like a number of the manual.
pub static ONE_BASED_ADDRESS: Rule =
    Rule::new("one-based-address", include_str!("../rules/one-based-address.md"));

/// Two values share registers.
pub static REGISTER_OVERLAP: Rule =
    Rule::new("register-overlap", include_str!("../rules/register-overlap.md"));
