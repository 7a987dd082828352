//! The ways to a broker: WebSocket, several addresses, and proxies that others wrote.

use std::{
    net::TcpStream,
    process::{Child, Stdio},
};

use crate::support::{
    Aedes, Certificates, Folder, Forebay, Make, Mosquitto, Subscriber, command, forebay, free_port,
    kill, spawn, until,
};

/// Publishes every 100 ms, over a connection with these settings.
fn beats(settings: &str) -> Folder {
    Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:\n  it: {{ type: mqtt, connect_timeout: 5s, {settings} }}\nsources:\n  beat: {{ type: timer, \
             every: 100ms }}\nsinks:\n  out: {{ from: beat, type: mqtt, connection: it, topic: beats }}\n"
        ),
    )])
}

/// A Mosquitto that also speaks WebSocket at a port of its own, with these lines for it.
fn with_websockets(more: &str) -> (Mosquitto, u16) {
    let port = free_port();
    let text = format!("listener {port} 127.0.0.1\nprotocol websockets\n{more}");
    let broker = Mosquitto::start_with(&text);
    until("mosquitto speaks WebSocket", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (broker, port)
}

#[track_caller]
fn arrives(broker: &Mosquitto, folder: &Folder) -> Forebay {
    let subscriber = Subscriber::to(broker.port, "beats");
    let forebay = Forebay::run(folder.path());
    subscriber.wait_for("a beat", |got| got.topic == "beats");
    forebay
}

#[test]
fn messages_go_and_come_over_websocket_in_both_versions() {
    let (broker, port) = with_websockets("");
    for version in ["3.1.1", "5"] {
        let settings = format!("url: 'ws://127.0.0.1:{port}', version: '{version}'");
        drop(arrives(&broker, &beats(&settings)));
    }
    let folder = beats(&format!("url: 'ws://127.0.0.1:{port}/mqtt'"));
    folder.write(
        "b.yaml",
        "sources:\n  asked: { type: mqtt, connection: it, topics: [asked] }\nsinks:\n  said: { from: asked, type: mqtt, \
         connection: it, topic: said }\n",
    );
    let subscriber = Subscriber::to(broker.port, "said");
    let _forebay = Forebay::run(folder.path());
    let large = "x".repeat(100_000);
    until("an answer", || {
        crate::support::publish(broker.port, "asked", &format!("\"{large}\""), &[]);
        subscriber.payloads().iter().any(|payload| payload.len() == large.len() + 2)
    });
}

#[test]
fn over_websocket_with_tls_the_server_is_checked() {
    let made = Certificates::new();
    made.issue("server", "ca", Make::default());
    let (cert, key) = (made.shown("server", "pem"), made.shown("server", "key"));
    let (broker, port) = with_websockets(&format!("certfile {cert}\nkeyfile {key}\n"));
    let url = format!("url: 'wss://127.0.0.1:{port}/mqtt'");
    let settings = format!("{url}, ca: '{}', min_tls: 1.2", made.shown("ca", "pem"));
    drop(arrives(&broker, &beats(&settings)));
    let strange = Forebay::run(beats(&url).path());
    strange.wait_for_log("and that is nobody whom this system trusts");
}

#[test]
fn a_name_that_is_not_the_hosts_can_be_asked_for() {
    let made = Certificates::new();
    made.issue(
        "server",
        "ca",
        Make { extensions: "subjectAltName=DNS:broker.example", ..Make::default() },
    );
    let (port, ca) = (free_port(), made.shown("ca", "pem"));
    let more = format!(
        "listener {port} 127.0.0.1\ncertfile {}\nkeyfile {}\n",
        made.shown("server", "pem"),
        made.shown("server", "key")
    );
    let broker = Mosquitto::start_with(&more);
    let settings = format!(
        "url: 'mqtts://127.0.0.1:{port}', ca: '{ca}', min_tls: '1.3', server_name: broker.example"
    );
    drop(arrives(&broker, &beats(&settings)));
}

#[test]
fn another_address_is_taken_when_the_first_lets_nobody_in() {
    let broker = Mosquitto::start();
    let strict = Mosquitto::start_with("clientid_prefixes nobody-\n");
    let nobody = free_port();
    let settings = format!(
        "url: 'mqtt://127.0.0.1:{nobody}', fallback: ['{}', '{}'], client_id: a",
        strict.url(),
        broker.url()
    );
    drop(arrives(&broker, &beats(&settings)));
    let settings =
        format!("url: 'mqtt://127.0.0.1:{nobody}', fallback: ['{}'], client_id: a", strict.url());
    let forebay = Forebay::run(beats(&settings).path());
    let said = forebay.wait_for_log("nothing listens at");
    assert!(said.contains("; then: the broker at 127.0.0.1"), "{said}");
}

/// A program that listens, and ends with the test.
struct Listening(Child);

impl Listening {
    #[track_caller]
    fn start(port: u16, program: &str, arguments: &[&str]) -> Listening {
        let mut command = command(program);
        let process = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let listening = Listening(spawn(process));
        until("the proxy listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        listening
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

#[test]
fn a_socks_proxy_passes_us_on_and_one_that_wants_a_password_says_so() {
    let broker = Mosquitto::start();
    let (open, locked) = (free_port(), free_port());
    let _open = Listening::start(open, "microsocks", &["-i", "127.0.0.1", "-p", &open.to_string()]);
    let port = locked.to_string();
    let _locked = Listening::start(
        locked,
        "microsocks",
        &["-i", "127.0.0.1", "-p", &port, "-u", "me", "-P", "pw"],
    );
    let via = |port: u16, more: &str| {
        beats(&format!(
            "url: '{}', proxy: {{ url: 'socks5://127.0.0.1:{port}'{more} }}",
            broker.url()
        ))
    };
    drop(arrives(&broker, &via(open, "")));
    drop(arrives(&broker, &via(locked, ", username: me, password: pw")));
    let said = Forebay::run(via(locked, "").path());
    said.wait_for_log(&format!(
        "the proxy at 127.0.0.1:{locked} wants a `username` and a `password`"
    ));
    let nobody = free_port();
    let said = Forebay::run(via(nobody, "").path());
    said.wait_for_log(&format!("nothing listens at the proxy, 127.0.0.1:{nobody}"));
}

#[test]
fn a_web_proxy_passes_us_on_and_the_doctor_sees_how() {
    let broker = Mosquitto::start();
    let port = free_port();
    let config = Folder::with(&[(
        "tinyproxy.conf",
        &format!("Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 600\n"),
    )]);
    let file = config.path().join("tinyproxy.conf").display().to_string();
    let _proxy = Listening::start(port, "tinyproxy", &["-d", "-c", &file]);
    let folder =
        beats(&format!("url: '{}', proxy: {{ url: 'http://127.0.0.1:{port}' }}", broker.url()));
    drop(arrives(&broker, &folder));
    let output = forebay(["doctor".as_ref(), "it".as_ref(), folder.path().as_os_str()]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let through = format!("the proxy at 127.0.0.1:{port} connects us to 127.0.0.1:{}", broker.port);
    assert!(said.contains(&through), "{said}");
}

#[test]
fn a_broker_of_another_make_is_spoken_to_over_websocket_and_what_is_none_is_named() {
    let aedes = Aedes::start_over_websocket();
    let folder = beats(&format!("url: 'ws://127.0.0.1:{}'", aedes.port));
    let _forebay = Forebay::run(folder.path());
    until("a beat", || aedes.log.count_of("publish beats") > 0);
    let plain = Mosquitto::start();
    let folder = beats(&format!("url: 'ws://127.0.0.1:{}'", plain.port));
    let output = forebay(["doctor".as_ref(), "it".as_ref(), folder.path().as_os_str()]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("WebSocket"), "{said}");
}
