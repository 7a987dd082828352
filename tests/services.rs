//! Connections to services, against a Mosquitto that demands what they demand.

use crate::support::{
    Certificates, Folder, Forebay, Make, Mosquitto, Subscriber, TlsServer, forebay, free_port,
    publish, until,
};

/// A Mosquitto with TLS at a port of its own, and more lines for it.
fn with_tls(made: &Certificates, more: &str) -> (Mosquitto, u16) {
    let port = free_port();
    let (cert, key) = (made.shown("server", "pem"), made.shown("server", "key"));
    let text = format!("listener {port} 127.0.0.1\ncertfile {cert}\nkeyfile {key}\n{more}");
    (Mosquitto::start_with(&text), port)
}

fn certificates() -> Certificates {
    let made = Certificates::new();
    made.issue("server", "ca", Make::default());
    made.issue("thing", "ca", Make::default());
    made
}

fn pipeline(connection: &str, nodes: &str) -> Folder {
    Folder::with(&[("a.yaml", &format!("connections:\n  it: {{ {connection} }}\n{nodes}"))])
}

const BEAT: &str = "sources:\n  beat: { type: timer, every: 100ms }\nsinks:\n  out: { from: beat, type: mqtt, connection: it, topic: TOPIC }\n";

#[test]
fn a_thing_of_aws_is_let_in_by_its_certificate_and_asks_for_mqtt_at_port_443() {
    let made = certificates();
    let ca = made.shown("ca", "pem");
    let (broker, port) = with_tls(
        &made,
        &format!("cafile {ca}\nrequire_certificate true\nuse_identity_as_username true\n"),
    );
    let thing = |port: u16| {
        let (cert, key) = (made.shown("thing", "pem"), made.shown("thing", "key"));
        format!(
            "type: aws-iot, host: 127.0.0.1, port: {port}, client_id: thing, cert: '{cert}', key: '{key}', ca: '{ca}'"
        )
    };
    let subscriber = Subscriber::to(broker.port, "site/a");
    let _forebay = Forebay::run(pipeline(&thing(port), &BEAT.replace("TOPIC", "site/a")).path());
    subscriber.wait_for("a beat", |got| got.qos == 1);
    // Such as AWS has it at its port 443, and who asks for anything else is not let in.
    let strict = TlsServer::start(&made, "server", &["-alpn", "x-amzn-mqtt-ca"]);
    let folder = pipeline(&thing(strict.port), &BEAT.replace("TOPIC", "site/a"));
    let output = forebay(["doctor".as_ref(), "it".as_ref(), folder.path().as_os_str()]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("TLS 1.3 as `127.0.0.1`"), "{said}");
}

