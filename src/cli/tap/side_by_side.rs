//! A message beside what a transform made of it, field by field, with what differs marked.

use serde_json::Value;

use crate::{
    cli::columns::{cut, cut_beginning, padded, width},
    engine::history::flatten,
    lint::report::printable,
};

/// Two columns take so much.
pub(super) const NARROWEST: usize = 60;
/// Of one message, so many fields are shown.
const MOST_FIELDS: usize = 100;
const DEEPEST: usize = 8;

/// How what differs looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// `~`, `+` and `-` in front of it.
    Plain,
    /// It is bold, too.
    Bold,
}

/// The message of a line, and what became of it, so wide together.
pub(super) fn side_by_side(message: &Value, screen: usize, marked: Marked) -> String {
    let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
    let (time, output) = (text(message, "time"), text(message, "output"));
    // `2026-11-29T12:00:00.000Z`: the day is that of the log.
    let clock = time.get(11..23).unwrap_or(&time);
    let mut page = Page { column: screen.saturating_sub(3) / 2, marked, text: String::new() };
    if let Some(left_out) = message["left_out"].as_u64() {
        page.text += &format!("... {left_out} left out\n");
    }
    let Some(became) = message["became"].as_array() else {
        page.row("", &format!("{clock}  by a clock"), "", &text(message, "output"));
        for (name, value) in fields(message) {
            page.row("", "", "", &format!("{name} {value}"));
        }
        return page.text;
    };
    let came = fields(message);
    let head = format!("{clock}  {output}");
    if became.is_empty() {
        let what = match message["kept"] == true {
            true => "nothing yet: it is kept for later",
            false => "nothing: it was dropped",
        };
        page.row("", &head, "-", what);
        came.iter().for_each(|(name, value)| page.row("", &format!("{name} {value}"), "", ""));
    }
    for (at, made) in (1..).zip(became) {
        let output = text(made, "output");
        let head = if at == 1 { head.as_str() } else { "" };
        if let Some(error) =
            made["payload"]["error"].as_str().filter(|_| output.ends_with(".errors"))
        {
            page.row("", head, "-", &format!("{output}: {error}"));
            came.iter().for_each(|(name, value)| page.row("", &format!("{name} {value}"), "", ""));
            continue;
        }
        let of_many =
            if became.len() > 1 { format!("  ({at} of {})", became.len()) } else { String::new() };
        page.row("", head, "", &format!("{output}{of_many}"));
        page.rows(&came, &fields(made));
    }
    if let Some(more) = message["became_more"].as_u64() {
        page.row("", "", "", &format!("... and {more} more"));
    }
    page.text
}

/// A field, and its value as it is written.
type Field = (String, String);

/// What can differ of a message. The topic is of use when it does.
fn fields(message: &Value) -> Vec<Field> {
    let mut found =
        vec![("topic".to_owned(), message["topic"].as_str().unwrap_or_default().to_owned())];
    let mut add = |name: String, value: &Value| {
        if found.len() < MOST_FIELDS {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            found.push((name, text));
        }
    };
    match message.get("payload_base64") {
        Some(bytes) => add("bytes (base64)".to_owned(), bytes),
        None => flatten(&message["payload"], "", DEEPEST, &mut add),
    }
    if let Some(meta) = message.get("meta") {
        flatten(meta, "meta", DEEPEST, &mut add);
    }
    found
}

/// What is written so far.
struct Page {
    /// How wide one column is.
    column: usize,
    marked: Marked,
    text: String,
}

