//! How two values differ, each difference in a line.

use serde_json::Value;

/// Numbers this close, by their own size, are the same: nobody writes down all digits of a third.
const SAME: f64 = 1e-9;
/// More would hide the first.
const MOST: usize = 10;

/// How alike two values have to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Likeness {
    /// How far numbers may be off.
    pub tolerance: f64,
    /// What is found may have more than is expected.
    pub among_others: bool,
}

/// The differences, each with its path below `path`.
pub(super) fn differences(
    path: &str,
    expected: &Value,
    found: &Value,
    likeness: Likeness,
) -> Vec<String> {
    let mut lines = Vec::new();
    add(path, expected, found, likeness, &mut lines);
    if lines.len() > MOST {
        let more = lines.len() - MOST;
        lines.truncate(MOST);
        lines.push(format!("and {more} more differences"));
    }
    lines
}

fn add(path: &str, expected: &Value, found: &Value, likeness: Likeness, lines: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(wanted), Value::Object(there)) => {
            for (name, expected) in wanted {
                let path = format!("{path}.{name}");
                match there.get(name) {
                    Some(found) => add(&path, expected, found, likeness, lines),
                    None => lines
                        .push(format!("{path}: expected {}, found nothing", one_line(expected))),
                }
            }
            let others = there.iter().filter(|(name, _)| !wanted.contains_key(*name));
            for (name, found) in others.filter(|_| !likeness.among_others) {
                lines.push(format!("{path}.{name}: expected nothing, found {}", one_line(found)));
            }
        }
        (Value::Array(wanted), Value::Array(there)) if wanted.len() == there.len() => {
            for (index, (expected, found)) in wanted.iter().zip(there).enumerate() {
                add(&format!("{path}[{index}]"), expected, found, likeness, lines);
            }
        }
        (Value::Number(_), Value::Number(_)) if is_same_number(expected, found, likeness) => (),
        _ if expected == found => (),
        _ => lines.push(format!(
            "{path}: expected {}, found {}",
            one_line(expected),
            one_line(found)
        )),
    }
}

fn is_same_number(a: &Value, b: &Value, likeness: Likeness) -> bool {
    let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else { return false };
    (a - b).abs() <= likeness.tolerance.max(SAME * a.abs().max(b.abs()))
}

/// A value for showing, cut when it is long.
pub(super) fn one_line(value: &Value) -> String {
    const LONGEST: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
