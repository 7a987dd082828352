//! The router's inputs and outputs, for nodes that know of inputs and outputs and not of routers.

use std::collections::BTreeMap;

use forebay_sdk::{WriteError, panel::Panel};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::Value;

use crate::{
    action::Action, group::Group, modem::Identifiers, router::SharedRouter, sink::explain,
};

impl Panel for SharedRouter {
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { Ok(SharedRouter::ready(self).await?) }.boxed()
    }

    /// Those that are digital.
    fn levels(&self) -> BoxFuture<'_, anyhow::Result<BTreeMap<String, bool>>> {
        async {
            let groups = self.read(vec![Group::Io], Identifiers::Hidden).await?;
            let pins = groups.get(Group::Io.name()).and_then(Value::as_object);
            let digital = pins.into_iter().flatten();
            Ok(digital.filter_map(|(name, pin)| Some((name.clone(), pin.as_bool()?))).collect())
        }
        .boxed()
    }

    fn counts(&self) -> BoxFuture<'_, anyhow::Result<BTreeMap<String, u64>>> {
        async {
            let groups = self.read(vec![Group::Pulses], Identifiers::Hidden).await?;
            let pins = groups.get(Group::Pulses.name()).and_then(Value::as_object);
            let counts = pins.into_iter().flatten();
            Ok(counts.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect())
        }
        .boxed()
    }

    fn set(&self, name: &str, level: bool) -> BoxFuture<'_, Result<(), WriteError>> {
        let action = Action::Output { name: name.to_owned(), on: level };
        async { self.act(vec![action]).await.map_err(explain) }.boxed()
    }
}
