//! Where YAML went wrong, in words about what would be right.
//!
//! A parser notices a mistake where it can go no further, which may be lines behind the mistake.
//! What people get wrong most (tabs, indentation, brackets and quotes that are never closed) is looked
//! for here, in the text itself.

use std::ops::Range;

use crate::finding::nearest;

/// What is wrong with a text that the parser gave up on.
pub(crate) struct Mistake {
    /// The text at fault.
    pub place: Range<usize>,
    /// What would be right.
    pub label: String,
    /// A text, and what could stand in its place, when that is sure.
    pub instead: Option<(Range<usize>, String)>,
}

/// Finds the mistake behind an error. `at` is where the parser noticed it, and `said` its reason.
pub(crate) fn find(text: &str, at: usize, said: &str) -> Mistake {
    let at = at.min(text.len());
    let at = (0..=at).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0);
    // A file that goes on to be closed, only too far down.
    let is_deep = said.contains("recursion limit");
    tab(text, at)
        .or_else(|| odd_space(text, at))
        .or_else(|| unclosed(text, at).filter(|_| !is_deep))
        .or_else(|| alias(text, at, said))
        .or_else(|| indentation(text, at, said))
        .or_else(|| no_quotes(text, at, said))
        .or_else(|| no_space(text, at, said))
        .or_else(|| no_key(text, at, said))
        .unwrap_or_else(|| {
            // The mark must stand on text, also when the file ends too early.
            let at = at.min(text.trim_end().len());
            let length = text[at..].chars().next().map_or(0, char::len_utf8);
            plain(at..at + length, words(text, at, said))
        })
}

fn plain(place: Range<usize>, label: impl Into<String>) -> Mistake {
    Mistake { place, label: label.into(), instead: None }
}

/// The line that holds a byte, without its end.
fn line_of(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
    start..end
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// A tab in front of the line, or of the next one that says something.
fn tab(text: &str, at: usize) -> Option<Mistake> {
    let here = line_of(text, at);
    let rest = text[here.end..].split_inclusive('\n');
    let mut next = here.end;
    let mut lines = vec![here];
    for line in rest {
        if !line.trim().is_empty() {
            lines.push(next..next + line.trim_end().len());
            break;
        }
        next += line.len();
    }
    lines.into_iter().find_map(|line| {
        let indent = &text[line.start..][..indent_of(&text[line.clone()])];
        let tab = line.start + indent.find('\t')?;
        Some(plain(tab..tab + 1, "a tab; YAML is indented with spaces"))
    })
}

/// A space that only looks like one, in the line or the one above it. Text processors write them.
fn odd_space(text: &str, at: usize) -> Option<Mistake> {
    const ODD: [char; 5] = ['\u{a0}', '\u{2007}', '\u{202f}', '\u{200b}', '\u{3000}'];
    let here = line_of(text, at);
    let above = here.start.checked_sub(1).map(|end| line_of(text, end));
    above.into_iter().chain([here]).find_map(|line| {
        let (start, odd) = text[line.clone()].match_indices(ODD).next()?;
        let place = line.start + start..line.start + start + odd.len();
        Some(plain(place, "not a plain space; type it anew"))
    })
}

/// What is no key: a comment or a script of other languages, or `=` for `:`.
fn no_key(text: &str, at: usize, said: &str) -> Option<Mistake> {
    let line = key_line(text, at, said)?;
    let whole = &text[line.clone()];
    let start = line.start + indent_of(whole);
    if whole.trim_start().starts_with("//") {
        return Some(plain(start..start + 2, "a comment begins with `#`"));
    }
    let says = |line: &&str| !line.trim().is_empty();
    let above = text[..line.start].lines().rfind(says).unwrap_or_default();
    if above.trim_end().ends_with(['|', '>']) {
        let label = "expected more spaces in front than the line above has";
        return Some(plain(start..line.start + whole.trim_end().len(), label));
    }
    let sign = whole.find('=').filter(|_| !whole.contains(':'))?;
    let place = line.start + sign..line.start + sign + 1;
    Some(plain(place, "expected `:` behind the key"))
}

/// A quote or bracket before `at` that is never closed.
fn unclosed(text: &str, at: usize) -> Option<Mistake> {
    let mut open: Vec<(usize, u8)> = Vec::new();
    // Lines that stand further to the right than this belong to a block of text.
    let mut block: Option<usize> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let (begin, indent) = (start, indent_of(line));
        start += line.len();
        let is_blank = line.trim().is_empty();
        if is_blank || block.is_some_and(|above| indent > above) {
            continue;
        }
        block = None;
        // Where a value may begin: only there quotes and brackets mean something.
        let mut fresh = true;
        let bytes = line.as_bytes();
        let mut here = 0;
        while here < bytes.len() {
            let byte = bytes[here];
            let next_is_space = bytes.get(here + 1).is_none_or(u8::is_ascii_whitespace);
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => (),
                b'#' if here == 0 || bytes[here - 1].is_ascii_whitespace() => break,
                b'"' | b'\'' if fresh => match closing(line, here) {
                    Some(end) => {
                        here = end;
                        fresh = false;
                    }
                    None if begin + here < at && ends_at(text, begin + here, at) => {
                        let label = "this quote is not closed in its line";
                        return Some(plain(begin + here..begin + here + 1, label));
                    }
                    // A text of several lines, which is rare and right.
                    None => return None,
                },
                b'[' | b'{' if fresh || !open.is_empty() => {
                    open.push((begin + here, byte));
                    fresh = true;
                }
                b']' | b'}' if !open.is_empty() => {
                    let (opened, bracket) = open.pop()?;
                    let wanted = if bracket == b'[' { ']' } else { '}' };
                    if wanted != char::from(byte) {
                        let label =
                            format!("expected `{wanted}` before the `{}`", char::from(byte));
                        return Some(plain(opened..opened + 1, label));
                    }
                    fresh = false;
                }
                b',' if !open.is_empty() => fresh = true,
                b':' | b'-' | b'?' if next_is_space => fresh = true,
                b'|' | b'>' if fresh && open.is_empty() => {
                    let dashes = line.trim_start().trim_start_matches(['-', ' ']);
                    block = Some(line.len() - dashes.len());
                    break;
                }
                _ => fresh = false,
            }
            here += 1;
        }
    }
    let (opened, bracket) = open.first().copied().filter(|(opened, _)| *opened <= at)?;
    Some(plain(opened..opened + 1, format!("this `{}` is not closed", char::from(bracket))))
}

