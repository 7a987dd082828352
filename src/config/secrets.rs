//! Where a secret may stand in a line that is shown, as far as words tell. What a file's settings tell
//! is found where they are checked; this is for what could not be understood.

use std::ops::Range;

use forebay_sdk::finding::nearest;
use forebay_yaml::{
    is_called,
    secret::{Part, is_of_variables, names_secret, places_in_url},
};

/// Names for those who misspell them.
const NAMES: [&str; 4] = ["password", "passwort", "passphrase", "authorization"];
/// What stands below them are secrets, by names that somebody chose.
const HOLDERS: [&str; 2] = ["headers", "users"];

/// How much is known of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was read as YAML, so that a secret of several lines is known by other ways.
    Yaml,
    /// Nothing but its words.
    Words,
}

/// The places in a text that look like the values of secrets. `${...}` shows none.
pub(super) fn places(text: &str, known: Known) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    // Lines that stand further to the right than this belong to a secret of many lines.
    let mut below: Option<usize> = None;
    // The line behind one that said that a secret follows.
    let mut is_next = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let here = start;
        start += line.len();
        let said = line.trim_end();
        let indent = said.len() - said.trim_start().len();
        if said.trim().is_empty() {
            continue;
        }
        let is_below = below.is_some_and(|above| indent > above);
        // A line that should stand further to the right.
        let is_too_far_left = is_next && !said.contains(':');
        is_next = false;
        if is_below || is_too_far_left {
            places.push(here + indent..here + said.len());
            continue;
        }
        below = None;
        for (key, value) in values(said, known) {
            let written = &said[value.clone()];
            let quote = written.chars().next().filter(|c| matches!(c, '"' | '\''));
            let shown = written.trim_matches(['"', '\'']);
            if is_of_variables(shown) {
                continue;
            }
            match written.trim() {
                "" if known == Known::Yaml => (),
                block if block.is_empty() || heads_a_block(block) => {
                    below = Some(key);
                    is_next = true;
                }
                _ => {
                    // A quote that is not closed goes on in the lines below.
                    let is_open = |quote: &char| !written[1..].contains(*quote);
                    below = quote.filter(is_open).map(|_| key);
                    places.push(here + value.start..here + value.end);
                }
            }
        }
        // Whoever pasted one did not mean it to be seen, whatever its name.
        if let Some(key) = said.find("PRIVATE KEY-----") {
            let begin = said[..key].rfind("-----BEGIN").unwrap_or(key);
            places.push(here + begin..here + said.len());
        }
        let holds_more = || {
            let value = said.split_once(':').map_or("", |(_, value)| value.trim());
            value.is_empty() || value.starts_with(['{', '['])
        };
        // `user: me` is no map of users.
        let holds =
            |key: &str| HOLDERS.contains(&key) || nearest(key, HOLDERS).is_some() && holds_more();
        if known == Known::Words && first_key(said.trim()).is_some_and(holds) {
            below = Some(indent);
            let behind = said.find(':').map_or(said.len(), |colon| colon + 1);
            if behind < said.len() {
                places.push(here + behind..here + said.len());
            }
        }
        places.extend(in_url(said, known).into_iter().map(|at| here + at.start..here + at.end));
    }
    places
}

/// The key with which a line begins.
fn first_key(line: &str) -> Option<&str> {
    let line = line.trim_start_matches(['"', '\'', '-', ' ', '{']);
    let (key, rest) = line.split_at(line.find(|c: char| !is_of_word(c))?);
    rest.trim_start_matches(['"', '\'', ' ']).starts_with(':').then_some(key)
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// Whether this begins a block of lines, as `|-` does, and is not a value that begins like one.
fn heads_a_block(text: &str) -> bool {
    let head = text.split(" #").next().unwrap_or_default().trim_end();
    head.strip_prefix(['|', '>'])
        .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-')))
}

/// The values of keys that look secret in a line, each with the column of its key.
fn values(line: &str, known: Known) -> Vec<(usize, Range<usize>)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(sign) = next_sign(line, from, known) {
        from = sign + 1;
        let before = line[..sign].trim_end().trim_end_matches(['"', '\'']);
        let begin = before
            .rfind(|c| !is_of_word(c))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let key = &before[begin..];
        // A key of TLS, or one that is misspelt.
        let is_key = || key == "key" || is_called(key, "key") || is_called(key, "password");
        let is_like_one = || is_key() || key.len() > 4 && nearest(key, NAMES).is_some();
        let is_secret = names_secret(key) || known == Known::Words && is_like_one();
        if !is_secret {
            continue;
        }
        let value = &line[sign + 1..];
        let start = sign + 1 + (value.len() - value.trim_start().len());
        // A map holds settings, each with its name.
        if known == Known::Yaml && line[start..].starts_with('{') {
            continue;
        }
        let end = start + length(&line[start..], line[..begin].contains(['{', '[']));
        found.push((begin, start..end));
        from = end.max(from);
    }
    found
}

/// The next character that may stand between a key and its value. Where nothing is known, it was perhaps
/// forgotten.
fn next_sign(line: &str, from: usize, known: Known) -> Option<usize> {
    let signs: &[char] = match known {
        Known::Yaml => &[':', '='],
        Known::Words => &[':', '=', ' ', '\t'],
    };
    let sign = from + line[from..].find(signs)?;
    // The sign itself may stand behind a blank.
    let blanks = line[sign..].len() - line[sign..].trim_start_matches([' ', '\t']).len();
    Some(sign + if line[sign + blanks..].starts_with([':', '=']) { blanks } else { 0 })
}

