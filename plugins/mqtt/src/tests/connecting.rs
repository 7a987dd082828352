//! How a connection begins, fails and ends.

use forebay_sdk::{Configured, connection::Down};
use futures_util::FutureExt;
use rumqttc::{ConnectAuth, ConnectReturnCode, Packet, PubAck, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    peer::{self, Port},
    *,
};
use crate::{cloud::TokenMaker, understood::MqttConnection};

#[tokio::test]
async fn connect_says_who_we_are() {
    let port = Port::open().await;
    let settings = format!(
        "url: {}\nclient_id: site-a\nusername: me\npassword: secret\nclean_session: false\n\
         keep_alive: 2m\nwill: {{ topic: site/a/state, payload: gone, qos: 1, retain: true }}",
        port.url()
    );
    let _running = Running::start(&settings);
    let connect = port.accept().await.welcome(false).await;
    assert_eq!((connect.client_id.as_str(), connect.clean_session), ("site-a", false));
    assert_eq!(connect.keep_alive, 120);
    let expected =
        ConnectAuth::UsernamePassword { username: "me".into(), password: "secret".into() };
    assert_eq!(connect.auth, expected);
    let will = connect.last_will.unwrap();
    assert_eq!((will.topic.as_str(), &will.message[..]), ("site/a/state", &b"gone"[..]));
    assert_eq!((will.qos, will.retain), (QoS::AtLeastOnce, true));
}

#[tokio::test]
async fn a_generated_client_id_stays_the_same_across_reconnects() {
    let port = Port::open().await;
    let _running = Running::start(&format!("url: {}", port.url()));
    let first = port.accept().await.welcome(false).await;
    let second = port.accept().await.welcome(false).await;
    assert_eq!(first.client_id, second.client_id);
    let plain = first.client_id.chars().all(|c| c.is_ascii_alphanumeric());
    assert!(plain && first.client_id.len() <= 23, "{}", first.client_id);
    assert!(first.clean_session && first.auth == ConnectAuth::None && first.last_will.is_none());
}

#[tokio::test]
async fn a_refusal_is_said_in_words() {
    let port = Port::open().await;
    let mut running = Running::start(&format!("url: {}\nconnect_timeout: 5s", port.url()));
    let broker = format!("127.0.0.1:{}", port.number());
    for (code, why) in [
        (ConnectReturnCode::BadUserNamePassword, "bad user name or password"),
        (ConnectReturnCode::NotAuthorized, "not authorized; it may want `username` and `password`"),
        (
            ConnectReturnCode::BadClientId,
            "it does not accept a generated client id; set `client_id`",
        ),
        (
            ConnectReturnCode::RefusedProtocolVersion,
            "it does not speak MQTT 3.1.1; write `version: \"5\"`",
        ),
        (ConnectReturnCode::ServiceUnavailable, "it is not available at the moment"),
    ] {
        port.accept().await.greet(code, false).await;
        let expected = format!("the broker at {broker} refused the connection: {why}");
        assert_eq!(running.error().await, expected);
    }
}

