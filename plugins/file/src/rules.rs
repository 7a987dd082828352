//! The rules of this folder.

use forebay_sdk::Rule;

/// A file is named relative to the folder in which the program was started.
pub(crate) static RELATIVE_PATH: Rule =
    Rule::new("relative-path", include_str!("../rules/relative-path.md"));
