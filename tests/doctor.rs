//! `forebay doctor` names the cause of what people get wrong, with brokers and certificates that others
//! make.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use serde_json::Value;

use crate::support::{
    Certificates, Folder, Make, ModbusServer, Mosquitto, TlsServer, WebServer, forebay,
    free_listener, free_port,
};

/// What the doctor said of a connection, and how it ended.
struct Said {
    steps: Vec<Value>,
    code: Option<i32>,
    text: String,
}

/// Asks about the connection `it` of a pipeline.
fn ask_of(pipeline: &str, options: &[&str]) -> Said {
    let folder = Folder::with(&[("a.yaml", pipeline)]);
    let path = folder.path().display().to_string();
    let mut arguments = vec!["doctor", "it", &path, "--format", "json"];
    arguments.extend(options);
    let output = forebay(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let steps = text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect();
    let text = text + &*String::from_utf8_lossy(&output.stderr);
    Said { steps, code: output.status.code(), text }
}

fn mqtt(settings: &str) -> String {
    format!("connections:\n  it: {{ type: mqtt, connect_timeout: 3s, {settings} }}\n")
}

impl Said {
    /// The last step that went wrong is this one, and its words hold these.
    #[track_caller]
    fn is_wrong(&self, case: &str, step: &str, words: &str) {
        assert_eq!(self.code, Some(1), "{case}: {}", self.text);
        let mut wrong = self.steps.iter().filter(|step| step["outcome"] == "wrong");
        let found = wrong.any(|wrong| {
            wrong["step"] == step && wrong["message"].as_str().unwrap_or_default().contains(words)
        });
        assert!(found, "{case}: expected {step}: {words}\n{}", self.text);
    }

    #[track_caller]
    fn is_fine(&self, case: &str, steps: &[&str]) {
        let fine = |step: &&&str| {
            self.steps.iter().any(|said| said["step"] == **step && said["outcome"] == "fine")
        };
        assert_eq!(self.code, Some(0), "{case}: {}", self.text);
        assert_eq!(steps.iter().filter(fine).count(), steps.len(), "{case}: {}", self.text);
    }
}

#[test]
fn a_server_that_is_not_trusted_or_cannot_be_spoken_to_is_told_why() {
    let made = Certificates::new();
    made.authority("other-ca");
    made.issue("good", "ca", Make::default());
    made.issue(
        "elsewhere",
        "ca",
        Make { extensions: "subjectAltName=DNS:else.example", ..Make::default() },
    );
    made.issue(
        "common name only",
        "ca",
        Make { extensions: "basicConstraints=CA:FALSE", ..Make::default() },
    );
    made.issue("old", "ca", Make { extensions: "", ..Make::default() });
    made.issue("over", "ca", Make { until: "210101000000Z", ..Make::default() });
    made.issue("soon", "ca", Make { from: "480101000000Z", ..Make::default() });
    let for_clients = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=clientAuth";
    made.issue("for clients", "ca", Make { extensions: for_clients, ..Make::default() });
    let ca = made.shown("ca", "pem");

    let old_tls = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let old_cipher = ["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"];
    let cases: &[(&str, &[&str], &str, &str)] = &[
        (
            "good",
            &[],
            &made.shown("other-ca", "pem"),
            "was issued by `ca`, and that is nobody in `ca` (",
        ),
        (
            "elsewhere",
            &[],
            &ca,
            "its certificate is for `else.example`, and `url` says `127.0.0.1`",
        ),
        (
            "common name only",
            &[],
            &ca,
            "as common name alone, which says nothing of its hosts any more; ask for one with `subjectAltName=IP:127.0.0.1`",
        ),
        ("old", &[], &ca, "its certificate is of the old form X.509 v1"),
        (
            "over",
            &[],
            &ca,
            "issued by `ca`, has expired on 2021-01-01, or the clock here is wrong: it says 20",
        ),
        ("soon", &[], &ca, "not valid before 2048-01-01"),
        (
            "for clients",
            &[],
            &ca,
            "is not for servers; ask for one with `extendedKeyUsage=serverAuth`",
        ),
        ("ca", &[], &ca, "it shows the certificate of a CA (`ca`) as its own"),
        ("good", &old_tls, &ca, "ask its admin to allow TLS 1.2 or 1.3"),
        ("good", &old_cipher, &ca, "ask its admin to allow TLS 1.3, or ECDHE"),
        ("good", &["-alpn", "mqtt"], &ca, "it does not know the protocol in `alpn`"),
    ];
    for (name, options, ca, words) in cases {
        let server = TlsServer::start(&made, name, options);
        let alpn = if options.contains(&"-alpn") { ", alpn: other" } else { "" };
        let settings = format!("url: 'mqtts://127.0.0.1:{}', ca: '{ca}'{alpn}", server.port);
        ask_of(&mqtt(&settings), &[]).is_wrong(name, "TLS", words);
    }
    let server = TlsServer::start(&made, "good", &[]);
    let settings = format!("url: 'mqtts://127.0.0.1:{}'", server.port);
    let nobody = "and that is nobody whom this system trusts";
    ask_of(&mqtt(&settings), &[]).is_wrong("no `ca`", "TLS", nobody);
}

#[test]
fn certificates_of_ones_own_are_looked_at_before_anybody_is_called() {
    let made = Certificates::new();
    for name in ["server", "mine", "other"] {
        made.issue(name, "ca", Make::default());
    }
    made.authority("stranger");
    made.issue("stranger's", "stranger", Make::default());
    made.issue("over", "ca", Make { until: "210101000000Z", ..Make::default() });
    let locked = made.shown("locked", "key");
    made.openssl(&[
        "ec",
        "-in",
        &made.shown("mine", "key"),
        "-aes128",
        "-passout",
        "pass:x",
        "-out",
        &locked,
    ]);
    let (port, ca) = (free_port(), made.shown("ca", "pem"));
    let more = format!(
        "listener {port} 127.0.0.1\ncafile {ca}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
        made.shown("server", "pem"),
        made.shown("server", "key"),
    );
    let _broker = Mosquitto::start_with(&more);
    let ask = |cert: &str, key: &str| {
        ask_of(
            &mqtt(&format!("url: 'mqtts://127.0.0.1:{port}', ca: '{ca}'{}", own(cert, key))),
            &[],
        )
    };
    let pem = |name: &str| made.shown(name, "pem");
    let key = |name: &str| made.shown(name, "key");
    ask(&pem("mine"), &key("mine"))
        .is_fine("all is well", &["certificates", "TCP", "TLS", "login", "publish"]);
    let asked = ask("", "");
    asked.is_wrong(
        "no certificate",
        "login",
        "it wants a client certificate; set `cert` and `key`",
    );
    assert!(
        asked.text.contains("it asks for a client certificate, and there is none to send"),
        "{}",
        asked.text
    );
    let strange = "it does not trust the client certificate in `cert`";
    ask(&pem("stranger's"), &key("stranger's")).is_wrong("of a stranger", "login", strange);
    let over = ask(&pem("over"), &key("over"));
    over.is_wrong("expired", "login", "it says that the client certificate in `cert` has expired");
    assert!(over.text.contains("its last day was 2021-01-01"), "{}", over.text);
    let no_pair = "is not the private key of the certificate in `cert`";
    ask(&pem("mine"), &key("other")).is_wrong("no pair", "certificates", no_pair);
    let no_key = "holds no private key in PEM form without a password";
    ask(&pem("mine"), &locked).is_wrong("a key with a password", "certificates", no_key);
    let no_file = "no-such.pem): there is no such file";
    ask(&pem("no-such"), &key("mine")).is_wrong("no file", "certificates", no_file);
    ask(&key("mine"), &key("mine")).is_wrong(
        "a key as certificate",
        "certificates",
        "holds no certificate in PEM form",
    );
}

fn own(cert: &str, key: &str) -> String {
    if cert.is_empty() { String::new() } else { format!(", cert: \"{cert}\", key: \"{key}\"") }
}

#[test]
fn a_wrong_place_is_told_from_a_wrong_protocol() {
    let (broker, tls) = Mosquitto::start_with_tls();
    let check = |case: &str, url: &str, step: &str, words: &str| {
        ask_of(&mqtt(&format!("url: '{url}'")), &[]).is_wrong(case, step, words);
    };
    let nobody = free_port();
    check(
        "nobody listens",
        &format!("mqtt://127.0.0.1:{nobody}"),
        "TCP",
        &format!("nothing listens at 127.0.0.1:{nobody}"),
    );
    check("no such host", "mqtt://no-such-host.invalid", "name", "`no-such-host.invalid`");
    check(
        "no TLS at the port for it",
        &format!("mqtt://127.0.0.1:{}", tls.port),
        "login",
        "write `mqtts://` in `url`",
    );
    check(
        "TLS where there is none",
        &format!("mqtts://127.0.0.1:{}", broker.port),
        "TLS",
        "write `mqtt://` in `url`",
    );
    let silent = free_listener();
    let port = silent.local_addr().unwrap().port();
    check(
        "a silent server",
        &format!("mqtt://127.0.0.1:{port}"),
        "login",
        "did not answer within 3s",
    );
    check(
        "a silent server of TLS",
        &format!("mqtts://127.0.0.1:{port}"),
        "TLS",
        "no answer in the handshake within 3s",
    );
    let web = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    check("a web server", &format!("mqtt://127.0.0.1:{web}"), "login", "is it an MQTT broker?");
    let hangs_up = answering(b"");
    check(
        "who hangs up",
        &format!("mqtt://127.0.0.1:{hangs_up}"),
        "login",
        "closed the connection before it answered",
    );
}

/// Reads something from each who comes, answers this, and hangs up.
fn answering(answer: &'static [u8]) -> u16 {
    let listener: TcpListener = free_listener();
    let port = listener.local_addr().expect("it listens").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 256]);
            let _ = stream.write_all(answer);
        }
    });
    port
}