/// Where a quote that opens at a place of a line is closed in it.
fn closing(line: &str, opened: usize) -> Option<usize> {
    let bytes = line.as_bytes();
    let quote = bytes[opened];
    let mut here = opened + 1;
    while here < bytes.len() {
        match bytes[here] {
            b'\\' if quote == b'"' => here += 1,
            byte if byte == quote && bytes.get(here + 1) == Some(&quote) && quote == b'\'' => {
                here += 1;
            }
            byte if byte == quote => return Some(here),
            _ => (),
        }
        here += 1;
    }
    None
}

/// Whether the text in quotes that opens at a place reaches to where the parser gave up, or shortly
/// before it: then it swallowed what follows.
fn ends_at(text: &str, opened: usize, at: usize) -> bool {
    const SHORTLY: usize = 2;
    closing(&text[opened..], 0).is_none_or(|end| opened + end + SHORTLY >= at)
}

/// `*nam` instead of `*name`.
fn alias(text: &str, at: usize, said: &str) -> Option<Mistake> {
    if !said.contains("unknown anchor") {
        return None;
    }
    let name = |text: &str| -> usize {
        text.find(|c: char| c.is_whitespace() || ",[]{}".contains(c)).unwrap_or(text.len())
    };
    let word = text[at..].strip_prefix('*')?;
    let word = &word[..name(word)];
    let place = at..at + 1 + word.len();
    let known = text[..at].split('&').skip(1).map(|behind| &behind[..name(behind)]);
    let near = nearest(word, known).map(|near| (place.clone(), format!("*{near}")));
    let label = format!("no `&{word}` stands above");
    Some(Mistake { place, label, instead: near })
}

/// A key that stands further to the left or right than the line above it.
fn indentation(text: &str, at: usize, said: &str) -> Option<Mistake> {
    let is_about_keys = ["mapping values are not allowed", "a block mapping"]
        .iter()
        .any(|theirs| said.contains(theirs));
    let line = line_of(text, at);
    let (whole, indent) = (&text[line.clone()], indent_of(&text[line.clone()]));
    // What is wrong stands within the line, not in front of it.
    let within = whole.find(": ").is_some_and(|colon| line.start + colon + 1 < at);
    if !is_about_keys || within {
        return None;
    }
    let says = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
    let above = indent_of(text[..line.start].lines().rfind(says)?);
    if above == indent {
        return None;
    }
    let key = whole.trim_start();
    let length = key.find(':').unwrap_or(key.trim_end().len());
    let place = line.start + indent..line.start + indent + length;
    let spaces = if indent == 1 { "space" } else { "spaces" };
    let label = format!("{indent} {spaces} in front, the line above has {above}");
    Some(plain(place, label))
}

