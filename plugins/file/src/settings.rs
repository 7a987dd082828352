//! What users write under a `file` sink.

use std::path::PathBuf;

use forebay_sdk::{Configured, Format, Problem, Settings, Size};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{append::Appender, rules::RELATIVE_PATH, sink::FileSink};

/// A smaller file would do little but rotate.
const SMALLEST_FILE: Size = Size(1024);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSettings {
    /// The file, such as `/var/log/site.jsonl`. Missing folders are made.
    path: String,
    /// How a payload becomes a line. Line breaks inside a `text` are written as `\n` and `\r`;
    /// `bytes` are written as they are, line breaks too. `cbor` and `msgpack` have no lines.
    #[serde(default)]
    format: Format,
    /// When a line would make the file larger than this, the file is renamed to `<path>.1`,
    /// `<path>.1` to `<path>.2` and so on, and a new file begins. At least 1KiB. A single line
    /// that is larger gets a file of its own.
    #[serde(default = "default_max_size")]
    max_size: Size,
    /// How many renamed files are kept, beside the one that is written: 0 to 99. The oldest is
    /// deleted.
    #[serde(default = "default_keep")]
    #[schemars(range(min = 0, max = 99))]
    keep: u8,
    /// A message counts as delivered once it is on the disk, safe from a power cut. With `false`,
    /// once the operating system has it: easier on flash memory, safe from a crash of Forebay only.
    #[serde(default = "default_sync")]
    sync: bool,
}

fn default_max_size() -> Size {
    Size(16 << 20)
}

fn default_keep() -> u8 {
    4
}

fn default_sync() -> bool {
    true
}

impl Settings for FileSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let FileSettings { path: text, format, max_size, keep, sync } = self;
        let path = PathBuf::from(&text);
        if path.file_name().is_none() || text.ends_with('/') || text.contains('\0') {
            let message = "`path` does not name a file";
            let label = "expected a path such as `/var/log/site.jsonl`";
            problems.push(Problem::new("path", message, label));
        } else if path.is_relative() {
            let message = "`path` depends on where Forebay is started";
            let label = "expected an absolute path, such as `/var/log/site.jsonl`";
            let problem = Problem::new("path", message, label);
            problems.push(problem.rule(&RELATIVE_PATH).warning());
        }
        if matches!(format, Format::Cbor | Format::Msgpack) {
            let message = "`format` is none that can be written in lines";
            problems.push(Problem::new("format", message, "expected `json`, `text` or `bytes`"));
        }
        if max_size < SMALLEST_FILE {
            let message = "`max_size` is too small";
            let label = format!("expected at least {SMALLEST_FILE}, found {max_size}");
            problems.push(Problem::new("max_size", message, label));
        }
        let appender = Appender { path, max_bytes: max_size.0, keep, sync };
        Some(FileSink { format, appender })
    }
}