#[test]
fn what_the_broker_does_not_allow_is_named() {
    let folder =
        Folder::with(&[("acl", "user me\ntopic readwrite mine/#\n"), ("passwords", "me:secret\n")]);
    let place = |file: &str| folder.path().join(file).display().to_string();
    let hashed =
        std::process::Command::new("mosquitto_passwd").args(["-U", &place("passwords")]).status();
    assert!(hashed.unwrap().success(), "mosquitto_passwd is part of mosquitto");
    let strict = format!(
        "allow_anonymous false\npassword_file {}\nacl_file {}\nmax_queued_messages 10000\n",
        place("passwords"),
        place("acl")
    );
    let strict = Mosquitto::start_with(&strict);
    let at = |more: &str| mqtt(&format!("url: '{}', {more}", strict.url()));
    let me = "username: me, password: secret";
    ask_of(&at("username: me, password: wrong"), &[]).is_wrong(
        "wrong password",
        "login",
        "not authorized",
    );
    ask_of(&at("client_id: a"), &[]).is_wrong(
        "nobody",
        "login",
        "it may want `username` and `password`",
    );
    ask_of(&at(&format!("{me}, version: 5")), &["--topic", "mine/x"])
        .is_fine("a topic that is ours", &["login", "publish"]);
    ask_of(&at(&format!("{me}, version: 5")), &["--topic", "yours/x"]).is_wrong(
        "a topic of others",
        "publish",
        "the broker refused the message on `yours/x`: not authorized",
    );
    ask_of(&at(me), &["--topic", "yours/x"]).is_wrong(
        "a topic of others in 3.1.1",
        "publish",
        "did not send it back: it may not allow it",
    );

    let forgetful = Mosquitto::start_with("retain_available false\n");
    let will = format!(
        "url: '{}', version: 5, will: {{ topic: state, payload: gone, retain: true }}",
        forgetful.url()
    );
    ask_of(&mqtt(&will), &[]).is_wrong(
        "a will",
        "login",
        "write `retain: false` in the `will`; without the `will` it lets us in",
    );

    let prefixed = Mosquitto::start_with("clientid_prefixes site-\n");
    let id = format!("url: '{}', client_id: other", prefixed.url());
    ask_of(&mqtt(&id), &[]).is_wrong("client id", "login", "not authorized");

    let granting = Mosquitto::start_granting(&["in/#", "forebay/#"]);
    let sources = format!(
        "{}sources:\n  a: {{ type: mqtt, connection: it, topics: [in/x, out/x] }}\n",
        mqtt(&format!("url: '{}'", granting.url()))
    );
    let said = ask_of(&sources, &[]);
    said.is_wrong("subscription", "subscribe", "the broker refused `out/x` of `a/a`");
    assert!(said.text.contains("`in/x` of `a/a` is granted"), "{}", said.text);
    let leftovers = ask_of(&sources.replace("out/x", "in/y"), &[]);
    leftovers.is_fine("all is granted", &["subscribe", "publish"]);
}