/// The line in which the parser missed a key: its own, or the one above, which it read as the
/// beginning of this one.
fn key_line(text: &str, at: usize, said: &str) -> Option<Range<usize>> {
    let here = line_of(text, at);
    if said.contains("simple key expected") {
        return Some(here);
    }
    let is_above = said.contains("mapping values are not allowed");
    is_above.then(|| here.start.checked_sub(1).map(|end| line_of(text, end)))?
}

/// `unit:1` instead of `unit: 1`.
fn no_space(text: &str, at: usize, said: &str) -> Option<Mistake> {
    let line = key_line(text, at, said)?;
    let colon = line.start + text[line.clone()].find(':')?;
    let behind = text[colon + 1..line.end].chars().next()?;
    let place = colon..colon + 1;
    let label = "expected a space behind this".to_owned();
    let instead = Some((place.clone(), ": ".to_owned()));
    (!behind.is_whitespace()).then_some(Mistake { place, label, instead })
}

/// `topic: @a` and `description: a: b`, whose values mean something else without quotes.
fn no_quotes(text: &str, at: usize, said: &str) -> Option<Mistake> {
    let line = line_of(text, at);
    let start = line.start + text[line.clone()].find(": ")? + 2;
    let value = text[start..line.end].trim_end();
    let label = match said.strip_prefix("unexpected character: `") {
        Some(character) if start == at => {
            let character = character.trim_end_matches('\'');
            format!("a value that begins with `{character}` needs quotes")
        }
        None if start <= at && said.contains("mapping values are not allowed") => {
            "a value that holds `: ` needs quotes".to_owned()
        }
        _ => return None,
    };
    let length = text[at..].chars().next().map_or(0, char::len_utf8);
    // A comment behind the value, or quotes inside it, are for a person to sort out.
    let is_plain = !value.contains(['"', '\\']) && !value.contains(" #");
    let instead = is_plain.then(|| (start..start + value.len(), format!("\"{value}\"")));
    Some(Mistake { place: at..at + length, label, instead })
}

/// What the parser says, in words about what would be right.
fn words(text: &str, at: usize, said: &str) -> String {
    let before = &text[..at];
    if before.ends_with('$') && text[at..].starts_with('{') {
        return "inside `{ }` and `[ ]`, a value with `${` needs quotes".to_owned();
    }
    if let Some(character) = said.strip_prefix("unexpected character: `") {
        let character = character.trim_end_matches('\'');
        return format!("a value that begins with `{character}` needs quotes");
    }
    if said.contains("mapping values are not allowed") {
        let line = before.lines().next_back().unwrap_or_default();
        let words = match line.contains(": ") {
            true => "a value that holds `: ` needs quotes",
            false => "the line above lacks a `:`",
        };
        return words.to_owned();
    }
    const WORDS: [(&str, &str); 13] = [
        ("scanning an anchor or alias", "a value that begins with `*` or `&` needs quotes"),
        ("a flow mapping", "expected `,` or `}` before this"),
        ("a flow sequence", "expected `,` or `]` before this"),
        ("illegal placement of ':'", "expected `,` or a closing bracket before this"),
        ("a block mapping", "expected a key, as far to the right as the keys above"),
        ("a block collection", "expected `-`, as far to the right as those above"),
        ("block sequence entries", "a list begins on a line of its own"),
        ("simple key expected", "expected `:` behind the key"),
        (
            "invalid trailing content",
            "the text ends at the quote before this; for quotes inside, write it below a `|`",
        ),
        ("comment or line break", "expected nothing more on this line"),
        ("found a tab", "a tab follows; YAML is indented with spaces"),
        ("unknown escape", "`\\` begins an escape in double quotes; in single quotes it does not"),
        ("recursion limit", "lists and maps are nested too deep here"),
    ];
    match WORDS.iter().find(|(theirs, _)| said.contains(theirs)) {
        Some((_, ours)) => (*ours).to_owned(),
        None => said.to_owned(),
    }
}
