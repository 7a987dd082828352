//! The rules of the contract itself: of YAML, of settings, and those that any node type may use.

use forebay_yaml::Rule;
pub use forebay_yaml::rules::{
    DEPRECATED_NAME, DUPLICATE_KEY, EMPTY_SETTING, MISSING_SETTING, SETTING_TYPE, UNKNOWN_SETTING,
    YAML_SYNTAX, YAML_TOO_BIG,
};

/// A certificate or a key with which nobody can connect.
pub static BAD_CERTIFICATE: Rule =
    Rule::new("bad-certificate", include_str!("../rules/bad-certificate.md"));
/// A text is no topic to publish to, or no topic filter to subscribe to.
pub static BAD_TOPIC: Rule = Rule::new("bad-topic", include_str!("../rules/bad-topic.md"));
/// A certificate whose time is over.
pub static EXPIRED_CERTIFICATE: Rule =
    Rule::new("expired-certificate", include_str!("../rules/expired-certificate.md"));
/// A setting has a value that it cannot have.
pub static SETTING_VALUE: Rule =
    Rule::new("setting-value", include_str!("../rules/setting-value.md"));
/// What goes over a public network could be read on the way.
pub static UNENCRYPTED: Rule = Rule::new("unencrypted", include_str!("../rules/unencrypted.md"));

/// All of them.
pub static RULES: [&Rule; 13] = [
    &BAD_CERTIFICATE,
    &BAD_TOPIC,
    &DEPRECATED_NAME,
    &DUPLICATE_KEY,
    &EMPTY_SETTING,
    &EXPIRED_CERTIFICATE,
    &MISSING_SETTING,
    &SETTING_TYPE,
    &SETTING_VALUE,
    &UNENCRYPTED,
    &UNKNOWN_SETTING,
    &YAML_SYNTAX,
    &YAML_TOO_BIG,
];
