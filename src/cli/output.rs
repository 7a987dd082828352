//! What the verbs print, and how they end.

use std::{
    env,
    ffi::OsString,
    io::{self, ErrorKind, IsTerminal, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use forebay_sdk::Level;

use crate::lint::{Checked, report::printable};

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Exit code 0.
    Fine,
    /// Exit code 1.
    Findings,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The choice of a format, for the verbs that know these two.
#[derive(clap::Args)]
pub(super) struct Printed {
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// As `--format json` was once written.
    #[arg(long, hide = true, conflicts_with = "format")]
    json: bool,
}

impl Printed {
    pub(super) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// Whether somebody has read enough of standard output, and gone.
static IS_READER_GONE: AtomicBool = AtomicBool::new(false);

/// Writes to standard output. When nobody reads it any more, as behind `| head`, the verb goes on:
/// its work is done, and its exit code says how it went.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// The same, for what may be no text.
pub(super) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            IS_READER_GONE.store(true, Ordering::Relaxed);
            Ok(())
        }
        written => Ok(written?),
    }
}

/// Whether the reader of standard output had gone when something was last printed, for verbs that
/// would go on until then.
pub(super) fn is_reader_gone() -> bool {
    IS_READER_GONE.load(Ordering::Relaxed)
}

/// Colours are for terminals that know them, of people who have nothing against them. `FORCE_COLOR`
/// is for what only looks like no terminal, such as the log of a CI system.
pub(super) fn use_color(stream: &impl IsTerminal) -> bool {
    wants_color(&|name| env::var_os(name), knows_escapes(stream))
}

/// Whether a stream is a terminal that can do more than write one line below the other.
pub(super) fn knows_escapes(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn wants_color(variable: &dyn Fn(&str) -> Option<OsString>, knows_escapes: bool) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    match (set("NO_COLOR"), set("FORCE_COLOR")) {
        (Some(_), _) => false,
        (None, Some(forced)) => forced != "0" && forced != "false",
        (None, None) => knows_escapes,
    }
}

/// A path for people: what could steer the terminal is replaced.
pub(super) fn shown(path: &Path) -> String {
    printable(&path.display().to_string()).into_owned()
}

/// "1 error and 2 warnings in 3 pipelines", for the line below findings.
pub(super) fn summary(checked: &Checked) -> String {
    let found = found(checked.count(Level::Error), checked.count(Level::Warning));
    match checked.pipelines {
        // None could be read.
        0 => found,
        pipelines => format!("{found} in {}", count_of(pipelines, "pipeline")),
    }
}

/// "1 error and 2 warnings".
pub(super) fn found(errors: usize, warnings: usize) -> String {
    match (errors, warnings) {
        (0, 0) => "no findings".to_owned(),
        (errors, 0) => count_of(errors, "error"),
        (0, warnings) => count_of(warnings, "warning"),
        (errors, warnings) => {
            format!("{} and {}", count_of(errors, "error"), count_of(warnings, "warning"))
        }
    }
}

/// "1 error", "2 errors".
pub(super) fn count_of(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// A time for people, in the largest unit that fits.
pub(super) fn about(seconds: u64) -> String {
    let units = [("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)];
    let fits = units.into_iter().find(|(_, length)| seconds >= *length);
    let (unit, length) = fits.unwrap_or(("second", 1));
    count_of(usize::try_from(seconds / length).unwrap_or(usize::MAX), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_who_wants_them() {
        let wants = |set: &[(&str, &str)], knows_escapes: bool| {
            let value = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            wants_color(&value, knows_escapes)
        };
        assert!(wants(&[], true));
        assert!(!wants(&[], false));
        assert!(!wants(&[("NO_COLOR", "1")], true));
        assert!(wants(&[("NO_COLOR", "")], true));
        assert!(wants(&[("FORCE_COLOR", "1")], false));
        assert!(!wants(&[("FORCE_COLOR", "0")], true));
        assert!(!wants(&[("FORCE_COLOR", "")], false));
        assert!(!wants(&[("FORCE_COLOR", "1"), ("NO_COLOR", "1")], true));
    }
}
