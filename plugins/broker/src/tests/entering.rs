//! Who gets in, by which way, and what they may do then.

use std::{fs, io};

use forebay_sdk::{
    password::Hashed,
    tls::{ClientCertificates, Oldest},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    access::{Access, Right, Rule, Whom},
    terms::ServerTls,
};

fn rule(filter: &str, right: Right) -> Rule {
    Rule { filter: filter.to_owned(), right, whom: Whom::Everybody }
}

async fn login(broker: &Running, user: &str, password: &str) -> Result<Client, ConnectionError> {
    let mut options = broker.options(&format!("{user}'s"));
    options.set_credentials(user, password.to_owned());
    Client::connect(options).await
}

#[tokio::test]
async fn users_with_digests_and_users_of_a_file_get_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let digest = Hashed::of(b"secret").unwrap().to_string();
    let line = |user: &str, password: &[u8]| format!("{user}:{}\n", Hashed::of(password).unwrap());
    fs::write(&file, line("meter", b"of the meter") + &line("plc", b"not that one")).unwrap();
    let mut settings = with_users(&["127.0.0.1:0"], &[("plc", &digest)]);
    Arc::make_mut(&mut settings.terms).password_file = Some(file.display().to_string());
    let broker = Running::start(settings.clone()).await;
    for _ in 0..2 {
        assert!(login(&broker, "plc", "secret").await.is_ok());
        assert!(login(&broker, "plc", "not that one").await.is_err());
        assert!(login(&broker, "meter", "of the meter").await.is_ok());
    }

    // The file is read again when the settings are, and a broken one leaves the users of before.
    fs::write(&file, "broken").unwrap();
    broker.adapt(&settings);
    let broken =
        |heard: &Heard| heard.said().troubles.iter().any(|it| it.contains("those of before"));
    soon(async {
        while !broken(&broker.heard) {
            yield_now().await;
        }
    })
    .await;
    assert!(login(&broker, "meter", "of the meter").await.is_ok());
    fs::write(&file, line("meter", b"another")).unwrap();
    broker.adapt(&settings);
    soon(async { while login(&broker, "meter", "another").await.is_err() {} }).await;
    assert!(login(&broker, "meter", "of the meter").await.is_err());
}

