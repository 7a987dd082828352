//! How things are said.

use forebay_sdk::{Problem, Rule, finding::nearest};
use rhai::Position;

/// `, did you mean ...`, or nothing when no choice is near.
pub(crate) fn did_you_mean<'a>(word: &str, choices: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, choices).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default()
}

/// How something is written here that JavaScript and its kin have in an object.
pub(crate) fn for_object(theirs: &str) -> Option<&'static str> {
    Some(match theirs {
        "Date" => "`Date.now()` is `now()` here, and `parse_time(text)` reads a date",
        "crypto" => "a hash is `sha256(x)` or `hmac_sha256(key, x)` here",
        "RegExp" => "`regex_find(text, \"[0-9]+\")` looks for a pattern here",
        "Math" | "math" => "`Math.round(x)` is `round(x)` here, and so with the others",
        "JSON" | "json" => {
            "`JSON.parse(x)` is `parse_json(x)` here, `JSON.stringify(x)` `to_json(x)`"
        }
        "console" | "log" | "logger" => "`console.log(x)` is `print(x)` here",
        "node" => "`node.send(msg)` is `msg` as the last line here, `node.error(x)` is `throw x`",
        "flow" | "global" | "context" => "`flow.set(\"x\", 1)` is `state.x = 1` here",
        "answer" => {
            "it is there where plugin.yaml says who may be asked: `allow: { http: [\"https://...\"] }`"
        }
        "payload" | "topic" | "meta" => {
            "it is part of the message: `msg.payload`, `msg.topic`, `msg.meta`"
        }
        _ => return None,
    })
}

/// The same for functions.
pub(crate) fn for_function(theirs: &str) -> Option<&'static str> {
    Some(match theirs {
        "Number" | "parseFloat" => "a number of a text is `parse_float(x)`",
        "parseInt" => "a whole number of a text is `parse_int(x)`, of a number `to_int(x)`",
        "String" | "toString" | "str" => "a text of something is `to_string(x)`",
        "toFixed" => "`x.toFixed(2)` is `round(x, 2)` here",
        "toUpperCase" | "upper" => "`x.toUpperCase()` is `x.to_upper()` here",
        "toLowerCase" | "lower" => "`x.toLowerCase()` is `x.to_lower()` here",
        "match" | "exec" => "`x.match(/y/)` is `regex_captures(x, \"y\")` here",
        "replaceAll" => {
            "`x.replaceAll(\"a\", \"b\")` is `x.replace(\"a\", \"b\");` here, which changes `x`"
        }
        "encodeURIComponent" | "encodeURI" => "a part of a url is `url_encode(x)` here",
        "includes" | "has" => "`x.includes(y)` is `y in x` here",
        _ => return None,
    })
}

pub(crate) fn lowercase_first(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// A problem at a place of the script.
pub(crate) fn problem(
    rule: &'static Rule,
    at: Position,
    message: String,
    label: String,
) -> Problem {
    let problem = Problem::new("script", message, label).rule(rule);
    match (at.line(), at.position()) {
        (Some(line), column) => problem.inside(line, column.unwrap_or(1)),
        (None, _) => problem,
    }
}