/// How long a value is: to its closing quote, or to what ends it between brackets.
fn length(value: &str, in_brackets: bool) -> usize {
    if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        return value[1..].find(quote).map_or(value.len(), |end| end + 2);
    }
    match in_brackets {
        true => length_in_brackets(value),
        false => value.len(),
    }
}

/// To what ends it: a bracket that it has not opened, or a comma with another key behind it.
fn length_in_brackets(value: &str) -> usize {
    let mut open = 0;
    for (at, sign) in value.match_indices([',', '[', ']', '{', '}']) {
        match sign {
            "[" | "{" => open += 1,
            "]" | "}" if open > 0 => open -= 1,
            "," if open > 0 || first_key(value[at + 1..].trim_start()).is_none() => (),
            _ => return at,
        }
    }
    value.len()
}

/// Whether a setting of this name is meant to be an address.
pub(super) fn names_url(key: &str) -> bool {
    is_called(key, "url") || nearest(key, ["url"]).is_some()
}

/// What lets somebody in by an address in a line.
fn in_url(line: &str, known: Known) -> Vec<Range<usize>> {
    if known == Known::Words && first_key(line.trim()).is_some_and(names_url) {
        let value = line.find(':').map_or(line.len(), |colon| colon + 1);
        let url = line[value..].trim().trim_matches(['"', '\'']);
        let is_one = is_of_variables(url) || !url.contains(char::is_whitespace);
        let mut places = places_in_url(url, Part::Path).into_iter();
        let has_query = url.split_once('?').is_some_and(|(_, query)| !is_of_variables(query));
        let is_clean = is_one && !has_query && places.all(|place| is_variable(&url[place]));
        return Vec::from_iter((!is_clean).then_some(value..line.len()));
    }
    let mut places = Vec::new();
    for (sign, _) in line.match_indices("://") {
        let is_of_scheme = |c: char| c.is_ascii_alphanumeric();
        let start = line[..sign].trim_end_matches(is_of_scheme).len();
        let url = &line[start..];
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',');
        let url = &url[..url.find(ends).unwrap_or(url.len())];
        for place in places_in_url(url, Part::User) {
            if !is_variable(&url[place.clone()]) {
                places.push(start + place.start..start + place.end);
            }
        }
    }
    places
}

/// Whether user and password are variables, or the password is.
fn is_variable(user: &str) -> bool {
    let password = user.split_once(':').map_or("", |(_, password)| password);
    is_of_variables(user) || is_of_variables(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_known(known: Known, text: &str, expected: &[&str]) {
        let found: Vec<&str> = places(text, known).into_iter().map(|place| &text[place]).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        check_known(Known::Yaml, text, expected);
        check_known(Known::Words, text, expected);
    }

    #[test]
    fn what_stands_behind_a_secret_key_is_hidden() {
        check("password: hunter2", &["hunter2"]);
        check("  - PASSWORD : \"hun ter2\" # old", &["\"hun ter2\""]);
        check("a: {user: me, password: hunter2, url: b}", &["hunter2"]);
        check("{\"password\": \"hunter2\", \"b\": 1}", &["\"hunter2\""]);
        check("broker_token=abc def", &["abc def"]);
        check("password: |\n  hunter2\n\n  more\nuser: me", &["hunter2", "more"]);
        check("password: \"hunter2\n  more\nuser: me", &["\"hunter2", "more"]);
        check("{Authorization: Basic abc=}", &["Basic abc="]);
        check("# password: hunter2", &["hunter2"]);
        check("at: mqtt://me:hunter2@broker:1883", &["me:hunter2"]);
        check("é: ü\npassword: grün", &["grün"]);
    }

    #[test]
    fn a_secret_in_a_line_that_is_not_right_was_shown() {
        for value in
            ["@hunter2", "%hunter2", "*hunter2", "`hunter2", "|hunter2", ">hunter2", "hun: ter2"]
        {
            check(&format!("password: {value}"), &[value]);
        }
        check("password: &hunter2", &["&hunter2"]);
        check("password: !hunter2", &["!hunter2"]);
        check("password: # hunter2", &["# hunter2"]);
        let words = |text: &str, expected: &[&str]| check_known(Known::Words, text, expected);
        words("pasword: hunter2", &["hunter2"]);
        words("password hunter2", &["hunter2"]);
        words("password \"hunter2\"", &["\"hunter2\""]);
        words("password:\n  hunter2\nuser: me", &["hunter2"]);
        words("password: |\nhunter2\nuser: me", &["hunter2"]);
        words("users:\n  plc: @hunter2\nlisten: []", &["plc: @hunter2"]);
        words("headers: { X: @hunter2 }", &[" { X: @hunter2 }"]);
        for value in
            ["\"u:hunter2@host\"", "mqtt://u:hunter2", "https://a/hunter2", "a: https://a/b"]
        {
            let value = format!(" {value}");
            words(&format!("url:{value}"), &[&value]);
        }
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        check("password: ${env:PASSWORD}", &[]);
        check("password: \"${file:secrets/broker}\"", &[]);
        check("url: mqtt://broker:1883", &[]);
        check("topic: site/a\nqos: 1", &[]);
        check("url: mqtt://me:${env:PASSWORD}@broker", &[]);
    }

    #[test]
    fn names_that_only_look_like_those_of_secrets_were_masked() {
        for name in ["broken", "tower", "bypass", "compass", "passage", "secretary"] {
            check(&format!("{name}:\n  type: timer\n  every: 5s"), &[]);
            check(&format!("{name}: {{ type: timer }}"), &[]);
            check(&format!("from: {name}"), &[]);
        }
        check_known(Known::Yaml, "token:\n  type: timer", &[]);
        check_known(Known::Yaml, "token: { type: timer }", &[]);
    }
}
