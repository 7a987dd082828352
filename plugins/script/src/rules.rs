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

/// All of them.
pub(crate) static RULES: [&Rule; 5] =
    [&SCRIPT_SYNTAX, &UNDECLARED_OUTPUT, &UNKNOWN_FIELD, &UNKNOWN_FUNCTION, &UNKNOWN_VARIABLE];