#[tokio::test]
async fn a_bridge_says_so_and_is_told_when_it_is_not_wanted() {
    let port = Port::open().await;
    let mut running = Running::start(&format!("url: {}\nbridge: true", port.url()));
    let mut stream = port.accept_tcp().await;
    let mut connect = [0; 9];
    soon(stream.read_exact(&mut connect)).await.unwrap();
    assert_eq!(connect[4..], *b"MQTT\x84");
    // CONNACK: unacceptable protocol version.
    soon(stream.write_all(&[0x20, 2, 0, 1])).await.unwrap();
    let broker = format!("127.0.0.1:{}", port.number());
    let expected = format!(
        "the broker at {broker} refused the connection: it does not take `bridge: true` with MQTT 3.1.1; \
         write `version: \"5\"`"
    );
    assert_eq!(running.error().await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_lazy_session_connects_for_what_is_said_and_hangs_up_in_silence() {
    let (door, running) = Running::in_memory("start: lazy\nidle_close: 30s");
    let mut sink = running.sink("topic: t");
    sink.connect().await.unwrap();
    let nobody = tokio::time::timeout(Duration::from_secs(3600), door.accept()).await;
    assert!(nobody.is_err(), "nothing was said");
    for _ in 0..2 {
        let broker = async {
            let mut peer = peer::at(&door).await;
            peer.welcome(false).await;
            let published = peer.acknowledge().await;
            (peer, published)
        };
        let batch = [message("", 1)];
        let (written, (mut peer, _)) = tokio::join!(sink.write(&batch), broker);
        written.unwrap();
        let said = Instant::now();
        assert!(matches!(peer.recv().await, Packet::Disconnect), "it says good-bye");
        assert_eq!(said.elapsed().as_secs(), 30);
        assert!(peer.try_recv().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lazy_session_that_cannot_connect_is_tried_again_while_something_waits() {
    let (door, mut running) = Running::in_memory("start: lazy");
    let mut sink = running.sink("topic: t");
    let batch = [message("", 1)];
    let broker = async {
        for _ in 0..2 {
            peer::at(&door).await.greet(ConnectReturnCode::ServiceUnavailable, false).await;
            running.error().await;
        }
        let mut peer = peer::at(&door).await;
        peer.welcome(false).await;
        peer.acknowledge().await;
        peer
    };
    let (written, _peer) = tokio::join!(sink.write(&batch), broker);
    written.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_starts_once_is_not_connected_again() {
    let (door, mut running) = Running::in_memory("start: once");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    drop(peer);
    let again = tokio::time::timeout(Duration::from_secs(3600), door.accept()).await;
    assert!(again.is_err() && running.errors.try_recv().is_err());
    let said = running.heard.said();
    let why = said.lasting.get("it is not connected again (`start: once`)");
    assert_eq!(why.unwrap(), "the broker at broker:1883 closed the connection");
}

#[test]
fn idle_close_is_checked() {
    let said = |text: &str| {
        forebay_sdk::testing::configure(&crate::connection(), &format!("url: mqtt://b\n{text}"))
            .err()
    };
    assert_eq!(said("start: lazy\nidle_close: 5m"), None);
    assert_eq!(
        said("idle_close: 5m").unwrap(),
        [
            "setting-value: `idle_close` has no use with `start: always` [expected `start: lazy` beside it]"
        ]
    );
    assert_eq!(
        said("start: lazy\nidle_close: 2d").unwrap(),
        ["setting-value: `idle_close` is out of range [expected `1s` to `1d`]"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_sink_waits_for_the_connection_and_says_nothing_of_its_own() {
    let (door, mut running) = Running::in_memory("connect_timeout: 2m");
    let mut sink = running.sink("topic: t");
    let began = Instant::now();
    let broker = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            peer::at(&door).await.greet(ConnectReturnCode::ServiceUnavailable, false).await;
            running.error().await;
        }
        let mut peer = peer::at(&door).await;
        peer.welcome(false).await;
        peer
    };
    let (connected, peer) = tokio::join!(sink.connect(), broker);
    connected.unwrap();
    assert_eq!(began.elapsed().as_secs(), 180);
    drop(peer);
    running.error().await;
    let Err(WriteError::Retry { error, .. }) = sink.write(&[message("", 1)]).await else {
        panic!("nobody is there")
    };
    assert!(error.is::<Down>(), "{error:#}");
}

#[tokio::test]
async fn what_is_no_broker_is_said_in_words() {
    let port = Port::open().await;
    let broker = format!("127.0.0.1:{}", port.number());
    let mut running = Running::start(&format!("url: {}\nconnect_timeout: 1s", port.url()));

    port.accept_tcp().await.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let other = format!("{broker} closed the connection within a packet; is it an MQTT broker?");
    assert_eq!(running.error().await, other);

    drop(port.accept().await);
    let unanswered = format!(
        "the broker at {broker} closed the connection before it answered; if it speaks TLS on that \
         port, write `mqtts://` in `url`"
    );
    assert_eq!(running.error().await, unanswered);

    // What OpenSSL says to whoever does not begin with TLS.
    port.accept_tcp().await.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).await.unwrap();
    let tls = format!("{broker} speaks TLS on that port: write `mqtts://` in `url`");
    assert_eq!(running.error().await, tls);

    let silent = port.accept().await;
    // The clock jumps to the end of the attempt.
    tokio::time::pause();
    let nothing = format!("the broker at {broker} did not answer within 1s");
    assert_eq!(running.error().await, nothing);
    tokio::time::resume();
    drop(silent);

    drop(port);
    // One more attempt may have been under way.
    let nothing = format!("nothing listens at {broker}");
    soon(async { while running.error().await != nothing {} }).await;
}

#[tokio::test]
async fn ready_is_told_once_the_broker_has_answered() {
    let port = Port::open().await;
    let (_, mut connection) = connection(&format!("url: {}", port.url()), site(None));
    let (voice, heard) = voice();
    let _task = Task(tokio::spawn(async move {
        let _ = connection.run(&voice).await;
    }));
    let mut peer = port.accept().await;
    assert_eq!(heard.said().ready, 0);
    peer.welcome(false).await;
    soon(async {
        while heard.said().ready == 0 {
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_closed_says_good_bye() {
    let port = Port::open().await;
    let (_, mut connection) = connection(&format!("url: {}", port.url()), site(None));
    let (voice, heard) = voice();
    let mut peer = {
        let mut run = connection.run(&voice);
        let greeted = async {
            let mut peer = port.accept().await;
            peer.welcome(false).await;
            while heard.said().ready == 0 {
                yield_now().await;
            }
            peer
        };
        soon(async {
            tokio::select! {
                peer = greeted => peer,
                ended = &mut run => panic!("{ended:?}"),
            }
        })
        .await
    };
    soon(connection.close()).await;
    // The broker keeps the will to itself then.
    assert_eq!(peer.recv().await, Packet::Disconnect);
    // Closing what is closed, or what never was open, does nothing.
    soon(connection.close()).await;
}

const STATUS: &str = "will: { topic: state, payload: offline, qos: 1, retain: true }\n\
                      birth: { payload: online }";

fn status(publish: &rumqttc::Publish) -> (&[u8], &[u8], bool) {
    (&publish.topic, &publish.payload, publish.retain)
}

#[tokio::test(start_paused = true)]
async fn a_birth_comes_first_on_every_connection_also_after_a_break() {
    let (door, mut running) = Running::in_memory(STATUS);
    let mut sink = running.sink("topic: t");
    for _ in 0..2 {
        let mut peer = peer::at(&door).await;
        peer.welcome(false).await;
        let birth = peer.published().await;
        assert_eq!(status(&birth), (&b"state"[..], &b"online"[..], true));
        // Until the broker has it, nobody else publishes.
        assert!(sink.connect().now_or_never().is_none());
        peer.send(Packet::PubAck(PubAck::new(birth.pkid))).await;
        let batch = [message("", 1)];
        let write = async {
            soon(sink.connect()).await.unwrap();
            sink.write(&batch).await
        };
        let (written, next) = tokio::join!(write, peer.acknowledge());
        assert_eq!((said(written), &next.topic[..]), ("written".to_owned(), &b"t"[..]));
        drop(peer);
        running.error().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_birth_that_the_broker_does_not_acknowledge_ends_the_attempt() {
    let (door, mut running) = Running::in_memory(STATUS);
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    peer.published().await;
    let error = timeout(Duration::from_secs(70), running.errors.recv()).await.unwrap();
    let why = "the broker at broker:1883 does not acknowledge the `birth` message";
    assert_eq!(error.as_deref(), Some(why));
}

/// A connection that is stopped once the broker has its birth; what the broker got then.
async fn stopped(settings: &str, acknowledges: bool) -> Vec<Packet> {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let door = memory.open("broker:1883");
    let settings = format!("url: mqtt://broker\n{settings}");
    let site = Site { world: memory.world(), ..site(None) };
    let (_, mut connection) = connection(&settings, site);
    let (voice, heard) = voice();
    let mut peer = {
        let mut run = connection.run(&voice);
        let greeted = async {
            let mut peer = peer::at(&door).await;
            peer.welcome(false).await;
            peer.acknowledge().await;
            while heard.said().ready == 0 {
                yield_now().await;
            }
            peer
        };
        tokio::select! {
            peer = greeted => peer,
            ended = &mut run => panic!("{ended:?}"),
        }
    };
    let heard = async {
        let mut got = Vec::new();
        while let Some(packet) = peer.try_recv().await {
            if let (Packet::Publish(publish), true) = (&packet, acknowledges) {
                peer.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
            }
            got.push(packet);
        }
        got
    };
    let close = async {
        connection.close().await;
        drop(connection);
    };
    let ((), got) = tokio::join!(close, heard);
    got
}

#[tokio::test(start_paused = true)]
async fn who_goes_after_a_birth_says_so_before_the_connection_is_closed() {
    let goodbye = |got: &[Packet]| match got {
        [Packet::Publish(publish), Packet::Disconnect] => {
            String::from_utf8_lossy(&publish.payload).into_owned()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(goodbye(&stopped(STATUS, true).await), "offline");
    let own = format!("{STATUS}\ngoodbye: {{ payload: stopped }}");
    assert_eq!(goodbye(&stopped(&own, true).await), "stopped");
}

#[tokio::test(start_paused = true)]
async fn last_words_that_nobody_acknowledges_leave_the_will_to_the_broker() {
    let got = stopped(STATUS, false).await;
    assert!(matches!(&got[..], [Packet::Publish(_)]), "{got:?}");
}

#[tokio::test]
async fn a_silent_link_is_noticed() {
    let port = Port::open().await;
    let mut running = Running::start(&format!("url: {}\nkeep_alive: 6s", port.url()));
    let mut sink = running.sink("topic: t");
    let mut peer = port.accept().await;
    peer.welcome(false).await;
    soon(sink.connect()).await.unwrap();
    let batch = [message("", 1)];
    let silence = async {
        peer.published().await;
        // From here on the clock jumps to whatever is due next.
        tokio::time::pause();
        let began = Instant::now();
        assert_eq!(peer.recv().await, Packet::PingReq);
        let error = running.error().await;
        // One and a half keep-alives.
        assert_eq!(began.elapsed().as_secs(), 9);
        error
    };
    let (written, error) = soon(async { tokio::join!(sink.write(&batch), silence) }).await;
    assert!(error.contains("did not answer a ping"), "{error}");
    assert!(said(written).ends_with("the connection was lost"));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_broker_was_not_noticed_by_who_sends_all_the_time_at_qos_0() {
    for answers in [0, 3] {
        let (door, mut running) = Running::in_memory("keep_alive: 60s");
        let mut sink = running.sink("topic: t\nqos: 0");
        let mut peer = peer::at(&door).await;
        peer.welcome(false).await;
        soon(sink.connect()).await.unwrap();
        let began = Instant::now();
        let writing = async {
            loop {
                let _ = sink.write(&[message("", 1)]).await;
                tokio::time::sleep(Duration::from_secs(7)).await;
            }
        };
        let broker = async {
            let mut left = answers;
            loop {
                match peer.try_recv().await {
                    Some(Packet::PingReq) if left > 0 => {
                        left -= 1;
                        peer.send(Packet::PingResp).await;
                    }
                    Some(Packet::Publish(_) | Packet::PingReq) => (),
                    Some(other) => panic!("expected PUBLISH or PINGREQ, got {other:?}"),
                    None => std::future::pending().await,
                }
            }
        };
        let error = tokio::select! {
            error = running.errors.recv() => error.unwrap(),
            () = writing => unreachable!("it goes on"),
            () = broker => unreachable!("it goes on"),
        };
        assert!(error.contains("did not answer a ping"), "{error}");
        let took = began.elapsed().as_secs();
        let earliest = 60 * (answers + 1) + 30;
        assert!((earliest..earliest + 7 * (answers + 1) + 1).contains(&took), "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_acknowledges_is_left_and_asked_anew() {
    let (door, mut running) = Running::in_memory("keep_alive: 25s");
    let mut sink = running.sink("topic: t");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    soon(sink.connect()).await.unwrap();
    let batch = [message("", 1), message("", 2)];
    let before = Instant::now();
    // It takes the first, and answers pings.
    let silence = async {
        peer.acknowledge().await;
        while let Some(packet) = peer.try_recv().await {
            if packet == Packet::PingReq {
                peer.send(Packet::PingResp).await;
            }
        }
    };
    let (written, ()) = tokio::join!(sink.write(&batch), silence);
    assert!((60..65).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    let Err(WriteError::Retry { error, taken, .. }) = written else { panic!("{written:?}") };
    let expected = "the broker at broker:1883 acknowledges nothing";
    assert_eq!((error.to_string().as_str(), taken), (expected, 1));
    assert_eq!(running.error().await, expected);

    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    soon(sink.connect()).await.unwrap();
    let (written, publish) =
        soon(async { tokio::join!(sink.write(&batch[1..]), peer.acknowledge()) }).await;
    assert_eq!((said(written).as_str(), publish.pkid), ("written", 1));
}

#[tokio::test(start_paused = true)]
async fn a_full_window_that_never_opens_is_noticed_too() {
    let (door, mut running) = Running::in_memory("keep_alive: 0s");
    let mut sink = running.sink("topic: t");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    soon(sink.connect()).await.unwrap();
    let batch: Vec<_> = (0..1000).map(|number| message("", number)).collect();
    let written = sink.write(&batch).await;
    assert_eq!(said(written), "retry: the broker at broker:1883 acknowledges nothing");
    running.error().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_engine_breaks_off_ends_the_session() {
    let (door, mut running) = Running::in_memory("keep_alive: 0s");
    let mut sink = running.sink("topic: t");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    soon(sink.connect()).await.unwrap();
    let batch = [message("", 1)];
    assert!(timeout(Duration::from_secs(30), sink.write(&batch)).await.is_err());
    sink.sink.break_off();
    // Nothing goes over the old session from here on.
    let reason = "the broker did not take a message in time";
    assert_eq!(said(sink.write(&batch).await), format!("retry: {reason}"));
    assert_eq!(running.error().await, reason);
    peer.published().await;
    assert_eq!(peer.try_recv().await, None);

    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    soon(sink.connect()).await.unwrap();
    let (written, _) = soon(async { tokio::join!(sink.write(&batch), peer.acknowledge()) }).await;
    assert_eq!(said(written), "written");
    // There is nothing to break off where nothing is open.
    drop((running, peer));
    sink.sink.break_off();
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_in_both_directions() {
    let (door, running) = Running::in_memory("client_id: a");
    let mut reading = running.source("topics: [in]");
    let mut sink = running.sink("topic: out");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    peer.grant("").await;
    peer.publish("in", "1", QoS::AtLeastOnce, 1).await;
    reading.delivered().await;
    peer.acknowledged().await;
    soon(sink.connect()).await.unwrap();
    let batch = [message("", 10), message("", "text")];
    let acknowledge = async { (peer.acknowledge().await, peer.acknowledge().await) };
    let (written, _) = soon(async { tokio::join!(sink.write(&batch), acknowledge) }).await;
    let published = 2 * (2 + 2 + 3 + 2) + 2 + 6;
    assert_eq!(written.unwrap(), Written::bytes(published));
    // CONNECT 15, SUBSCRIBE 9, PUBACK 4; CONNACK 4, SUBACK 5, PUBLISH 9, twice PUBACK 4.
    let figure = |figure| running.heard.figure(figure);
    assert_eq!(figure(Figure::BytesOut), 15 + 9 + 4 + published as u64);
    assert_eq!(figure(Figure::BytesIn), 4 + 5 + 9 + 8);
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_within_seconds_again_and_again_is_said_to_have_another_client_of_that_name() {
    let (door, mut running) = Running::in_memory("client_id: site-a");
    let mut reading = running.source("topics: [in/#]");
    let mut session = async |stays: u64| {
        let mut peer = peer::at(&door).await;
        peer.welcome(false).await;
        peer.grant("").await;
        // What it delivers meanwhile does not make it any better.
        peer.publish("in/a", "1", QoS::AtLeastOnce, 1).await;
        reading.delivered().await;
        peer.acknowledged().await;
        tokio::time::sleep(Duration::from_secs(stays)).await;
        drop(peer);
        running.error().await
    };
    let closed = "the broker at broker:1883 closed the connection";
    let thrown_out = "the broker at broker:1883 closed 3 connections in a row within seconds: another \
        client may use the client id `site-a`, or it does not allow what we ask";
    for (stays, expected) in [(1, closed), (1, closed), (1, thrown_out), (60, closed), (1, closed)]
    {
        assert_eq!(session(stays).await, expected);
    }
    assert!(running.heard.said().works >= 5);
}

mod tls {
    use std::{fs, path::Path, process::Command, sync::Arc};

    use forebay_sdk::{Problem, testing};
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
    };

    use rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    };
    use tokio_rustls::TlsAcceptor;

    use super::{
        super::peer::{Peer, Port},
        Running, soon,
    };

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new(name: &str) -> Authority {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        /// A certificate for `name`, and its key, both as PEM.
        fn issue(&self, name: &str) -> (String, KeyPair) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &self.0).unwrap().pem(), key)
        }
    }

    /// A server with a certificate for `name`, that wants a client certificate or not.
    fn acceptor(authority: &Authority, name: &str, wants_client: bool) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority.0).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match wants_client {
            false => builder.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"mqtt".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Indents PEM text as a block of YAML.
    fn block(pem: &str) -> String {
        format!("|\n  {}", pem.trim_end().replace('\n', "\n  "))
    }

    async fn attempt(port: &Port, acceptor: &TlsAcceptor) -> Option<Peer> {
        let stream = port.accept_tcp().await;
        soon(acceptor.accept(stream)).await.ok().map(Peer::new)
    }

    #[tokio::test]
    async fn a_client_certificate_opens_the_door() {
        let (port, authority) = (Port::open().await, Authority::new("ours"));
        let acceptor = acceptor(&authority, "localhost", true);
        let (cert, key) = authority.issue("site-a");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("ca.pem"), authority.0.pem()).unwrap();
        fs::write(path("cert.pem"), &cert).unwrap();
        fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        let url = format!("mqtts://localhost:{}", port.number());

        // By the names of files, and by their texts.
        let files = format!(
            "url: {url}\nalpn: mqtt\nca: {}\ncert: {}\nkey: {}",
            path("ca.pem"),
            path("cert.pem"),
            path("key.pem")
        );
        let texts = format!(
            "url: {url}\nalpn: mqtt\nca: {}\ncert: {}\nkey: {}",
            block(&authority.0.pem()),
            block(&cert),
            block(&key.serialize_pem())
        );
        for settings in [files, texts] {
            let running = Running::start(&settings);
            let mut peer = attempt(&port, &acceptor).await.unwrap();
            peer.welcome(false).await;
            drop(running);
        }

        let mut stranger =
            Running::start(&format!("url: {url}\nca: {}\nconnect_timeout: 5s", path("ca.pem")));
        assert!(attempt(&port, &acceptor).await.is_none());
        let error = stranger.error().await;
        assert!(error.ends_with("it wants a client certificate; set `cert` and `key`"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_trusted_is_said_in_words() {
        let (port, authority) = (Port::open().await, Authority::new("ours"));
        let localhost = acceptor(&authority, "localhost", false);
        let url = format!("url: mqtts://localhost:{}", port.number());
        let check = async |settings: &str, acceptor: &TlsAcceptor, why: &str| {
            let mut running = Running::start(settings);
            attempt(&port, acceptor).await;
            let error = running.error().await;
            assert!(error.ends_with(why), "{error}");
        };

        let ours = format!("{url}\nca: {}", block(&authority.0.pem()));
        let unknown = "failed: its certificate, which is for `localhost`, was issued by `ours`, and that is \
            nobody in `ca`; `ca` is to name the certificate of that issuer";
        for name in ["ours", "theirs"] {
            let theirs = format!("{url}\nca: {}", block(&Authority::new(name).0.pem()));
            check(&theirs, &localhost, unknown).await;
        }
        let elsewhere = acceptor(&authority, "elsewhere", false);
        let name = "its certificate is for `elsewhere`, and `url` says `localhost`";
        check(&ours, &elsewhere, name).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), Authority::new("theirs").0.pem()).unwrap();
        let named = format!("nobody in `ca` ({})", file.path().display());
        let mut running = Running::start(&format!("{url}\nca: {}", file.path().display()));
        attempt(&port, &localhost).await;
        let error = running.error().await;
        assert!(error.contains(&named), "{error}");
        drop(running);
        let alpn = format!("{ours}\nalpn: x-amzn-mqtt-ca");
        check(&alpn, &localhost, "it does not know the protocol in `alpn`").await;

        // A broker without TLS understands nothing, and hangs up.
        let mut running = Running::start(&ours);
        drop(port.accept_tcp().await);
        let error = running.error().await;
        let end =
            "in the TLS handshake; if it speaks no TLS on that port, write `mqtt://` in `url`";
        assert!(error.ends_with(end), "{error}");
        drop(running);

        let mut running = Running::start(&ours);
        let mut peer = attempt(&port, &localhost).await.unwrap();
        peer.welcome(false).await;
        drop(peer);
        let error = running.error().await;
        assert!(error.ends_with("closed the connection"), "{error}");
    }

    #[tokio::test]
    async fn certificates_that_cannot_be_read_are_named() {
        let check = async |settings: &str, expected: &str| {
            let mut running = Running::start(&format!("url: mqtts://localhost:1\n{settings}"));
            let error = running.error().await;
            assert!(error.starts_with(expected), "{error}");
        };
        check("ca: /no/such/ca.pem", "reading `ca` (/no/such/ca.pem): there is no such file").await;
        check("ca: \"-----BEGIN\"", "`ca` holds no certificate in PEM form").await;
        let authority = Authority::new("ours");
        let (ca, (cert, _)) = (block(&authority.0.pem()), authority.issue("a"));
        let settings = format!("ca: {ca}\ncert: {}\nkey: /no/such/key", block(&cert));
        check(&settings, "reading `key` (/no/such/key): there is no such file").await;
        let settings = format!("ca: {ca}\ncert: {}\nkey: {}", block(&cert), block(&cert));
        check(&settings, "`key` holds no private key in PEM form").await;
    }

    /// What is found in certificates before anybody connects, each as its level, message and label.
    fn found(folder: &Path, settings: &str) -> Vec<String> {
        let settings = format!("url: mqtts://broker.example\nclient_id: a\n{settings}");
        let connection = testing::configure(&crate::connection(), &settings).unwrap();
        let told = |it: Problem| format!("{:?} {} [{}]", it.level, it.message, it.label);
        connection.check_files(folder).into_iter().map(told).collect()
    }

    #[test]
    fn files_of_certificates_that_are_missing_or_no_files_are_found_before_anybody_connects() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let whole = |name: &str| here.join(name).display().to_string();
        let (cert, key) = Authority::new("ours").issue("a");
        fs::write(whole("good.pem"), cert + &key.serialize_pem()).unwrap();
        fs::write(whole("none.pem"), "no PEM").unwrap();
        fs::create_dir(whole("folder.pem")).unwrap();
        // Whoever opened it would wait for ever.
        assert!(Command::new("mkfifo").arg(whole("pipe.pem")).status().unwrap().success());
        let good = "cert: good.pem\nkey: good.pem";
        assert_eq!(found(here, good), <[&str; 0]>::default());
        for (name, why) in [
            ("missing.pem", "there is no such file"),
            ("folder.pem", "it is not a regular file"),
            ("pipe.pem", "it is not a regular file"),
        ] {
            for setting in ["ca", "cert", "key"] {
                let both = "ca: good.pem\ncert: good.pem\nkey: good.pem";
                let settings = both.replace(
                    &format!("{setting}: good"),
                    &format!("{setting}: {}", name.trim_end_matches(".pem")),
                );
                let expected = format!("Error reading `{setting}` ({}): {why} []", whole(name));
                assert_eq!(found(here, &settings), [expected]);
            }
        }
        let no_key = "holds no private key in PEM form without a password";
        assert_eq!(
            found(here, "cert: none.pem\nkey: none.pem"),
            [
                format!("Error `cert` ({}) holds no certificate in PEM form []", whole("none.pem")),
                format!("Error `key` ({}) {no_key} []", whole("none.pem")),
            ]
        );
    }

    #[tokio::test]
    async fn a_key_of_another_certificate_is_found_and_both_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let whole = |name: &str| folder.path().join(name).display().to_string();
        let authority = Authority::new("ours");
        let ((cert, _), (_, other)) = (authority.issue("a"), authority.issue("b"));
        fs::write(whole("cert.pem"), cert).unwrap();
        fs::write(whole("other.pem"), other.serialize_pem()).unwrap();
        let expected = format!(
            "`key` ({}) is not the private key of the certificate in `cert` ({})",
            whole("other.pem"),
            whole("cert.pem")
        );
        let relative = found(folder.path(), "cert: cert.pem\nkey: other.pem");
        assert_eq!(relative, [format!("Error {expected} []")]);
        let settings = format!("cert: {}\nkey: {}", whole("cert.pem"), whole("other.pem"));
        let mut running = Running::start(&format!("url: mqtts://localhost:1\n{settings}"));
        assert_eq!(running.error().await, expected);
    }

    #[test]
    fn a_certificate_that_has_expired_is_found_with_its_last_day() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let until = |year: i32| {
            let mut params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 3, 9);
            params.self_signed(&key).unwrap().pem()
        };
        let (old, older, good) = (until(2021), until(1999), until(2061));
        fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        let found = |setting: &str, pem: &str| {
            let name = folder.path().join("it.pem");
            fs::write(&name, pem).unwrap();
            let settings = match setting {
                "ca" => "ca: it.pem",
                _ => "cert: it.pem\nkey: key.pem",
            };
            let expired = |day: &str| {
                let shown = format!("`{setting}` ({})", name.display());
                format!("Warning the certificate in {shown} has expired [its last day was {day}]")
            };
            let found = found(folder.path(), settings);
            match ["2021-03-09", "1999-03-09"].into_iter().find(|day| found == [expired(day)]) {
                Some(day) => day,
                None if found.is_empty() => "good",
                None => panic!("{found:?}"),
            }
        };
        for setting in ["ca", "cert"] {
            assert_eq!(found(setting, &old), "2021-03-09");
            assert_eq!(found(setting, &older), "1999-03-09");
            assert_eq!(found(setting, &good), "good");
        }
        // One that is trusted is enough; a chain needs them all.
        assert_eq!(found("ca", &format!("{old}{good}")), "good");
        assert_eq!(found("cert", &format!("{good}{old}")), "2021-03-09");
    }
}

#[tokio::test(start_paused = true)]
async fn a_password_that_ends_is_replaced_before_it_does_and_nobody_hears_of_an_error() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let _entered = memory.enter();
    let door = memory.open("broker:1883");
    let text = "url: mqtt://broker\nclient_id: d1\nusername: d1\nkeep_alive: 0s";
    let (configured, _) = forebay_sdk::testing::resolve(&crate::connection(), text);
    let configured: &dyn std::any::Any = &*configured.unwrap();
    let mut settings = configured.downcast_ref::<MqttConnection>().unwrap().clone();
    let key = forebay_sdk::Secret::new("c2VjcmV0LWtleQ==");
    settings.tokens = TokenMaker::new("hub", "d1", &key, Duration::from_secs(32));
    let (voice, heard) = voice();
    let site = Site { world: memory.world(), voice: voice.clone(), ..site(None) };
    let Node::Connection(_, mut connection) = settings.build(site) else {
        unreachable!("a connection builds a connection")
    };
    let _task = Task(tokio::spawn(async move {
        let error = connection.run(&voice).await;
        panic!("it goes on for ever, and ended: {error:?}");
    }));
    let began = Instant::now();
    for round in 0..3 {
        let mut peer = peer::at(&door).await;
        let connect = peer.welcome(false).await;
        let ConnectAuth::UsernamePassword { password, .. } = connect.auth else {
            panic!("no password")
        };
        let until = 1_795_251_600 + round * 28 + 32;
        let password = String::from_utf8_lossy(&password).into_owned();
        assert!(password.ends_with(&format!("&se={until}")), "{password}");
        assert_eq!(began.elapsed().as_secs(), round * 28);
        assert!(matches!(peer.try_recv().await, Some(Packet::Disconnect)), "a good-bye");
        assert_eq!(heard.said().troubles, Vec::<String>::new());
    }
}
