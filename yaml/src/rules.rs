//! What can be wrong with YAML, and with settings by their schema.

use crate::rule::Rule;

/// A setting is called by an old name.
pub static DEPRECATED_NAME: Rule =
    Rule::new("deprecated-name", include_str!("../rules/deprecated-name.md"));
/// A key stands twice in a map.
pub static DUPLICATE_KEY: Rule =
    Rule::new("duplicate-key", include_str!("../rules/duplicate-key.md"));
/// A setting is there without a value.
pub static EMPTY_SETTING: Rule =
    Rule::new("empty-setting", include_str!("../rules/empty-setting.md"));
/// A setting is missing that the node cannot do without.
pub static MISSING_SETTING: Rule =
    Rule::new("missing-setting", include_str!("../rules/missing-setting.md"));
/// A setting has a value of another type.
pub static SETTING_TYPE: Rule = Rule::new("setting-type", include_str!("../rules/setting-type.md"));
/// There is no such setting.
pub static UNKNOWN_SETTING: Rule =
    Rule::new("unknown-setting", include_str!("../rules/unknown-setting.md"));
/// A file is not YAML.
pub static YAML_SYNTAX: Rule = Rule::new("yaml-syntax", include_str!("../rules/yaml-syntax.md"));
/// A file is larger or deeper than any that people write.
pub static YAML_TOO_BIG: Rule = Rule::new("yaml-too-big", include_str!("../rules/yaml-too-big.md"));
