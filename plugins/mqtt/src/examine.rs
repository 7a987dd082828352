//! Tries the way to a broker step by step, for `forebay doctor`: as a session goes, and with nothing
//! left behind.

use std::{io, sync::Arc, time::Duration};

use anyhow::anyhow;
use forebay_sdk::{
    Examination, Timestamp, Voice,
    mqtt::{Manner, Publication},
    world::Dial,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    address::Address,
    client::{Arrival, Client, Hello, Limits, Line, Untaken, Welcome},
    inbound::Inbound,
    source::MqttSource,
    understood::MqttConnection,
    version::Version,
    websocket::upgrade,
    wire::{Beheaded, Bytes, Told, Way, cut, server_name},
    words::OtherVersion,
};

const LOGIN: &str = "login";
const SUBSCRIBE: &str = "subscribe";
const PUBLISH: &str = "publish";
/// The most filters that are tried.
const MOST_FILTERS: usize = 50;
/// How long a message may take to the broker and back. Ample for a mobile link.
const LONGEST_ROUND: Duration = Duration::from_secs(15);

/// Looks at everything that can go wrong between here and a broker.
pub async fn examine(settings: &MqttConnection, asked: &Examination<'_>) {
    for address in settings.addresses() {
        examine_at(address, settings, asked).await;
    }
}

/// Looks at one of the broker's addresses.
async fn examine_at(address: &Address, settings: &MqttConnection, asked: &Examination<'_>) {
    let Some(()) = shake_hands(address, settings, asked).await else { return };
    let (hello, _) = settings.hello(Timestamp::now());
    let hello = Hello { birth: None, goodbye: None, ..hello };
    let Some(open) = log_in(address, settings, hello, asked).await else { return };
    let Open { mut line, client } = open;
    let (heard, hear) = watch::channel(String::new());
    let try_all = async {
        subscribe(&client, asked).await?;
        publish(settings, &client, hear, asked).await
    };
    // Messages are read and not acknowledged: the broker sends them again to whom they are for.
    let lost = tokio::select! {
        biased;
        error = listen(&mut line, &heard) => Some(error),
        done = try_all => done.err(),
    };
    match lost {
        Some(error) => asked.wrong(
            PUBLISH,
            format!("{error:#}"),
            "the broker may not allow what was subscribed to or published last; `--topic` tries another topic",
        ),
        None => line.close(None).await,
    }
}

/// From the name of the host to the end of the TLS handshake.
async fn shake_hands(
    address: &Address,
    settings: &MqttConnection,
    asked: &Examination<'_>,
) -> Option<()> {
    const WEBSOCKET: &str = "WebSocket";
    let most = settings.connect_timeout;
    let config = match address.tls {
        true => {
            let tls = settings.certificates(Arc::clone(&asked.site.folder));
            Some(settings.with_options(asked.read_certificates(&tls).await?))
        }
        false => None,
    };
    let words = settings.words(address);
    let dial = Dial { via: settings.via.clone(), ..Dial::new(address.endpoint.clone()) };
    let plain = asked.reach(dial, most).await?;
    let stream: Box<dyn Bytes> = match config {
        None => Box::new(plain),
        Some(config) => {
            let name = match server_name(settings.server_name.as_deref(), &address.endpoint) {
                Ok(name) => name,
                Err(error) => {
                    asked.wrong("TLS", error.to_string(), "write a host name in `url`");
                    return None;
                }
            };
            let explain = |error: io::Error| words.explain_io(cut(error));
            Box::new(asked.shake_hands(plain, name, config, most, explain).await?)
        }
    };
    let Some(websocket) = address.websocket(&settings.headers) else { return Some(()) };
    match timeout(*most, upgrade(stream, &websocket)).await {
        Ok(Ok(_)) => {
            let path = address.path.as_deref().unwrap_or_default();
            asked.fine(WEBSOCKET, format!("{address} speaks it at `{path}`"));
            Some(())
        }
        Ok(Err(error)) => {
            asked.wrong(WEBSOCKET, format!("{:#}", words.explain_io(error)), "");
            None
        }
        Err(_) => {
            let seen = format!("{address} does not answer to the request for it within {most}");
            asked.wrong(WEBSOCKET, seen, "is that the port for it?");
            None
        }
    }
}

/// A connection that the broker has let in.
struct Open {
    line: Line,
    client: Client,
}

