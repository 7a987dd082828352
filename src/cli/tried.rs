//! A transform that runs outside of any graph, on messages that it is handed.

use std::{path::Path, sync::Arc};

use forebay_sdk::{
    Configured, Delivery, Emitter, Input, Link, Message, Node, Port, Site, Transform, Voice, World,
};

/// Where its messages come from.
const INPUT: &str = "test";

/// The transform, and the names of its outputs.
pub(super) struct Tried {
    node: Box<dyn Transform>,
    outputs: Vec<String>,
}

impl Tried {
    /// Under a name. None for what is no transform.
    pub(super) fn new(name: &str, configured: &dyn Configured) -> Option<Tried> {
        let site = Site {
            name: name.into(),
            folder: Path::new(".").into(),
            data: Path::new("no-data").into(),
            connection: None,
            inputs: Arc::new([INPUT.into()]),
            memory: None,
            world: World::system(),
            voice: Voice::unheard(),
            link: Link::default(),
        };
        match configured.build(site) {
            Node::Transform(node) => Some(Tried { node, outputs: configured.outputs() }),
            _ => None,
        }
    }

    /// What comes of a message, each with the output on which it leaves.
    pub(super) fn send(&mut self, message: Message) -> anyhow::Result<Vec<(String, Message)>> {
        let mut out = Emitter::default();
        out.begin(None);
        let called = self.node.apply(Input { message, from: INPUT.into() }, &mut out);
        if let Err(error) = called.and_then(|()| out.end()) {
            Delivery::settle_all(out.discard());
            return Err(error);
        }
        let name = |port: Port| {
            let named = (0..).zip(&self.outputs).find(|(index, _)| Port::named(*index) == port);
            named.map_or("main", |(_, name)| name.as_str()).to_owned()
        };
        let made = out.drain().map(|(port, envelope)| {
            Delivery::settle_all(envelope.delivery);
            (name(port), envelope.message)
        });
        Ok(made.collect())
    }
}
