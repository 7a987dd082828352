//! What the verbs print, and how they end.

use std::io::{IsTerminal, Write};

use forebay_sdk::Level;

use crate::lint::Checked;

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

/// Writes to standard output, where a reader that went away is no panic.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Whether whoever reads the output has read enough.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Colours are for terminals of people who have nothing against them.
pub(super) fn use_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
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
