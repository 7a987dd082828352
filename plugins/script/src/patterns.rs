//! Functions of scripts for regular expressions. They take time in proportion to the text and the size of the
//! pattern, and both have a bound.

use std::{cell::RefCell, rc::Rc};

use regex_lite::{Regex, RegexBuilder};
use rhai::{Array, Dynamic, Engine, EvalAltResult};

type Answer<T> = Result<T, Box<EvalAltResult>>;

/// The functions whose last value is a pattern.
pub(crate) const AT_END: [&str; 3] = ["regex_matches", "regex_find", "regex_captures"];
/// The longest text that is looked through.
const MOST_TEXT_BYTES: usize = 16 * 1024;
/// How much memory a compiled pattern may take.
const MOST_PATTERN_BYTES: usize = 32 * 1024;
/// How many compiled patterns are kept.
const MOST_KEPT: usize = 32;

thread_local! {
    /// Those that were used lately, the latest at the end.
    static KEPT: RefCell<Vec<(String, Rc<Regex>)>> = const { RefCell::new(Vec::new()) };
}

/// `most_text` is the longest text that they make.
pub(crate) fn register(engine: &mut Engine, most_text: usize) {
    engine.register_fn("regex_matches", |text: &str, pattern: &str| -> Answer<bool> {
        Ok(kept(pattern, text)?.is_match(text))
    });
    engine.register_fn("regex_find", |text: &str, pattern: &str| -> Answer<Dynamic> {
        let found = kept(pattern, text)?.find(text);
        Ok(found.map_or(Dynamic::UNIT, |found| found.as_str().into()))
    });
    engine.register_fn("regex_captures", |text: &str, pattern: &str| -> Answer<Dynamic> {
        let groups = kept(pattern, text)?.captures(text).map(|found| {
            let group = |index| found.get(index).map_or(Dynamic::UNIT, |part| part.as_str().into());
            (0..found.len()).map(group).collect::<Array>()
        });
        Ok(groups.map_or(Dynamic::UNIT, Dynamic::from))
    });
    engine.register_fn("regex_replace", move |text: &str, pattern: &str, with: &str| {
        replace(text, pattern, with, most_text)
    });
}

fn replace(text: &str, pattern: &str, with: &str, most: usize) -> Answer<String> {
    let regex = kept(pattern, text)?;
    let mut out = String::new();
    let mut end = 0;
    for found in regex.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&text[end..whole.start()]);
        found.expand(with, &mut out);
        end = whole.end();
        if out.len() > most {
            return Err(format!("a text grew beyond {most} bytes").into());
        }
    }
    out.push_str(&text[end..]);
    Ok(out)
}

/// Reads a pattern; says what is wrong with it when it cannot.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(MOST_PATTERN_BYTES)
        .build()
        .map_err(|error| error.to_string())
}

/// The pattern for a text.
fn kept(pattern: &str, text: &str) -> Answer<Rc<Regex>> {
    if text.len() > MOST_TEXT_BYTES {
        let message = format!("a pattern looks at texts of {MOST_TEXT_BYTES} bytes at most");
        return Err(message.into());
    }
    KEPT.with_borrow_mut(|kept| {
        let found = kept.iter().position(|(there, _)| there == pattern);
        let regex = match found {
            Some(at) => kept.remove(at),
            None => {
                let regex = compile(pattern)
                    .map_err(|why| format!("`{pattern}` is no regular expression: {why}"))?;
                (pattern.to_owned(), Rc::new(regex))
            }
        };
        if kept.len() >= MOST_KEPT {
            kept.remove(0);
        }
        let answer = Rc::clone(&regex.1);
        kept.push(regex);
        Ok(answer)
    })
}
