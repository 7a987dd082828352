//! How messages become the body of a request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How messages become the body of a request.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shape {
    /// One request per message; its body is the payload.
    #[default]
    Single,
    /// Many messages per request, as an array of payloads; of one payload too.
    Array,
    /// Many messages per request, as JSON lines (`application/x-ndjson`).
    Lines,
}
