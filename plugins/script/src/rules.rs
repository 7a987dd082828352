//! The rules that scripts can break.

use forebay_sdk::Rule;

/// A script cannot be compiled.
pub(crate) static SCRIPT_SYNTAX: Rule =
    Rule::new("script-syntax", include_str!("../rules/script-syntax.md"));
/// A script sends to an output that the node does not declare.
pub(crate) static UNDECLARED_OUTPUT: Rule =
    Rule::new("undeclared-output", include_str!("../rules/undeclared-output.md"));
/// A script asks a message for a field that no message has.
pub(crate) static UNKNOWN_FIELD: Rule =
    Rule::new("unknown-field", include_str!("../rules/unknown-field.md"));
/// A script calls a function that is not there.
pub(crate) static UNKNOWN_FUNCTION: Rule =
    Rule::new("unknown-function", include_str!("../rules/unknown-function.md"));
/// A script uses a variable that is not there.
pub(crate) static UNKNOWN_VARIABLE: Rule =
    Rule::new("unknown-variable", include_str!("../rules/unknown-variable.md"));

/// A script uses what a function gives that gives nothing.
pub(crate) static CHANGED_IN_PLACE: Rule =
    Rule::new("changed-in-place", include_str!("../rules/changed-in-place.md"));
/// A script has no way to send anything.
pub(crate) static SENDS_NOTHING: Rule =
    Rule::new("sends-nothing", include_str!("../rules/sends-nothing.md"));
/// A script puts what is no map in the place of `state`.
pub(crate) static STATE_REPLACED: Rule =
    Rule::new("state-replaced", include_str!("../rules/state-replaced.md"));
/// A comment takes the rest of a script.
pub(crate) static SWALLOWED_SCRIPT: Rule =
    Rule::new("swallowed-script", include_str!("../rules/swallowed-script.md"));
/// A script divides whole numbers by each other.
pub(crate) static WHOLE_DIVISION: Rule =
    Rule::new("whole-division", include_str!("../rules/whole-division.md"));

/// A script changes a constant.
pub(crate) static CHANGED_CONSTANT: Rule =
    Rule::new("changed-constant", include_str!("../rules/changed-constant.md"));
/// A script reads a setting that its node does not have.
pub(crate) static MISSING_SCRIPT_SETTING: Rule =
    Rule::new("missing-script-setting", include_str!("../rules/missing-script-setting.md"));
/// A node has a setting that its script does not read.
pub(crate) static UNREAD_SCRIPT_SETTING: Rule =
    Rule::new("unread-script-setting", include_str!("../rules/unread-script-setting.md"));

/// All of them.
pub(crate) static RULES: [&Rule; 13] = [
    &CHANGED_CONSTANT,
    &CHANGED_IN_PLACE,
    &MISSING_SCRIPT_SETTING,
    &SCRIPT_SYNTAX,
    &SENDS_NOTHING,
    &STATE_REPLACED,
    &SWALLOWED_SCRIPT,
    &UNDECLARED_OUTPUT,
    &UNKNOWN_FIELD,
    &UNKNOWN_FUNCTION,
    &UNKNOWN_VARIABLE,
    &UNREAD_SCRIPT_SETTING,
    &WHOLE_DIVISION,
];
