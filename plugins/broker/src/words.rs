//! Texts from outside, as they may stand in a log and in an answer.

/// No more of one is shown, in characters.
const MOST: usize = 200;

/// As much of a text as is shown, on one line.
pub fn printable(text: &str) -> String {
    let shown = text.chars().take(MOST).map(|c| if c.is_control() { '?' } else { c });
    match text.len() > MOST && text.chars().nth(MOST).is_some() {
        true => shown.chain(['…']).collect(),
        false => shown.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_is_one_short_line() {
        assert_eq!(printable("plc/ü 1"), "plc/ü 1");
        assert_eq!(printable("a\nb\u{7}"), "a?b?");
        assert_eq!(printable(&"ü".repeat(200)), "ü".repeat(200));
        assert_eq!(printable(&"x/".repeat(30_000)), format!("{}…", "x/".repeat(100)));
    }
}