/// Says who we are.
async fn log_in(
    address: &Address,
    settings: &MqttConnection,
    hello: Hello,
    asked: &Examination<'_>,
) -> Option<Open> {
    let error = match connect(address, settings, &hello, asked).await {
        Ok((open, version, Welcome { resumed, limits, .. })) => {
            let who = match &settings.client_id {
                Some(id) => format!("as `{id}`"),
                None => "under a random client id".to_owned(),
            };
            let session = if resumed { ", and remembers the session" } else { "" };
            let limits = limited(limits);
            asked.fine(
                LOGIN,
                format!("the broker lets us in {who} with MQTT {version}{session}{limits}"),
            );
            return Some(open);
        }
        Err(error) => error,
    };
    let seen = format!("{error:#}");
    // Mosquitto and others refuse everything for a will on a topic that is not ours.
    if hello.will.is_some() {
        let without = Hello { will: None, ..hello.clone() };
        if let Ok((open, ..)) = connect(address, settings, &without, asked).await {
            open.line.close(None).await;
            let seen = format!("{seen}; without the `will` it lets us in");
            asked.wrong(
                LOGIN,
                seen,
                "ask the broker's admin for the right to publish to the topic of the `will`",
            );
            return None;
        }
    }
    asked.wrong(LOGIN, seen, "");
    None
}

fn limited(limits: Limits) -> String {
    let mut limited = String::new();
    if limits.max_packet < u64::MAX {
        limited += &format!("; it takes {} bytes at most", limits.max_packet);
    }
    if limits.max_qos < 2 {
        limited += &format!("; its highest QoS is {}", limits.max_qos);
    }
    if !limits.keeps_retained {
        limited += "; it keeps no retained messages";
    }
    limited
}

/// Connects in the version of the settings, or in that which the broker speaks.
async fn connect(
    address: &Address,
    settings: &MqttConnection,
    hello: &Hello,
    asked: &Examination<'_>,
) -> anyhow::Result<(Open, Version, Welcome)> {
    let first = settings.version.unwrap_or(Version::V5);
    match connect_in(first, address, settings, hello, asked).await {
        Ok((open, welcome)) => Ok((open, first, welcome)),
        Err(error) if error.is::<OtherVersion>() && settings.version.is_none() => {
            let (open, welcome) =
                connect_in(first.other(), address, settings, hello, asked).await?;
            Ok((open, first.other(), welcome))
        }
        Err(error) => match error.downcast::<OtherVersion>() {
            Ok(other) => Err(other.into_error(settings.version)),
            Err(error) => Err(error),
        },
    }
}

async fn connect_in(
    version: Version,
    address: &Address,
    settings: &MqttConnection,
    hello: &Hello,
    asked: &Examination<'_>,
) -> anyhow::Result<(Open, Welcome)> {
    let (words, most) = (settings.words(address), settings.connect_timeout);
    let way = Way {
        world: asked.site.world.clone(),
        broker: address.endpoint.clone(),
        keep_alive: settings.keep_alive.0,
        via: settings.via.clone(),
        tls: settings.tls(address, &asked.site.folder).await?,
        server_name: settings.server_name.clone(),
        websocket: address.websocket(&settings.headers),
        max_packet: (version == Version::V4).then_some(hello.max_packet),
        gate: Arc::clone(&Inbound::new(Voice::unheard()).gate),
        beheaded: Beheaded::default(),
        told: Told::default(),
        is_bridge: version == Version::V4 && settings.is_bridge,
        voice: Voice::unheard(),
    };
    let id = settings.client_id_or_random();
    let (mut line, mut client, _) = Line::new(version, &id, hello, way, words.clone(), None)?;
    let opened = timeout(most.0, line.open()).await;
    let welcome = opened.unwrap_or_else(|_| {
        let broker = &words.broker;
        Err(anyhow!("the broker at {broker} did not answer within {most}"))
    })?;
    client.limits = settings.limits(welcome.limits);
    Ok((Open { line, client }, welcome))
}

/// Reads what comes, and tells the payload of each message. Ends with the connection.
async fn listen(line: &mut Line, heard: &watch::Sender<String>) -> anyhow::Error {
    loop {
        match line.next().await {
            Ok(Arrival::Publish { publication, .. }) => {
                heard.send_replace(String::from_utf8_lossy(&publication.payload).into_owned());
            }
            Ok(_) => (),
            Err(error) => return error,
        }
    }
}

