//! What users write under a `log` sink.

use std::io::{self, Write};

use forebay_sdk::{Configured, Problem, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{line::Layout, sink::Log};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// How a line looks.
    #[serde(default)]
    format: Layout,
    /// Where the lines go.
    #[serde(default)]
    to: Stream,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Stream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error, where the log of the program itself goes too.
    Stderr,
}

impl Settings for LogSettings {
    fn resolve(self, _: &mut Vec<Problem>) -> Option<impl Configured> {
        let open = match self.to {
            Stream::Stdout => || Box::new(io::stdout().lock()) as Box<dyn Write>,
            Stream::Stderr => || Box::new(io::stderr().lock()) as Box<dyn Write>,
        };
        Some(Log { layout: self.format, open })
    }
}
