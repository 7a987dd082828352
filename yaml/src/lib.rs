//! YAML 1.2 as a tree in which every key and value knows where it stands, and findings about it.
//!
//! A text is parsed ([`parse`]), checked against the JSON Schema of a settings struct ([`check`]), which
//! reports every problem at its place, and only then read by serde ([`decode`]). The parser behind it
//! is `granit-parser`; nobody else sees it.

pub mod finding;
pub mod rule;
pub mod rules;
pub mod secret;
pub mod units;

mod check;
mod decode;
pub mod layout;
mod mistakes;
mod parse;
#[cfg(test)]
mod tests;
mod tree;
mod words;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::{
    check::{Hidden, check, schema_of},
    finding::{Edit, Finding, Span, nearest},
    parse::{Limits, parse},
    rule::{Level, Rule},
    tree::{Content, Entry, Meaning, Module, ModuleSource, Scalar, Style, Yaml},
    words::{is_called, type_called},
};
use crate::decode::{Decoder, Error};

/// Checks a tree against a JSON Schema, then reads it as a `T`.
///
/// The schema comes from `T`, so what passes the check is read without an error, but for what a
/// `Deserialize` written by hand refuses. `subject` names the thing, as in `modbus source`.
pub fn read<T: DeserializeOwned>(
    yaml: &Yaml,
    schema: &Value,
    subject: &str,
    findings: &mut Vec<Finding>,
) -> Option<T> {
    let before = findings.len();
    check(yaml, schema, subject, yaml.span, findings);
    match findings[before..].iter().any(|finding| finding.level == Level::Error) {
        true => None,
        false => decode(yaml, subject, findings),
    }
}

/// Reads a tree that [`check`] found right as a `T`.
pub fn decode<T: DeserializeOwned>(
    yaml: &Yaml,
    subject: &str,
    findings: &mut Vec<Finding>,
) -> Option<T> {
    T::deserialize(Decoder(yaml)).map_err(|error| findings.push(unread(error, yaml, subject))).ok()
}

fn unread(error: Error, yaml: &Yaml, subject: &str) -> Finding {
    let span = error.span.unwrap_or(yaml.span);
    let message = format!("{subject} has a setting that cannot be read");
    Finding::error(&rules::SETTING_TYPE, span, message, error.message)
}