/// Asks for what the sources on the connection ask for.
async fn subscribe(client: &Client, asked: &Examination<'_>) -> anyhow::Result<()> {
    let sources = asked.users.iter().filter_map(|(name, user)| {
        let source = user.downcast_ref::<MqttSource>()?;
        Some(source.filters.iter().map(move |filter| (*name, filter.as_str(), source.manner)))
    });
    for (name, filter, manner) in sources.flatten().take(MOST_FILTERS) {
        // Who joins a group takes messages away from the others.
        if filter.starts_with("$share/") {
            asked.fine(
                SUBSCRIBE,
                format!("`{filter}` of `{name}` is shared with others, and not tried"),
            );
            continue;
        }
        let answers = client.subscribe(&[(filter.to_owned(), manner)], None).await?;
        match answers.first() {
            Some(Err(why)) => asked.wrong(
                SUBSCRIBE,
                format!("the broker refused `{filter}` of `{name}`: {why}"),
                "ask its admin for the right to subscribe to that",
            ),
            Some(Ok(qos)) if *qos < manner.qos => asked.doubt(
                SUBSCRIBE,
                format!("the broker grants only QoS {qos} for `{filter}` of `{name}`"),
                "",
            ),
            _ => asked.fine(SUBSCRIBE, format!("`{filter}` of `{name}` is granted")),
        }
    }
    Ok(())
}

/// Sends a message to ourselves.
async fn publish(
    settings: &MqttConnection,
    client: &Client,
    mut hear: watch::Receiver<String>,
    asked: &Examination<'_>,
) -> anyhow::Result<()> {
    if let (None, Some(demands)) = (asked.topic, settings.demands) {
        // There are topics on which these hang up.
        let seen = format!("no test message is sent: `{}` does not take any topic", demands.name);
        asked.fine(PUBLISH, format!("{seen}; `--topic` names one that it does"));
        return Ok(());
    }
    let id = settings.client_id.as_deref().unwrap_or("anybody").replace(['+', '#', '/'], "_");
    let topic = asked.topic.map_or_else(|| format!("forebay/doctor/{id}"), str::to_owned);
    let help = match asked.topic {
        Some(_) => "ask its admin for the right to that topic",
        None => "`--topic` tries a topic that is this client's",
    };
    // What was to be tried must work; a topic of our own need not be allowed.
    let refused = |what: &'static str, seen: String| match asked.topic {
        Some(_) => asked.wrong(what, seen, help),
        None => asked.doubt(what, seen, help),
    };
    let granted = client.subscribe(&[(topic.clone(), Manner::of_qos(0))], None).await?;
    if let Some(Err(why)) = granted.first() {
        refused(SUBSCRIBE, format!("the broker refused the test topic `{topic}`: {why}"));
    }
    let payload = format!("forebay doctor {:016x}", fastrand::u64(..));
    let qos = client.limits.max_qos.min(1);
    let began = Instant::now();
    let publication = Publication::new(topic.clone(), payload.clone()).qos(qos);
    let told = async { client.publish(publication, qos).await?.taken().await };
    let is_taken = match timeout(LONGEST_ROUND, told).await {
        Ok(Ok(())) => true,
        Ok(Err(Untaken::Refused(why))) => {
            refused(PUBLISH, format!("the broker refused the message on `{topic}`: {why}"));
            false
        }
        // Whoever carries the connection knows more.
        Ok(Err(Untaken::Lost)) => std::future::pending().await,
        Err(_) => {
            asked.wrong(
                PUBLISH,
                "the broker acknowledges nothing",
                "it may be stuck: ask its admin",
            );
            false
        }
    };
    if is_taken && granted.first().is_some_and(Result::is_ok) {
        match timeout(LONGEST_ROUND, hear.wait_for(|heard| *heard == payload)).await {
            Ok(Ok(_)) => {
                let ms = began.elapsed().as_millis();
                asked.fine(PUBLISH, format!("a message on `{topic}` came back after {ms} ms"));
            }
            _ => refused(
                PUBLISH,
                format!(
                    "the broker acknowledged a message on `{topic}` and did not send it back: it may not allow it"
                ),
            ),
        }
    }
    // A session that is kept must not have it afterwards, unless it is that of a source.
    let mut sources = asked.users.iter().filter_map(|(_, user)| user.downcast_ref::<MqttSource>());
    match sources.any(|source| source.filters.iter().any(|filter| filter.as_str() == topic)) {
        true => Ok(()),
        false => client.unsubscribe(&[topic]).await,
    }
}
