//! Owns the connection: opens it, carries everything in and out, keeps it subscribed.

use std::{
    collections::BTreeMap, convert::Infallible, future::pending, path::Path, sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use forebay_sdk::{Connection, tls::Tls};
use rumqttc::{
    AckMode, AsyncClient, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Packet, QoS,
    SubscribeFilterInput, SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::time::{sleep_until, timeout};
use tracing::{info, warn};

use crate::{
    address::Address,
    inbound::Inbound,
    session::{Failures, Session},
    settings::SessionSettings,
    socket,
    words::explain,
};

/// The most publications on their way without an acknowledgement. AWS allows 100.
const MOST_IN_FLIGHT: u16 = 100;
/// The most requests that wait for the connection to take them.
const MOST_REQUESTS: usize = 128;
/// The most requests that leave in one write.
const MOST_IN_WRITE: usize = 64;
/// The most filters in one SUBSCRIBE. AWS allows 8.
const MOST_FILTERS: usize = 8;
/// How long one write may be stuck. The kernel notices a dead link earlier; this is for the rest.
const LONGEST_WRITE: Duration = Duration::from_secs(300);
/// How long the broker may take to answer a SUBSCRIBE.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

/// Runs one session. Each connection gets a new client and event loop of rumqttc: nothing of the
/// one before, such as an acknowledgement, can reach the new one.
pub struct Driver {
    settings: SessionSettings,
    /// Names of certificates are relative to it.
    folder: Arc<Path>,
    address: Result<Address, String>,
    client_id: String,
    session: Arc<Session>,
    failures: Failures,
    /// Stays when `run` is dropped, so that `close` can say good-bye.
    live: Option<(AsyncClient, EventLoop)>,
}

impl Driver {
    pub fn new(
        settings: SessionSettings,
        folder: Arc<Path>,
        address: Result<Address, String>,
        session: Arc<Session>,
        failures: Failures,
    ) -> Driver {
        // At most 23 letters and digits: every broker must take those [MQTT-3.1.3-5].
        let random = || format!("forebay{:012x}", fastrand::u64(..1 << 48));
        let client_id = settings.client_id.clone().unwrap_or_else(random);
        Driver { settings, folder, address, client_id, session, failures, live: None }
    }

    async fn serve(&mut self, ready: &(dyn Fn() + Send + Sync)) -> anyhow::Result<Infallible> {
        // What failed the connection before says nothing about this one.
        while self.failures.try_recv().is_ok() {}
        let address = self.address.clone().map_err(|error| anyhow!(error))?;
        let options = self.options(&address).await?;
        let (client, mut eventloop) = AsyncClient::builder(options)
            .capacity(MOST_REQUESTS)
            .try_build()
            .context("preparing the MQTT client")?;
        eventloop.set_network_options(network_options());
        let Driver { settings, session, failures, live, .. } = self;
        let (client, eventloop) = live.insert((client, eventloop));

        let resumed = open(eventloop, settings, &session.broker).await?;
        info!(broker = %session.broker, resumed, "connected");
        session.up(client.clone(), resumed);
        ready();
        // Each of these ends only with an error, and is never polled again then: `poll` of the
        // event loop must not be dropped half-way and called again.
        tokio::select! {
            error = carry(eventloop, settings, session) => Err(error),
            error = keep_subscribed(client, &session.inbound, &session.broker) => error,
            Some(error) = failures.recv() => Err(error),
        }
    }

    async fn options(&self, address: &Address) -> anyhow::Result<MqttOptions> {
        let settings = &self.settings;
        let broker = (address.endpoint.host.clone(), address.endpoint.port);
        let mut options = MqttOptions::new(self.client_id.clone(), broker);
        let most = self.session.max_packet;
        // The settings were checked: whole seconds that fit.
        let keep_alive = u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX);
        options
            .set_keep_alive(keep_alive)
            .set_clean_session(settings.clean_session)
            .set_max_packet_size(most, most)
            .set_ack_mode(AckMode::Manual)
            .set_inflight(MOST_IN_FLIGHT)
            .set_max_request_batch(MOST_IN_WRITE);
        match (&settings.username, &settings.password) {
            (Some(name), Some(password)) => {
                options.set_credentials(name.clone(), password.expose().to_owned());
            }
            (Some(name), None) => {
                options.set_username(name.clone());
            }
            (None, _) => (),
        }
        if let Some(will) = &settings.will {
            let payload = will.payload.clone();
            options.set_last_will(LastWill::new(
                will.topic.clone(),
                payload,
                qos(will.qos),
                will.retain,
            ));
        }
        if address.tls {
            let tls = Tls {
                folder: Arc::clone(&self.folder),
                ca: settings.ca.clone(),
                cert: settings.cert.clone(),
                key: settings.key.clone(),
            };
            let mut config = tokio::task::spawn_blocking(move || tls.client_config())
                .await
                .context("reading certificates")??;
            config.alpn_protocols =
                settings.alpn.iter().map(|name| name.clone().into_bytes()).collect();
            let tls = TlsConfiguration::Rustls(Arc::new(config));
            options.set_transport(Transport::tls_with_config(tls));
        }
        let (broker, silence) = (address.endpoint.clone(), settings.keep_alive.0);
        options.set_socket_connector(move |_, _| {
            let broker = broker.clone();
            async move { socket::connect(&broker, silence).await }
        });
        Ok(options)
    }
}

impl Connection for Driver {
    async fn run(&mut self, ready: &(dyn Fn() + Send + Sync)) -> anyhow::Result<()> {
        self.live = None;
        let stopped = OnDrop(Arc::clone(&self.session));
        let Err(error) = self.serve(ready).await;
        self.session.failed(&error);
        // Whoever waits for an acknowledgement learns now that it will not come.
        self.live = None;
        drop(stopped);
        Err(error)
    }

    async fn close(&mut self) {
        let Some((client, mut eventloop)) = self.live.take() else { return };
        if client.try_disconnect_now().is_err() {
            return;
        }
        // Ends with an error once the DISCONNECT is written, or when there is no connection.
        while eventloop.poll().await.is_ok() {}
    }
}

/// Tells the nodes when the engine drops `run`.
struct OnDrop(Arc<Session>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.stopped();
    }
}

