//! Text that is put beside what stands there. Pure.

use forebay_sdk::Span;

use crate::config::Texts;

/// Where and how a setting goes behind another: in a line of its own, or behind a comma.
pub(super) fn beside(texts: &Texts, setting: Span, text: &str) -> (Span, String) {
    let file = texts.text(setting.file);
    let before = &file[..setting.range().start];
    let indent = &before[before.rfind('\n').map_or(0, |newline| newline + 1)..];
    let separator = match indent.trim().is_empty() {
        true => format!("\n{indent}"),
        false => ", ".to_owned(),
    };
    (Span { start: setting.end, ..setting }, format!("{separator}{text}"))
}
