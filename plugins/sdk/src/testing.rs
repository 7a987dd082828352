//! For the tests of plugins: settings from text, and a place where a source's messages end.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::mpsc;

use crate::{
    connection::Shared,
    finding::Finding,
    message::Message,
    node::{Node, Port},
    outlet::{Envelope, Outlet, Wires},
    plugin::NodeType,
    settings::{Configured, Links, Memory},
    yaml::{self, Limits},
};

/// Reads settings from YAML as the engine does. The findings are those of the schema and of
/// [`crate::Settings::check`], each as `rule: message [label]`.
pub fn configure(node_type: &dyn NodeType, text: &str) -> Result<Arc<dyn Configured>, Vec<String>> {
    let mut findings = Vec::new();
    let tree = yaml::parse(text, 0, Limits::default(), &mut findings);
    let right = tree.filter(|tree| {
        let subject = format!("{} {}", node_type.name(), node_type.role().noun());
        yaml::check(tree, node_type.schema(), &subject, tree.span, &mut findings);
        findings.is_empty()
    });
    let configured = right.and_then(|tree| node_type.configure(&tree, &mut findings));
    let say =
        |finding: &Finding| format!("{}: {} [{}]", finding.rule, finding.message, finding.label);
    let mut said: Vec<String> = findings.iter().map(say).collect();
    if let Some(configured) = &configured {
        let problems = configured.check();
        said.extend(problems.iter().map(|p| format!("{}: {} [{}]", p.rule, p.message, p.label)));
    }
    match configured {
        Some(configured) if said.is_empty() => Ok(configured),
        _ => Err(said),
    }
}

/// Builds a node from YAML that must be right.
#[track_caller]
pub fn build(node_type: &dyn NodeType, text: &str, connection: Option<Shared>) -> Node {
    match configure(node_type, text) {
        Ok(configured) => configured.build(Links {
            name: "test/node".into(),
            folder: std::path::Path::new(".").into(),
            connection,
            memory: Memory::default(),
        }),
        Err(findings) => panic!("{findings:#?}"),
    }
}

/// Where an outlet's messages end.
pub struct Collected {
    /// What was sent, with the promise to deliver it: settle or drop it.
    pub envelopes: mpsc::Receiver<Envelope>,
    /// What was reported as an error.
    pub errors: mpsc::Receiver<String>,
    wires: Arc<Collector>,
}

impl Collected {
    /// From now on the outlet takes nothing new.
    pub fn drain(&self) {
        self.wires.draining.store(true, Ordering::Release);
    }
}

struct Collector {
    envelopes: mpsc::Sender<Envelope>,
    errors: mpsc::Sender<String>,
    waiting: Mutex<Vec<Envelope>>,
    draining: AtomicBool,
}

/// An outlet with room for `capacity` messages.
pub fn outlet(capacity: usize) -> (Outlet, Collected) {
    const ERRORS: usize = 1024;
    let (envelopes, envelopes_out) = mpsc::channel(capacity);
    let (errors, errors_out) = mpsc::channel(ERRORS);
    let collector = Collector {
        envelopes,
        errors,
        waiting: Mutex::default(),
        draining: AtomicBool::new(false),
    };
    let wires = Arc::new(collector);
    let outlet = Outlet::new("test/node", Arc::clone(&wires) as Arc<dyn Wires>);
    (outlet, Collected { envelopes: envelopes_out, errors: errors_out, wires })
}

impl Wires for Collector {
    fn post(&self, _: Port, envelope: Envelope) -> bool {
        match self.envelopes.try_send(envelope) {
            Ok(()) => true,
            Err(error) => {
                self.waiting.lock().expect("no test panics here").push(error.into_inner());
                false
            }
        }
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        async {
            loop {
                let Some(envelope) = self.waiting.lock().expect("no test panics here").pop() else {
                    return;
                };
                // A test that dropped its end wants no more.
                let _ = self.envelopes.send(envelope).await;
            }
        }
        .boxed()
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn report(&self, error: &anyhow::Error, _: Option<Message>) -> bool {
        let _ = self.errors.try_send(format!("{error:#}"));
        true
    }

    fn ready(&self) {}
}