impl Page {
    /// Each field of both, in the order of what came, then what is new.
    fn rows(&mut self, came: &[Field], made: &[Field]) {
        let of = |fields: &[Field], name: &str| {
            fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        for (name, before) in came {
            match of(made, name) {
                None => self.row("-", &format!("{name} {before}"), "", ""),
                Some(after) if after == *before => {
                    let field = format!("{name} {before}");
                    self.row("", &field, "", &field);
                }
                Some(after) => {
                    let (before, after) = from_difference(before, &after, self.column / 2);
                    let (before, after) = (format!("{name} {before}"), format!("{name} {after}"));
                    self.row("~", &before, "~", &after);
                }
            }
        }
        for (name, after) in made.iter().filter(|(name, _)| of(came, name).is_none()) {
            self.row("", "", "+", &format!("{name} {after}"));
        }
    }

    fn row(&mut self, left_mark: &str, left: &str, right_mark: &str, right: &str) {
        let side = |mark: &str, text: &str| {
            let text = cut(&printable(text), self.column.saturating_sub(2));
            let mark = padded(mark, 2);
            // What is escaped takes no room, so it goes around what is cut.
            let wide = width(&text);
            match (self.marked, mark.trim().is_empty()) {
                (Marked::Bold, false) => (format!("\x1b[1m{mark}{text}\x1b[0m"), wide + 2),
                _ => (format!("{mark}{text}"), wide + 2),
            }
        };
        let ((left, wide), (right, _)) = (side(left_mark, left), side(right_mark, right));
        let gap = " ".repeat(self.column.saturating_sub(wide));
        self.text += format!("{left}{gap} | {right}").trim_end();
        self.text.push('\n');
    }
}

/// Two texts, without what is the same at the beginning of both where that is long.
fn from_difference(before: &str, after: &str, most: usize) -> (String, String) {
    /// Of that, so much stays.
    const STAYS: usize = 5;
    let same: usize = before
        .chars()
        .zip(after.chars())
        .take_while(|(a, b)| a == b)
        .map(|(c, _)| c.len_utf8())
        .sum();
    let common = &before[..same];
    if width(common) <= most {
        return (before.to_owned(), after.to_owned());
    }
    let kept = cut_beginning(common, STAYS);
    (format!("{kept}{}", &before[same..]), format!("{kept}{}", &after[same..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(message: Value, expected: &[&str]) {
        let mut message = message;
        message["time"] = "2026-11-29T12:00:00.123Z".into();
        message["output"] = "a/in".into();
        let shown = side_by_side(&message, 60, Marked::Plain);
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
        assert!(shown.lines().all(|line| width(line) <= 60), "{shown}");
    }

    #[test]
    fn what_differs_is_marked() {
        let made = json!({ "output": "a/t", "topic": "x", "payload": { "power": 3.1, "new": true, "same": "温" } });
        check(
            json!({ "topic": "x", "payload": { "same": "温", "power": 3100, "old": "\u{1b}[1m" }, "became": [made], "left_out": 7 }),
            &[
                "... 7 left out",
                "  12:00:00.123  a/in         |   a/t",
                "  topic x                    |   topic x",
                "  same 温                    |   same 温",
                "~ power 3100                 | ~ power 3.1",
                "- old \u{fffd}[1m                   |",
                "                             | + new true",
            ],
        );
    }

    #[test]
    fn several_outputs_none_and_errors_are_told_apart() {
        let came = |became: Value| json!({ "topic": "x", "payload": 1, "became": became });
        let made = |output: &str, payload: Value| json!({ "output": output, "topic": "x", "payload": payload });
        check(
            came(json!([made("a/t.high", json!(1)), made("a/t", json!(2))])),
            &[
                "  12:00:00.123  a/in         |   a/t.high  (1 of 2)",
                "  topic x                    |   topic x",
                "  payload 1                  |   payload 1",
                "                             |   a/t  (2 of 2)",
                "  topic x                    |   topic x",
                "~ payload 1                  | ~ payload 2",
            ],
        );
        let dropped = came(json!([]));
        check(
            dropped.clone(),
            &[
                "  12:00:00.123  a/in         | - nothing: it was dropped",
                "  topic x                    |",
                "  payload 1                  |",
            ],
        );
        let mut kept = dropped.clone();
        kept["kept"] = true.into();
        assert!(
            side_by_side(&kept, 90, Marked::Plain).contains("nothing yet: it is kept for later")
        );
        let failed = came(json!([made("a/t.errors", json!({ "error": "no such field" }))]));
        assert!(side_by_side(&failed, 90, Marked::Plain).contains("- a/t.errors: no such field"));
        let by_clock = json!({ "output": "a/t", "topic": "x", "payload": 4, "time": "2026-11-29T12:00:00.123Z" });
        let shown = side_by_side(&by_clock, 60, Marked::Bold);
        assert!(shown.starts_with("  12:00:00.123  by a clock   |   a/t\n"), "{shown}");
        assert!(shown.ends_with(" |   payload 4\n"), "{shown}");
        let shown = side_by_side(&dropped, 60, Marked::Bold);
        assert!(shown.contains("| \u{1b}[1m- nothing: it was dropped\u{1b}[0m\n"), "{shown}");
    }

    #[test]
    fn long_texts_are_seen_where_they_differ() {
        let (before, after) = ("x".repeat(50) + "before", "x".repeat(50) + "after");
        let cut = from_difference(&before, &after, 14);
        assert_eq!(cut, ("…xxxxbefore".to_owned(), "…xxxxafter".to_owned()));
        assert_eq!(from_difference("a1", "a2", 14), ("a1".to_owned(), "a2".to_owned()));
    }
}