#[tokio::test]
async fn a_reload_of_users_threw_everybody_out() {
    let users = [("plc", "secret"), ("hmi", "secret"), ("old", "secret")];
    let settings = with_users(&["127.0.0.1:0"], &users);
    let mut broker = Running::start(settings.clone()).await;
    let mut plc = login(&broker, "plc", "secret").await.unwrap();
    let mut hmi = login(&broker, "hmi", "secret").await.unwrap();
    let mut old = login(&broker, "old", "secret").await.unwrap();
    plc.subscribe("t", QoS::AtLeastOnce).await;
    let mut changed = settings;
    let terms = Arc::make_mut(&mut changed.terms);
    terms.users = roll(&[("plc", "secret"), ("hmi", "changed"), ("new", "secret")]);
    terms.max_subscriptions = 2;
    broker.adapt(&changed);
    // Whose password is another, and who is no user any more.
    hmi.lost().await;
    old.lost().await;
    plc.ping().await;
    let mut new = login(&broker, "new", "secret").await.unwrap();
    new.publish("t", "1", QoS::AtLeastOnce, false).await;
    assert_eq!(plc.next().await.payload, "1");

    // Nobody is asked who is a user, from now on: plc stays all the same.
    Arc::make_mut(&mut changed.terms).listeners[0].anonymous = true;
    broker.adapt(&changed);
    let anonymous = broker.options("nameless");
    soon(async { while Client::connect(anonymous.clone()).await.is_err() {} }).await;
    plc.ping().await;
    broker.task.abort();
    assert!((&mut broker.task).await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn a_listener_that_a_reload_adds_is_there_and_one_that_it_takes_away_is_not() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut stays = broker.client("stays").await;
    let address = broker.addresses[0];
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut changed = settings(&["127.0.0.1:0", &free.to_string()]);
    broker.adapt(&changed);
    let at = |address: SocketAddr| {
        MqttOptions::new("second", (address.ip().to_string(), address.port()))
    };
    soon(async { while Client::connect(at(free)).await.is_err() {} }).await;
    let mut second = Client::connect(at(free)).await.unwrap();
    changed = settings(&["127.0.0.1:0"]);
    broker.adapt(&changed);
    second.lost().await;
    stays.ping().await;
    assert!(TcpStream::connect(address).await.is_ok());
    soon(async { while TcpStream::connect(free).await.is_ok() {} }).await;
}

#[tokio::test]
async fn rights_count_when_publishing_subscribing_and_delivering_and_for_wills() {
    let access = Access(vec![
        rule("own/%u/#", Right::Both),
        rule("plant/#", Right::Read),
        rule("plant/secret", Right::Neither),
    ]);
    let mut settings = with_users(&["127.0.0.1:0"], &[("plc", "a"), ("hmi", "b")]);
    Arc::make_mut(&mut settings.terms).access = Some(Arc::new(access));
    let broker = Running::start(settings).await;
    // What pipelines publish is nobody's right.
    broker.publish(publication("plant/kept", "kept", 1, true)).await;
    broker.publish(publication("plant/secret", "kept", 1, true)).await;
    let mut inside = broker.reader("inside", &["#"], 1, 100).granted().await;
    inside.next().await;
    inside.next().await;

    let mut plc = login(&broker, "plc", "a").await.unwrap();
    plc.client.subscribe("own/hmi/#", QoS::AtLeastOnce).await.unwrap();
    let code = plc
        .wait_for(|packet| match packet {
            Packet::SubAck(suback) => Some(suback.return_codes[0]),
            _ => None,
        })
        .await;
    assert_eq!(code, rumqttc::SubscribeReasonCode::Failure);
    plc.subscribe("#", QoS::AtLeastOnce).await;
    assert_eq!(plc.next().await.topic, "plant/kept");
    // Acknowledged, as MQTT 3.1.1 has no other answer, and thrown away.
    plc.publish("plant/a", "no", QoS::AtLeastOnce, false).await;
    plc.publish("own/hmi/a", "no", QoS::ExactlyOnce, false).await;
    let options = PublishOptions::new(QoS::AtLeastOnce);
    plc.client.publish("own/plc/a", "mine", options).await.unwrap();
    assert_eq!(plc.next().await.topic, "own/plc/a");
    assert_eq!(inside.next().await.topic.as_ref(), "own/plc/a");
    broker.publish(publication("own/hmi/b", "others", 1, false)).await;
    broker.publish(publication("plant/secret", "others", 1, false)).await;
    broker.publish(publication("plant/b", "plant", 1, false)).await;
    assert_eq!(plc.next().await.topic, "plant/b");

    let mut options = broker.options("dying");
    options.set_credentials("hmi", "b");
    options.set_last_will(will("plant/will", "no"));
    drop(Client::connect(options.clone()).await.unwrap());
    options.set_last_will(will("own/hmi/will", "yes"));
    drop(Client::connect(options).await.unwrap());
    for topic in ["own/hmi/b", "plant/secret", "plant/b", "own/hmi/will"] {
        assert_eq!(inside.next().await.topic.as_ref(), topic);
    }
    let troubles = broker.heard.said().troubles;
    let expected = [
        "refused the client `plc's` the filter `own/hmi/#`: `access` lets it read nothing of that",
        "threw away what the client `plc's` published to `plant/a`: `access` does not let it write there",
        "threw away what the client `plc's` published to `own/hmi/a`: `access` does not let it write there",
        "the will of the client `dying` is not published: `access` does not let it write to `plant/will`",
    ];
    assert!(expected.iter().all(|one| troubles.iter().any(|it| it == one)), "{troubles:#?}");
}

#[tokio::test]
async fn who_speaks_mqtt_5_is_told_that_it_has_no_right() {
    let mut settings = settings(&["127.0.0.1:0"]);
    Arc::make_mut(&mut settings.terms).access = Some(Arc::default());
    let broker = Running::start(settings).await;
    let mut stream = TcpStream::connect(broker.addresses[0]).await.unwrap();
    // CONNECT, PUBLISH of QoS 1 and of QoS 2, SUBSCRIBE.
    let connect = b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01d";
    let packets = [
        &connect[..],
        b"\x32\x06\0\x01t\0\x01\0",
        b"\x34\x06\0\x01t\0\x02\0",
        b"\x82\x07\0\x03\0\0\x01t\x01",
    ];
    stream.write_all(&packets.concat()).await.unwrap();
    let mut got = Vec::new();
    let all = |got: &[u8]| {
        let has = |packet: &[u8]| got.windows(packet.len()).any(|part| part == packet);
        has(b"\x40\x03\0\x01\x87") && has(b"\x50\x03\0\x02\x87") && has(b"\x90\x04\0\x03\0\x87")
    };
    soon(async {
        while !all(&got) {
            assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{got:x?}");
        }
    })
    .await;
}

/// A CA, and what it has issued.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn listener(&self, own: &(String, String)) -> Listener {
        Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            tls: Some(ServerTls {
                cert: own.0.clone(),
                key: Secret::new(&own.1),
                ca: Some(self.pem.clone()),
                clients: ClientCertificates::Required,
                names_users: true,
                oldest: Oldest::V12,
            }),
            websocket: None,
            anonymous: false,
        }
    }

    /// Connects by TLS, with a certificate or without.
    async fn connect(
        &self,
        to: SocketAddr,
        own: Option<&(String, String)>,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let tls = forebay_sdk::tls::Tls {
            folder: Path::new(".").into(),
            ca: Some(self.pem.clone()),
            cert: own.map(|(cert, _)| cert.clone()),
            key: own.map(|(_, key)| Secret::new(key)),
            oldest: Oldest::V12,
        };
        let connector = TlsConnector::from(Arc::new(tls.client_config().unwrap()));
        let stream = TcpStream::connect(to).await?;
        connector.connect("localhost".try_into().unwrap(), stream).await
    }
}

