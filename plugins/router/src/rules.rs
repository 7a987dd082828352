//! The rules of this folder.

use forebay_sdk::Rule;

/// Nothing shows that a router is that one.
pub static UNKNOWN_CERTIFICATE: Rule =
    Rule::new("unknown-certificate", include_str!("../rules/unknown-certificate.md"));
