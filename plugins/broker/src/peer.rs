//! The broker at the other end of an `mqtt` connection, for tests of pipelines: this one, in a world in memory.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use forebay_sdk::{
    Configured, Finding, Links, Message, Node, Peer, Settings, Shared, ShortOr, Site, Value, Voice,
    connection::DynConnection,
    mqtt::Broker,
    peer::{Onlooker, Played, Side, Stage},
    schema_of,
    yaml::{self, Yaml},
};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::time::{Instant, sleep};

use crate::{connection::BrokerConnection, settings::BrokerSettings};

/// What the broker of a test has to do without: it is where its connection looks for it, and is gone with the test.
const NOT_IN_TESTS: [&str; 4] = ["listen", "store", "sync", "password_file"];

/// The peer.
pub fn peer() -> Peer {
    Peer {
        side: Side::Connection("mqtt"),
        summary: "An MQTT broker: that of `type: broker`, with its settings.",
        schema,
        play: |stage| Box::new(Playing::new(stage)),
    }
}

fn schema() -> Value {
    let mut schema = schema_of::<BrokerSettings>();
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.retain(|name, _| !NOT_IN_TESTS.contains(&name.as_str()));
    }
    schema
}

/// A broker that is played.
struct Playing {
    stage: Stage,
    configured: Option<BrokerConnection>,
    running: Option<Running>,
    onlooker: Onlooker,
}

#[derive(Clone)]
struct Running {
    shared: Shared,
    broker: Arc<Broker>,
}

impl Playing {
    fn new(stage: Stage) -> Playing {
        Playing { stage, configured: None, running: None, onlooker: Onlooker::default() }
    }
}

impl Played for Playing {
    fn tell(&mut self, said: &Yaml, findings: &mut Vec<Finding>) {
        let Some(mut settings) = yaml::decode::<BrokerSettings>(said, "the broker", findings)
        else {
            return;
        };
        settings.listen = vec![ShortOr::Short(self.stage.address.to_string())];
        settings.anonymous.get_or_insert(settings.users.is_none());
        let mut problems = Vec::new();
        let configured = settings.resolve(&mut problems);
        // Who may come in is the test's business.
        problems.retain(|problem| problem.level == forebay_sdk::Level::Error);
        findings.extend(problems.into_iter().map(|problem| problem.at(|path| said.at(path).span)));
        let configured = configured
            .map(|configured| Box::new(configured) as Box<dyn std::any::Any>)
            .and_then(|configured| configured.downcast::<BrokerConnection>().ok());
        let Some(configured) = configured else { return };
        if let Some(Running { shared, .. }) = &self.running {
            configured.adapt(shared);
        }
        self.configured = Some(*configured);
    }

    fn serve(&mut self) -> BoxFuture<'static, ()> {
        let Stage { memory, places, address, data, .. } = &self.stage;
        let configured = self.configured.as_ref().expect("told before it serves");
        let at: SocketAddr = *address;
        places.iter().for_each(|place| memory.name(place, &at.to_string()));
        let site = Site {
            name: "broker".into(),
            folder: data.as_path().into(),
            data: data.as_path().into(),
            connection: None,
            inputs: Arc::new([]),
            memory: None,
            world: memory.world(),
            voice: Voice::unheard(),
            links: Links::default(),
        };
        let Node::Connection(shared, connection) = configured.build(site) else {
            unreachable!("a broker is a connection")
        };
        let broker: Arc<Broker> = shared.get().expect("a broker offers itself");
        let reads = self.onlooker.clone().read(Arc::clone(&broker));
        self.running = Some(Running { shared, broker });
        async { _ = tokio::join!(reads, keep_up(connection)) }.boxed()
    }

    fn send(&self, message: Message) -> BoxFuture<'static, anyhow::Result<()>> {
        let running = self.running.clone();
        async move {
            let running = running.context("the broker does not run yet")?;
            Onlooker::publish(&running.broker, &message).await
        }
        .boxed()
    }

    fn taken(&self) -> Vec<(Instant, Message)> {
        self.onlooker.taken()
    }
}

async fn keep_up(mut connection: Box<dyn DynConnection>) {
    loop {
        // It serves until dropped, unless something is wrong with it that its voice would tell.
        let _ = connection.run(&Voice::unheard()).await;
        sleep(Duration::from_secs(1)).await;
    }
}