/// The QoS of a checked setting.
pub fn qos(number: u8) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

fn network_options() -> NetworkOptions {
    let mut options = NetworkOptions::new();
    // rumqttc also bounds each write by this, so the time to connect is bounded by us.
    options.set_connection_timeout(LONGEST_WRITE.as_secs());
    options
}

/// Connects. True when the broker remembers the session.
async fn open(
    eventloop: &mut EventLoop,
    settings: &SessionSettings,
    broker: &str,
) -> anyhow::Result<bool> {
    let most = settings.connect_timeout;
    match timeout(most.0, eventloop.poll()).await {
        Err(_) => Err(anyhow!("the broker at {broker} did not answer within {most}")),
        Ok(Err(error)) => Err(explain(error, broker, settings)),
        Ok(Ok(Event::Incoming(Packet::ConnAck(answer)))) => Ok(answer.session_present),
        Ok(Ok(_)) => Err(anyhow!("{broker} does not answer as an MQTT broker does")),
    }
}

/// Carries packets until the connection ends.
async fn carry(
    eventloop: &mut EventLoop,
    settings: &SessionSettings,
    session: &Session,
) -> anyhow::Error {
    loop {
        match eventloop.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                if let Err(error) = session.inbound.arrived(&publish) {
                    return error;
                }
            }
            Ok(Event::Incoming(Packet::PubRel(release))) => session.inbound.released(release.pkid),
            Ok(_) => (),
            Err(error) => return explain(error, &session.broker, settings),
        }
        session.inbound.send_acks();
    }
}

/// Subscribes to what the sources ask for, as it changes.
async fn keep_subscribed(
    client: &AsyncClient,
    inbound: &Inbound,
    broker: &str,
) -> anyhow::Result<Infallible> {
    let mut granted = BTreeMap::new();
    loop {
        let wanted = inbound.wanted();
        let missing: Vec<(&String, u8)> = wanted
            .filters
            .iter()
            .filter(|(filter, qos)| granted.get(*filter).is_none_or(|have| have < *qos))
            .map(|(filter, qos)| (filter, *qos))
            .collect();
        let mut refused = Vec::new();
        for some in missing.chunks(MOST_FILTERS) {
            let answers = subscribe(client, some).await.with_context(|| asking(broker))?;
            for ((filter, asked), answer) in some.iter().zip(answers) {
                match answer {
                    SubscribeReasonCode::Failure => refused.push((*filter).clone()),
                    SubscribeReasonCode::Success(qos) => {
                        if (qos as u8) < *asked {
                            warn!(%broker, filter, qos = qos as u8, "granted a lower QoS");
                        }
                        granted.insert((*filter).clone(), *asked);
                    }
                }
            }
        }
        inbound.answered(&granted, &refused);

        let surplus: Vec<String> = granted
            .keys()
            .filter(|filter| !wanted.filters.contains_key(*filter) && !wanted.kept.contains(filter))
            .cloned()
            .collect();
        for some in surplus.chunks(MOST_FILTERS) {
            unsubscribe(client, some).await.with_context(|| asking(broker))?;
            granted.retain(|filter, _| !some.contains(filter));
        }

        let until = async {
            match wanted.until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = inbound.changed() => (),
            () = until => (),
        }
    }
}

fn asking(broker: &str) -> String {
    format!("asking the broker at {broker} for subscriptions")
}

async fn subscribe(
    client: &AsyncClient,
    filters: &[(&String, u8)],
) -> anyhow::Result<Vec<SubscribeReasonCode>> {
    let filters = filters.iter().map(|(f, number)| SubscribeFilterInput::new(*f, qos(*number)));
    let notice = client.subscribe_many_tracked(filters).await?;
    let answer =
        timeout(LONGEST_ANSWER, notice.wait_async()).await.context("no answer in time")??;
    Ok(answer.return_codes)
}

async fn unsubscribe(client: &AsyncClient, filters: &[String]) -> anyhow::Result<()> {
    let notice = client.unsubscribe_many_tracked(filters.iter()).await?;
    timeout(LONGEST_ANSWER, notice.wait_async()).await.context("no answer in time")??;
    Ok(())
}
