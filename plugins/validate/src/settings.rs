//! What users write under a `validate` transform.

use forebay_sdk::{Configured, Path, Problem, Settings, Value};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{schema::Schema, transform::Validate};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValidateSettings {
    /// A JSON Schema, written as YAML or pasted as JSON: `{ type: object, required: [power] }`.
    schema: serde_json::Map<String, Value>,
    /// The field that must fit it: `reading`, or `.` for the whole payload.
    #[serde(default)]
    field: Path,
}

impl Settings for ValidateSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let ValidateSettings { schema, field } = self;
        if schema.is_empty() {
            let message = "a `schema` that says nothing fits everything";
            problems.push(Problem::new(
                "schema",
                message,
                "expected one such as `{ type: object }`",
            ));
        }
        let schema = Schema::resolve(Value::Object(schema), problems)?;
        Some(Validate { schema, field })
    }
}
