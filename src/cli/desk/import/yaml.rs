//! Writes YAML by hand: only what an import needs.

/// A text of YAML that grows.
#[derive(Default)]
pub(super) struct Writer(pub String);

impl Writer {
    /// A line, so many steps to the right.
    pub(super) fn line(&mut self, depth: usize, text: &str) {
        self.0 += &"  ".repeat(depth);
        self.0 += text;
        self.0.push('\n');
    }

    /// A setting with a value that is written as it is.
    pub(super) fn set(&mut self, depth: usize, key: &str, value: &str) {
        self.line(depth, &format!("{key}: {value}"));
    }

    /// A comment. What is not fit for one line is made so.
    pub(super) fn comment(&mut self, depth: usize, text: &str) {
        let printable: String =
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.line(depth, &format!("# {printable}"));
    }
}

/// A text in quotes, as JSON has it: that is YAML too. A `$` in front of a brace would begin a variable.
pub(super) fn quoted(text: &str) -> String {
    let plain = text.replace('\u{7f}', "");
    serde_json::Value::from(plain).to_string()
}

/// A name as connections and bridges have one.
pub(super) fn name(text: &str) -> String {
    let fit = |c: char| if c.is_alphanumeric() || c == '_' || c == '-' { c } else { '-' };
    let name: String = text.chars().map(fit).collect();
    let name = name.trim_matches('-').to_owned();
    match name.is_empty() {
        true => "bridge".to_owned(),
        false => name,
    }
}
