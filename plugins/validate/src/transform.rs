//! What fits goes on; the rest are errors.

use anyhow::{anyhow, bail};
use forebay_sdk::{Configured, Emitter, Fields, Input, Node, Path, Site, Topics, Transform};

use crate::schema::Schema;

/// The most misfits that an error tells.
const MOST_TOLD: usize = 5;

/// A node that was understood. It remembers nothing.
#[derive(Clone)]
pub(crate) struct Validate {
    pub schema: Schema,
    pub field: Path,
}

impl Configured for Validate {
    fn build(&self, _: Site) -> Node {
        Node::transform(self.clone())
    }

    fn fields(&self) -> Fields {
        Fields::passing(self.field.reads("field"))
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

impl Transform for Validate {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let field = &self.field;
        let value = field.find(&input.message.payload)?;
        let value = value.ok_or_else(|| anyhow!("`{field}` is missing, which is to be checked"))?;
        let misfits = self.schema.misfits(value, &field.to_string());
        match misfits.len() {
            0 => out.emit(input.message),
            count if count > MOST_TOLD => {
                let told = misfits[..MOST_TOLD].join("; ");
                bail!("{told}; and {} more", count - MOST_TOLD)
            }
            _ => bail!("{}", misfits.join("; ")),
        }
        Ok(())
    }
}
