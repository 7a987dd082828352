//! Where a secret may stand in a line that is shown. Many findings show lines of a file that could
//! not be understood, so its words must do.

use std::ops::Range;

use forebay_sdk::finding::nearest;

/// Parts of keys whose values nobody should see.
const PARTS: [&str; 8] =
    ["pass", "pwd", "secret", "token", "credential", "authorization", "api_key", "apikey"];
/// Whole keys, for those who misspell them.
const WORDS: [&str; 3] = ["password", "secret", "token"];

/// The places in a text that look like the values of secrets. `${...}` shows none.
pub(super) fn places(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    // Lines that stand further to the right than this belong to a secret of many lines.
    let mut below: Option<usize> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let here = start;
        start += line.len();
        let said = line.trim_end();
        let indent = said.len() - said.trim_start().len();
        if said.trim().is_empty() {
            continue;
        }
        if below.is_some_and(|above| indent > above) {
            places.push(here + indent..here + said.len());
            continue;
        }
        below = None;
        for (key, value) in values(said) {
            let quote = said[value.clone()].chars().next().filter(|c| matches!(c, '"' | '\''));
            let shown = said[value.clone()].trim_start_matches(['"', '\'']);
            if shown.starts_with("${") {
                continue;
            }
            match said[value.clone()].trim() {
                "" => below = Some(key),
                block if block.starts_with(['|', '>']) => below = Some(key),
                _ => {
                    // A quote that is not closed goes on in the lines below.
                    below = quote.filter(|quote| !shown.contains(*quote)).map(|_| key);
                    places.push(here + value.start..here + value.end);
                }
            }
        }
        places.extend(in_url(said).map(|place| here + place.start..here + place.end));
    }
    places
}

/// The values of keys that look secret in a line, each with the column of its key.
fn values(line: &str) -> Vec<(usize, Range<usize>)> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(sign) = line[from..].find([':', '=']).map(|at| from + at) {
        from = sign + 1;
        let before = line[..sign].trim_end().trim_end_matches(['"', '\'']);
        let begin = before
            .rfind(|c| !is_word(c))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let key = before[begin..].to_lowercase();
        let is_secret = PARTS.iter().any(|part| key.contains(part))
            || key.len() > 4 && nearest(&key, WORDS).is_some();
        if !is_secret {
            continue;
        }
        let value = &line[sign + 1..];
        let start = sign + 1 + (value.len() - value.trim_start().len());
        let end = start + length(&line[start..], line[..begin].contains(['{', '[']));
        found.push((begin, start..end));
        from = end.max(from);
    }
    found
}

/// How long a value is: to its closing quote, or to what ends it between brackets.
fn length(value: &str, in_brackets: bool) -> usize {
    if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        return value[1..].find(quote).map_or(value.len(), |end| end + 2);
    }
    match in_brackets {
        true => value.find([',', '}', ']']).unwrap_or(value.len()),
        false => value.len(),
    }
}

/// The password of `mqtt://user:password@host`.
fn in_url(line: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    line.match_indices("://").filter_map(|(at, sign)| {
        let start = at + sign.len();
        let rest = &line[start..];
        let rest = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
        let end = rest.rfind('@')?;
        let colon = rest[..end].find(':')?;
        let is_variable = rest[colon + 1..end].starts_with("${");
        (!is_variable).then_some(start + colon + 1..start + end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = places(text).into_iter().map(|place| &text[place]).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn what_stands_behind_a_secret_key_is_hidden() {
        check("password: hunter2", &["hunter2"]);
        check("  - PASSWORD : \"hun ter2\" # old", &["\"hun ter2\""]);
        check("a: {user: me, password: hunter2, url: b}", &["hunter2"]);
        check("{\"password\": \"hunter2\", \"b\": 1}", &["\"hunter2\""]);
        check("pasword: hunter2", &["hunter2"]);
        check("broker_token=abc def", &["abc def"]);
        check("password: |\n  hunter2\n\n  more\nuser: me", &["hunter2", "more"]);
        check("password:\n  hunter2\nuser: me", &["hunter2"]);
        check("password: \"hunter2\n  more\nuser: me", &["\"hunter2", "more"]);
        check("headers: {Authorization: Basic abc=}", &["Basic abc="]);
        check("# password: hunter2", &["hunter2"]);
        check("url: mqtt://me:hunter2@broker:1883", &["hunter2"]);
        check("é: ü\npassword: grün", &["grün"]);
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        check("password: ${env:PASSWORD}", &[]);
        check("password: \"${file:secrets/broker}\"", &[]);
        check("url: mqtt://broker:1883", &[]);
        check("topic: site/a\nqos: 1", &[]);
        check("url: mqtt://me:${env:PASSWORD}@broker", &[]);
    }
}
