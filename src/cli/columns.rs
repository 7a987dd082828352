//! Text in the columns of a terminal, of which some characters take two and some none.

use unicode_width::UnicodeWidthStr;

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// What of a text fits, with `…` at its end when that is not all.
pub(super) fn cut(text: &str, most: usize) -> String {
    match (text.width() <= most, most) {
        (true, _) => text.to_owned(),
        (false, 0) => String::new(),
        (false, _) => format!("{}…", &text[..fits(text, most - 1)]),
    }
}

/// The same with `…` in the place of its beginning.
pub(super) fn cut_beginning(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.to_owned();
    }
    let ends = text.char_indices().map(|(at, _)| &text[at..]);
    let end = ends.into_iter().find(|end| end.width() < most).unwrap_or_default();
    format!("…{end}")
}

/// A text and blanks, so wide together.
pub(super) fn padded(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(text.width())))
}

/// Pieces side by side, in lines of that width. A piece that is wider is broken.
pub(super) fn flow<'a>(
    pieces: impl IntoIterator<Item = &'a str>,
    gap: &str,
    most: usize,
) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for mut piece in pieces {
        match lines.last_mut() {
            Some(line) if line.width() + gap.width() + piece.width() <= most => {
                *line += gap;
                *line += piece;
                continue;
            }
            _ => (),
        }
        while piece.width() > most {
            // At least one, or it would never end.
            let first = piece.chars().next().map_or(piece.len(), char::len_utf8);
            let (line, rest) = piece.split_at(fits(piece, most).max(first));
            lines.push(line.to_owned());
            piece = rest;
        }
        if !piece.is_empty() {
            lines.push(piece.to_owned());
        }
    }
    lines
}

/// The words of a text, in lines.
pub(super) fn wrapped(text: &str, most: usize) -> Vec<String> {
    flow(text.split(' ').filter(|word| !word.is_empty()), " ", most)
}

/// How many bytes of a text fit. What joins the character before it stays with that.
fn fits(text: &str, most: usize) -> usize {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    // A text only grows: the first that is too wide ends it.
    ends.take_while(|end| text[..*end].width() <= most).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two_columns_and_accents_none() {
        assert_eq!(cut("温度計", 6), "温度計");
        assert_eq!(cut("温度計", 5), "温度…");
        assert_eq!(cut("温度計", 4), "温…");
        assert_eq!(cut("e\u{301}a\u{308}o", 3), "e\u{301}a\u{308}o");
        assert_eq!(cut("e\u{301}a\u{308}o", 2), "e\u{301}…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut_beginning("plant/温度計", 6), "…度計");
        assert_eq!(cut_beginning("abc", 2), "…c");
        assert_eq!(padded("温", 4), "温  ");
    }

    #[test]
    fn pieces_stay_whole_where_they_fit() {
        assert_eq!(flow(["a 1", "b 22", "c 3"], "  ", 9), ["a 1  b 22", "c 3"]);
        assert_eq!(wrapped("one  three abcdefgh", 5), ["one", "three", "abcde", "fgh"]);
        assert_eq!(wrapped("温度", 1), ["温", "度"]);
        assert!(wrapped("", 5).is_empty());
    }
}
