//! Mosquitto's file of rights.

/// The lines that say something, as comments.
pub(super) fn comments(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    let said = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    said.map(|line| format!("  {line}")).collect()
}
