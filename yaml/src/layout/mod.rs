//! Lays out a YAML text anew: same values, same comments, one way to write them.
//!
//! Scalars are copied as they stand, so nothing is quoted, escaped or folded anew; only what stands
//! between them changes. The result is read again and compared before anybody gets it.

mod comments;
mod print;
#[cfg(test)]
mod tests;
mod tree;

pub use self::print::Layout;
use crate::{
    finding::Finding,
    parse::{Limits, parse},
    rule::Level,
};

/// Why a text was not laid out.
#[derive(Debug)]
pub enum Refused {
    /// It is no valid YAML. The findings are about file 0.
    Invalid(Vec<Finding>),
    /// It is written in a way that the layout would change the meaning of, such as an anchor on
    /// a key.
    WouldChange,
}

/// Lays out a text. Its line ends stay as they are, `\n` or `\r\n`.
///
/// # Errors
///
/// A text that cannot be read, or that would mean something else afterwards.
pub fn layout(text: &str, how: &Layout) -> Result<String, Refused> {
    let mut findings = Vec::new();
    let before = parse(text, 0, Limits::default(), &mut findings);
    findings.retain(|finding| finding.level == Level::Error);
    let Some(before) = before.filter(|_| findings.is_empty()) else {
        return Err(Refused::Invalid(findings));
    };
    let ends_in_crlf = text.lines().next().is_some_and(|line| text[line.len()..].starts_with('\r'));
    let plain = text.replace("\r\n", "\n");
    let (mark, plain) = match plain.strip_prefix('\u{feff}') {
        Some(plain) => ("\u{feff}", plain),
        None => ("", plain.as_str()),
    };
    // An alias must stay below its anchor, so a key may have to stay where it is.
    let unsorted = Layout { rank: |_, _| 0, ..*how };
    for how in [how, &unsorted] {
        let Some(mut file) = tree::read(plain) else { return Ok(text.to_owned()) };
        let comments = comments::sorted(&file.comments);
        comments::attach(&mut file, how.binds);
        let fresh = print::print(file, how);
        let after = parse(&fresh, 0, Limits::default(), &mut findings);
        let is_same = after.is_some_and(|after| after.to_value() == before.to_value())
            && findings.iter().all(|finding| finding.level != Level::Error)
            && tree::read(&fresh).is_some_and(|file| comments::sorted(&file.comments) == comments);
        if is_same {
            let fresh = if ends_in_crlf { fresh.replace('\n', "\r\n") } else { fresh };
            return Ok(format!("{mark}{fresh}"));
        }
        findings.clear();
    }
    Err(Refused::WouldChange)
}