#[test]
fn a_device_of_azure_gets_messages_and_calls_and_its_events_have_properties() {
    let made = certificates();
    let (broker, port) = with_tls(&made, "");
    let device = format!(
        "type: azure-iot, hub: 127.0.0.1, port: {port}, device: d1, shared_access_key: c2VjcmV0LWtleQ==, ca: '{}'",
        made.shown("ca", "pem")
    );
    let nodes = "sources:
  calls: { type: mqtt, connection: it, topics: [$iothub/methods/POST/#] }
  orders: { type: mqtt, connection: it, topics: [devices/d1/messages/devicebound/#] }
transforms:
  answer:
    from: calls
    type: script
    script: |
      msg.topic = msg.meta.mqtt.response_topic;
      msg.payload = #{ done: true };
      msg
  seen:
    from: orders
    type: script
    script: |
      msg.payload = msg.meta.mqtt.user;
      msg
sinks:
  out: { from: answer, type: mqtt, connection: it }
  event: { from: seen, type: mqtt, connection: it, topic: orders/seen, properties: { user: { by: me } } }
";
    let subscriber = Subscriber::to(broker.port, "#");
    let _forebay = Forebay::run(pipeline(&device, nodes).path());
    until("subscribed", || {
        broker.log.count_of("Sending SUBACK to d1") >= 1 && broker.log.count_of("d1 1 $iothub") >= 1
    });
    publish(broker.port, "$iothub/methods/POST/reboot/?$rid=7", "{}", &["-q", "1"]);
    let answers = Subscriber::to(broker.port, "$iothub/methods/res/#");
    publish(broker.port, "$iothub/methods/POST/reboot/?$rid=8", "{}", &["-q", "1"]);
    let answer = answers.wait_for("an answer", |got| got.topic.ends_with("rid=8"));
    assert_eq!(
        (answer.topic.as_str(), answer.payload.as_str()),
        ("$iothub/methods/res/200/?$rid=8", "{\"done\":true}")
    );
    publish(broker.port, "devices/d1/messages/devicebound/a%20b=1", "{}", &["-q", "1"]);
    let event = subscriber.wait_for("an event", |got| got.topic.contains("/events/"));
    assert_eq!(
        event.topic,
        "devices/d1/messages/events/$.ct=application%2Fjson&$.ce=utf-8&topic=orders%2Fseen&by=me&a%20b=1"
    );
    assert_eq!(event.payload, "{\"a b\":\"1\"}");
    assert!(
        broker.log.count_of("u'127.0.0.1/d1/?api-version=2021-04-12'") > 0,
        "the user name of a hub"
    );
}

#[test]
fn a_twin_of_azure_is_asked_for_followed_and_told_what_is_reported() {
    let made = certificates();
    let (broker, port) = with_tls(&made, "");
    let device = format!(
        "type: azure-iot, hub: 127.0.0.1, port: {port}, device: d1, shared_access_key: c2VjcmV0LWtleQ==, ca: '{}'",
        made.shown("ca", "pem")
    );
    let nodes = "sources:
  beat: { type: timer, every: 200ms }
  whole: { type: mqtt, connection: it, topics: [$iothub/twin/res/#] }
  desired: { type: mqtt, connection: it, topics: [$iothub/twin/PATCH/properties/desired/#] }
transforms:
  interval: { from: whole, type: script, script: '#{ payload: #{ interval: msg.payload.desired.interval } }' }
  changed: { from: desired, type: map, remove: [$version] }
sinks:
  ask: { from: beat, type: mqtt, connection: it, topic: $iothub/twin/GET/?$rid=1 }
  report:
    from: [interval, changed]
    type: mqtt
    connection: it
    topic: $iothub/twin/PATCH/properties/reported/?$rid=2
";
    let subscriber = Subscriber::to(broker.port, "$iothub/twin/#");
    let _forebay = Forebay::run(pipeline(&device, nodes).path());
    subscriber.wait_for("asked", |got| got.topic == "$iothub/twin/GET/?$rid=1");
    until("subscribed", || broker.log.count_of("d1 1 $iothub/twin") >= 2);
    let reported = "$iothub/twin/PATCH/properties/reported/?$rid=2";
    let whole = r#"{"desired":{"interval":5,"$version":1},"reported":{"$version":1}}"#;
    publish(broker.port, "$iothub/twin/res/200/?$rid=1", whole, &["-q", "1"]);
    subscriber
        .wait_for("the twin", |got| got.topic == reported && got.payload == r#"{"interval":5}"#);
    let desired = "$iothub/twin/PATCH/properties/desired/?$version=2";
    publish(broker.port, desired, r#"{"interval":9,"$version":2}"#, &["-q", "1"]);
    subscriber
        .wait_for("a change", |got| got.topic == reported && got.payload == r#"{"interval":9}"#);
}

#[test]
fn a_device_of_azure_goes_over_websocket_where_only_port_443_is_let_out() {
    let made = certificates();
    let (broker, port) = with_tls(&made, "protocol websockets\n");
    let device = format!(
        "type: azure-iot, hub: 127.0.0.1, port: {port}, websocket: true, device: d1, shared_access_key: c2VjcmV0LWtleQ==, ca: '{}'",
        made.shown("ca", "pem")
    );
    let subscriber = Subscriber::to(broker.port, "devices/d1/messages/events/#");
    let _forebay = Forebay::run(pipeline(&device, &BEAT.replace("TOPIC", "site/a")).path());
    subscriber.wait_for("an event", |got| got.topic.ends_with("&topic=site%2Fa"));
}

#[test]
fn tokens_are_user_names_where_services_have_them_so() {
    let made = certificates();
    let (broker, port) = with_tls(&made, "");
    let ca = made.shown("ca", "pem");
    for (connection, topic) in [
        (format!("type: flespi, host: 127.0.0.1, port: {port}, token: tok, ca: '{ca}'"), "site/a"),
        (
            format!("type: thingsboard, url: 'mqtts://127.0.0.1:{port}', token: tok, ca: '{ca}'"),
            "v1/devices/me/telemetry",
        ),
        (
            format!(
                "type: hivemq-cloud, host: 127.0.0.1, port: {port}, username: tok, password: '${{env:HOME}}', ca: '{ca}'"
            ),
            "site/a",
        ),
    ] {
        let subscriber = Subscriber::to(broker.port, topic);
        let before = broker.log.count_of("u'tok'");
        let _forebay = Forebay::run(pipeline(&connection, &BEAT.replace("TOPIC", topic)).path());
        subscriber.wait_for("a beat", |_| true);
        assert_eq!(broker.log.count_of("u'tok'"), before + 1, "{connection}");
    }
}

#[test]
fn what_a_service_refuses_is_found_by_lint() {
    let made = certificates();
    let (cert, key) = (made.shown("thing", "pem"), made.shown("thing", "key"));
    let aws = format!(
        "type: aws-iot, host: a-ats.iot.eu-west-1.amazonaws.com, client_id: a, cert: '{cert}', key: '{key}'"
    );
    let azure = "type: azure-iot, hub: h.azure-devices.net, device: d, shared_access_key: '${env:KEY:-a2V5}'";
    let things = "type: thingsboard, token: '${env:TOKEN:-x}'";
    let flespi = "type: flespi, token: '${env:TOKEN:-x}'";
    let sink = |more: &str| {
        format!(
            "sources:\n  beat: {{ type: timer, every: 1s }}\nsinks:\n  out: {{ from: beat, type: mqtt, connection: it, {more} }}\n"
        )
    };
    let source = |topic: &str| {
        format!(
            "sources:\n  in: {{ type: mqtt, connection: it, topics: ['{topic}'] }}\nsinks:\n  out: {{ from: in, type: log }}\n"
        )
    };
    for (connection, nodes, expected) in [
        (aws.as_str(), sink("topic: a, qos: 2"), "AWS IoT Core does not take QoS 2"),
        (&aws, sink("topic: 1/2/3/4/5/6/7/8/9"), "expected at most 8 levels, found 9"),
        (
            &format!("{aws}, keep_alive: 30m"),
            sink("topic: a"),
            "AWS IoT Core does not take a `keep_alive` of 30m",
        ),
        (&aws.replace("-ats", ""), sink("topic: a"), "`host` is the old endpoint"),
        (
            &format!("{aws}, will: {{ topic: a, payload: x, qos: 2 }}"),
            sink("topic: a"),
            "AWS IoT Core does not take QoS 2",
        ),
        (
            &azure.replace("device: ", &format!("device: {}", "x".repeat(128))),
            sink("topic: a"),
            "Azure IoT Hub takes a `device` of at most 128 bytes",
        ),
        (
            &format!(
                "type: mqtt, url: 'mqtts://a1-ats.iot.eu-west-1.amazonaws.com', keep_alive: 0s, client_id: {}",
                "x".repeat(129)
            ),
            sink("topic: a, qos: 2"),
            "AWS IoT Core takes a `client_id` of at most 128 bytes",
        ),
        (
            "type: mqtt, url: 'mqtts://a1-ats.iot.eu-west-1.amazonaws.com', keep_alive: 0s",
            sink("topic: a"),
            "AWS IoT Core does not take a `keep_alive` of 0s",
        ),
        (
            "type: mqtt, url: 'mqtts://a1-ats.iot.eu-west-1.amazonaws.com'",
            sink("topic: a, qos: 2"),
            "AWS IoT Core does not take QoS 2",
        ),
        (
            "type: mqtt, url: 'mqtts://plant.azure-devices.net', keep_alive: 20m",
            sink("topic: a"),
            "expected `1s` to `1177s`",
        ),
        (azure, sink("topic: a, retain: true"), "Azure IoT Hub keeps no retained messages"),
        (azure, source("site/#"), "Azure IoT Hub sends nothing on `site/#`"),
        (&azure.replace("a2V5", "no-key!"), sink("topic: a"), "`shared_access_key` is no key"),
        (&format!("{azure}, keep_alive: 20m"), sink("topic: a"), "expected `1s` to `1177s`"),
        (things, sink("topic: site/a"), "expected a topic that begins with `v1/`"),
        (flespi, sink("topic: flespi/a"), "expected a topic that does not begin with `flespi/`"),
        (
            &flespi.replace(":-x", ":-FlespiToken x"),
            sink("topic: a"),
            "without `FlespiToken` in front of it",
        ),
        (
            "type: mqtt, url: 'mqtts://mqtt.googleapis.com'",
            sink("topic: a"),
            "was retired in August 2023",
        ),
    ] {
        let folder = pipeline(connection, &nodes);
        let output = forebay(["lint".as_ref(), folder.path().as_os_str()]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(expected), "{connection}: {expected}\n{said}");
    }
}