#[test]
fn devices_and_web_services_are_examined_too() {
    let device = ModbusServer::start();
    let modbus = |port: u16, unit: u8| {
        format!(
            "connections:\n  it: {{ type: modbus, url: 'tcp://127.0.0.1:{port}', timeout: 500ms }}\nsources:\n  meter:\n    \
             type: modbus\n    connection: it\n    unit: {unit}\n    every: 5s\n    registers: [{{ name: a, input: 0, kind: f32, order: ABCD }}]\n"
        )
    };
    ask_of(&modbus(device.port, 1), &[]).is_fine("a meter", &["TCP", "unit 1"]);
    let nobody = free_port();
    ask_of(&modbus(nobody, 1), &[]).is_wrong("no meter", "TCP", "nothing listens at");
    let silent = free_listener();
    let port = silent.local_addr().unwrap().port();
    ask_of(&modbus(port, 7), &[]).is_wrong("a silent meter", "unit 7", "no answer within 500ms");
    let serial = "connections:\n  it: { type: modbus, url: 'rtu:///dev/no-such-line?baud=9600' }\n";
    ask_of(serial, &[]).is_wrong("no line", "line", "No such file");

    let web = WebServer::start();
    let http = |url: &str| {
        format!(
            "sources:\n  t: {{ type: timer, every: 1s }}\nsinks:\n  it: {{ from: t, type: http, url: '{url}', \
             connect_timeout: 3s, timeout: 3s }}\n"
        )
    };
    ask_of(&http(&format!("http://127.0.0.1:{}/in", web.port)), &[])
        .is_fine("a service", &["TCP", "answer"]);
    let closed = answering(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    ask_of(&http(&format!("http://127.0.0.1:{closed}/in")), &[]).is_wrong(
        "no key",
        "answer",
        "401 Unauthorized",
    );
    let moved = answering(
        b"HTTP/1.1 302 Found\r\nlocation: http://portal.example/\r\ncontent-length: 0\r\n\r\n",
    );
    ask_of(&http(&format!("http://127.0.0.1:{moved}/in")), &[]).is_wrong(
        "a portal",
        "answer",
        "it sends us to portal.example",
    );
    let made = Certificates::new();
    made.issue(
        "elsewhere",
        "ca",
        Make { extensions: "subjectAltName=DNS:else.example", ..Make::default() },
    );
    let server = TlsServer::start(&made, "elsewhere", &[]);
    let https =
        http(&format!("https://127.0.0.1:{}/in', ca: '{}", server.port, made.shown("ca", "pem")));
    ask_of(&https, &[]).is_wrong("another host", "TLS", "its certificate is for `else.example`");
}
