//! Where a line and column of a text stand in a file, in whatever style YAML has the text written.

use std::ops::Range;

use forebay_sdk::Span;
use forebay_yaml::{Scalar, Style, Yaml};

/// The file in which a text stands: the one that was included, or the one where it was written.
pub(super) fn file_of(value: &Yaml) -> Option<u32> {
    Some(value.scalar()?.included.unwrap_or(value.span.file))
}

/// The place of a line and column inside a text, both from 1, in the text of its file. None when it
/// is not as it was written.
///
/// Folding, indentation and line endings change nothing but blanks. So the place is found by
/// counting the characters in front of it that are none.
pub(super) fn inside(value: &Yaml, place: (usize, usize), file_text: &str) -> Option<Span> {
    let scalar = value.scalar()?;
    if let Some(file) = scalar.included {
        return inside_file(file, file_text, place);
    }
    let target = offset(&scalar.text, place)?;
    if scalar.template.is_some() {
        return None;
    }
    let (file, text) = (value.span.file, file_text);
    let is_told = |c: &char| !c.is_whitespace();
    let before = scalar.text[..target].chars().filter(is_told).count();
    let wanted = scalar.text[target..].chars().next().filter(is_told);
    let mut told = written(scalar, text, value.span.range().start).filter(|unit| !unit.is_blank);
    if wanted.is_some() {
        return Some(word(file, text, told.nth(before)?.range.start));
    }
    // A blank: right behind what stands before it.
    match before.checked_sub(1) {
        Some(last) => Some(word(file, text, told.nth(last)?.range.end)),
        None => Some(word(file, text, value.span.range().start)),
    }
}

/// The same in a text that is the whole of its file.
pub(super) fn inside_file(file: u32, text: &str, place: (usize, usize)) -> Option<Span> {
    Some(word(file, text, offset(text, place)?))
}

/// The byte at a line and column. Behind the end of a line is that end.
fn offset(text: &str, (line, column): (usize, usize)) -> Option<usize> {
    let mut start = 0;
    for _ in 1..line {
        start += text[start..].find('\n')? + 1;
    }
    let line = text[start..].split('\n').next().unwrap_or_default();
    let line = line.strip_suffix('\r').unwrap_or(line);
    let within = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
    Some(start + within)
}

/// One character of a text, as it was written.
struct Unit {
    range: Range<usize>,
    is_blank: bool,
}

/// The characters of a text, as they were written from `start` on, and whatever follows them.
fn written<'a>(scalar: &Scalar, file: &'a str, start: usize) -> impl Iterator<Item = Unit> + 'a {
    let style = scalar.style;
    let rest = &file[start..];
    let (mut at, quote) = match style {
        // The span may begin at the `|`, or at the first line that says something.
        Style::Literal | Style::Folded if rest.starts_with(['|', '>']) && heads_a_block(rest) => {
            (start + rest.find('\n').unwrap_or(rest.len()), None)
        }
        Style::Quoted => (start + 1, rest.chars().next()),
        Style::Plain | Style::Literal | Style::Folded => (start, None),
    };
    std::iter::from_fn(move || {
        let rest = &file[at..];
        let first = rest.chars().next()?;
        let (length, is_blank) = match quote {
            Some('\'') if rest.starts_with("''") => (2, false),
            Some('"') if first == '\\' => escape(rest),
            _ => (first.len_utf8(), first.is_whitespace()),
        };
        let range = at..(at + length).min(file.len());
        at = range.end;
        Some(Unit { range, is_blank })
    })
}

/// Whether this is the head of a block, such as `|2-  # a script`, and not a line of it.
fn heads_a_block(text: &str) -> bool {
    let head = text[1..].lines().next().unwrap_or_default();
    let head = head.split(" #").next().unwrap_or_default().trim_end();
    head.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-'))
}

/// The length of an escape in double quotes, and whether it stands for a blank.
fn escape(text: &str) -> (usize, bool) {
    let Some(kind) = text[1..].chars().next() else { return (1, true) };
    let digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        // A line that goes on below, too.
        kind => {
            let is_blank = kind.is_whitespace()
                || matches!(kind, 't' | 'n' | 'v' | 'f' | 'r')
                || matches!(kind, 'N' | '_' | 'L' | 'P');
            return (1 + kind.len_utf8(), is_blank);
        }
    };
    let Some(code) = text.get(2..2 + digits) else { return (1, false) };
    let code = u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
    (2 + digits, code.is_some_and(char::is_whitespace))
}

/// A word is marked whole, and so is a text in quotes; anything else by one character.
fn word(file: u32, text: &str, at: usize) -> Span {
    let rest = text[at..].lines().next().unwrap_or_default();
    // Within double quotes of YAML, those of the text are escaped.
    let quoted = ["\"", "\\\""].into_iter().find_map(|quote| {
        let end = rest.strip_prefix(quote)?.find(quote).map(|end| end + quote.len());
        Some(quote.len() + end.unwrap_or(0))
    });
    let sigil = usize::from(rest.starts_with('$'));
    let letters = rest[sigil..].find(|c: char| !c.is_alphanumeric() && c != '_');
    let letters = letters.map_or(rest.len(), |letters| sigil + letters);
    let length = match (quoted, letters) {
        (Some(length), _) => length,
        (None, 0) => rest.chars().next().map_or(0, char::len_utf8),
        (None, letters) => letters,
    };
    Span::new(file, at..at + length)
}
