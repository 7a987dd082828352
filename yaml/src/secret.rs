//! What is secret in a text: told by the names that people give to secrets, and in a URL by the place.

use std::ops::Range;

use serde_json::Value;

use crate::units::form;

/// Words that are secrets by themselves.
const WORDS: [&str; 8] =
    ["auth", "cookie", "pass", "psk", "pwd", "apikey", "bearer", "private_key"];
/// Words that are, also at the end of a longer one: `brokerpassword`.
const ENDINGS: [&str; 9] = [
    "authorization",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "secret",
    "token",
];

/// Whether a setting of this name holds what lets somebody in: `password`, `api_key`, `brokerToken`. A
/// word that only begins like one does not: `passage`, `secretary`, `bypass`.
pub fn names_secret(name: &str) -> bool {
    let words = words(name);
    let is_secret =
        |word: &String| WORDS.contains(&&**word) || ENDINGS.iter().any(|end| word.ends_with(end));
    words.iter().any(is_secret)
        || words.windows(2).any(|pair| {
            pair[1] == "key" && ["api", "access", "private", "secret"].contains(&&*pair[0])
        })
}

/// The words of a name in lower case, parted by signs or by capital letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_small = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (after_small && c.is_uppercase()) {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().into_iter().for_each(|word| word.extend(c.to_lowercase()));
        }
        after_small = c.is_lowercase();
    }
    words
}

/// Whether nothing stands in a text but variables, or behind a word such as `Bearer`.
pub fn is_of_variables(text: &str) -> bool {
    let Some((mut front, mut rest)) = text.split_once("${") else { return false };
    if ["basic", "bearer", "token"].contains(&&*front.trim().to_lowercase()) {
        front = "";
    }
    loop {
        let Some((_, behind)) = rest.split_once('}') else { return false };
        if !front.trim().is_empty() {
            return false;
        }
        match behind.split_once("${") {
            Some((between, next)) => (front, rest) = (between, next),
            None => return behind.trim().is_empty(),
        }
    }
}

/// Which part of a URL nobody should see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// User and password, or what was written in their place.
    User,
    /// All but scheme, host and port.
    Path,
}

/// The places in a URL that let somebody in: user and password, what stands in the place of a port, and
/// its path if that is asked for.
pub fn places_in_url(url: &str, part: Part) -> Vec<Range<usize>> {
    let start = url.find("://").map_or(0, |at| at + 3);
    let mut places = Vec::new();
    // A password may hold a `/`.
    let host = match url[start..].rfind('@') {
        Some(at) => {
            places.push(start..start + at);
            start + at + 1
        }
        None => start,
    };
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    let behind_address = url[host..end].rfind(']').map_or(host, |at| host + at);
    let port = url[behind_address..end].find(':').map(|at| behind_address + at + 1..end);
    // It may be the default of a variable, which ends in a bracket.
    let is_port = |port: &str| port.trim_end_matches('}').bytes().all(|byte| byte.is_ascii_digit());
    places.extend(port.filter(|port| !is_port(&url[port.clone()])));
    let path = url[end..].find('?').map_or(end..url.len(), |at| end..end + at);
    if part == Part::Path && path.len() > 1 {
        places.push(path.start + 1..path.end);
    }
    places
}

/// Whether what a schema describes is never shown.
pub(crate) fn is_hidden(schema: &Value) -> bool {
    let format = schema.get("format").and_then(Value::as_str);
    matches!(format, Some(form::SECRET | form::HIDDEN | form::PEM | form::PASSWORD))
}

/// Whether a secret may stand here, or in a map or list that should stand here.
pub(crate) fn holds_secrets(schema: &Value) -> bool {
    let inside = ["additionalProperties", "items"].into_iter().filter_map(|key| schema.get(key));
    is_hidden(schema) || is_url(schema) || inside.into_iter().any(holds_secrets)
}

/// Whether it is an address, parts of which may be secret.
pub(crate) fn is_url(schema: &Value) -> bool {
    schema.get("format").is_some_and(|format| format == form::URL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_whole_words() {
        for name in [
            "password",
            "PASSWORD",
            "db_password",
            "brokerpassword",
            "pass",
            "api_key",
            "apiKey",
            "X-Api-Key",
            "accessToken",
            "client-secret",
            "Authorization",
        ] {
            assert!(names_secret(name), "{name}");
        }
        for name in [
            "broken",
            "tower",
            "bypass",
            "compass",
            "passage",
            "secretary",
            "passed",
            "keyboard",
            "author",
            "tokens_per_second",
            "",
        ] {
            assert!(!names_secret(name), "{name}");
        }
    }

    #[test]
    fn a_variable_shows_nothing() {
        for text in ["${env:A}", " ${env:A}${file:b} ", "Bearer ${env:A}"] {
            assert!(is_of_variables(text), "{text}");
        }
        for text in ["", "a", "a${env:A}", "${env:A}b", "${env:A}b${env:C}", "${env:A"] {
            assert!(!is_of_variables(text), "{text}");
        }
    }

    #[test]
    fn what_lets_somebody_in_is_found_in_a_url() {
        let check = |url: &str, part: Part, expected: &[&str]| {
            let found: Vec<&str> =
                places_in_url(url, part).into_iter().map(|place| &url[place]).collect();
            assert_eq!(found, expected, "{url}");
        };
        check("mqtt://broker:1883", Part::Path, &[]);
        check("mqtt://[fe80::1]:1883/", Part::Path, &[]);
        check("mqtt://u:secret@broker", Part::User, &["u:secret"]);
        check("u:sec/ret@broker", Part::User, &["u:sec/ret"]);
        check("mqtt://u:secret", Part::User, &["secret"]);
        check("https://a/hook/secret?site=b", Part::User, &[]);
        check("https://a:443/hook/secret?site=b", Part::Path, &["hook/secret"]);
    }
}