/// What comes back for a CONNECT and a PINGREQ. Nothing when the other side hangs up.
async fn greeting<S: AsyncReadExt + AsyncWriteExt + Unpin>(stream: &mut S) -> Vec<u8> {
    let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01d";
    if stream.write_all(&[&connect[..], b"\xc0\0"].concat()).await.is_err() {
        return Vec::new();
    }
    let _ = stream.flush().await;
    let mut got = Vec::new();
    while got.len() < 6 && matches!(soon(stream.read_buf(&mut got)).await, Ok(1..)) {}
    got
}

const GREETING: &[u8] = b"\x20\x02\0\0\xd0\0";

#[tokio::test]
async fn a_device_with_a_certificate_is_its_user_and_one_without_does_not_get_in() {
    let authority = Authority::new();
    let own = authority.issue("broker");
    let mut settings = settings(&["127.0.0.1:0"]);
    let terms = Arc::make_mut(&mut settings.terms);
    terms.listeners = vec![authority.listener(&own)];
    terms.access = Some(Arc::new(Access(vec![rule("own/%u", Right::Both)])));
    let broker = Running::start(settings.clone()).await;
    let (address, pump) = (broker.addresses[0], authority.issue("pump"));
    let mut inside = broker.reader("inside", &["#"], 1, 10).granted().await;
    let mut stream = authority.connect(address, Some(&pump)).await.unwrap();
    assert_eq!(greeting(&mut stream).await, GREETING);
    stream.write_all(b"\x30\x0b\0\x08own/pump1\x30\x0a\0\x07own/valv").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(inside.next().await.topic.as_ref(), "own/pump");

    let stranger = Authority::new().issue("pump");
    for own in [None, Some(&stranger)] {
        let got = match authority.connect(address, own).await {
            Err(_) => Vec::new(),
            Ok(mut stream) => greeting(&mut stream).await,
        };
        assert_eq!(got, b"");
    }

    // A certificate that is renewed is shown to who comes from now on, and nobody else notices.
    let renewed = authority.issue("renewed");
    Arc::make_mut(&mut settings.terms).listeners = vec![authority.listener(&renewed)];
    broker.adapt(&settings);
    soon(async {
        loop {
            let stream = authority.connect(address, Some(&pump)).await.unwrap();
            let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
            if forebay_sdk::tls::common_name(&shown).as_deref() == Some("renewed") {
                break;
            }
        }
    })
    .await;
    stream.write_all(b"\xc0\0").await.unwrap();
    stream.flush().await.unwrap();
    let mut pong = [0; 2];
    soon(stream.read_exact(&mut pong)).await.unwrap();
    assert_eq!(pong, *b"\xd0\0");
}

#[tokio::test]
async fn mqtt_comes_over_websocket_too_and_only_at_its_path() {
    let mut settings = settings(&["127.0.0.1:0"]);
    Arc::make_mut(&mut settings.terms).listeners[0].websocket = Some("/mqtt".to_owned());
    let broker = Running::start(settings).await;
    let connect = async |path: &str| {
        let stream = TcpStream::connect(broker.addresses[0]).await.unwrap();
        let uri = format!("ws://localhost{path}").parse().unwrap();
        let name = http::HeaderName::from_static("sec-websocket-protocol");
        let builder = tokio_websockets::ClientBuilder::from_uri(uri);
        let builder = builder.add_header(name, "mqtt".parse().unwrap()).unwrap();
        let (stream, _) = builder.connect_on(stream).await.unwrap();
        forebay_sdk::websocket::OverWebSocket::new(stream)
    };
    assert_eq!(greeting(&mut connect("/mqtt").await).await, GREETING);
    assert_eq!(greeting(&mut connect("/other").await).await, b"");
    // No WebSocket at all.
    let mut plain = TcpStream::connect(broker.addresses[0]).await.unwrap();
    let mut got = Vec::new();
    plain.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01d\r\n\r\n").await.unwrap();
    soon(plain.read_to_end(&mut got)).await.unwrap();
    assert!(got.starts_with(b"HTTP/1.1 400"), "{got:?}");
}
