//! YAML as a plugin meets it: a tree in which everything knows its place. Tests also read one from text.

pub use forebay_yaml::{
    Content, Entry, Limits, Meaning, Scalar, Style, Yaml, check, decode, parse, read,
};
