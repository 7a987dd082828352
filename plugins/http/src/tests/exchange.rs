//! Whole exchanges with a server on the loopback interface.

use std::{fs, path::Path, sync::Arc, time::Duration};

use forebay_sdk::{
    Emitter, Format, Message, Node, Payload, Port, Site, Value, WriteError, Written,
    connection::Refused,
    node::DynSink,
    testing,
    web::Request,
    world::{Listener, Web, World, memory::Memory},
};
use serde_json::json;
use tokio::{io::copy_bidirectional, net::TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};

use super::server::{Server, Turn, answer, ok};
use crate::{Http, http};

fn sink(url: &str, settings: &str) -> Box<dyn DynSink> {
    match testing::build(&http(), &format!("url: \"{url}\"\n{settings}"), None) {
        Node::Sink(sink) => sink,
        _ => panic!("http is a sink"),
    }
}

/// An environment that has a proxy, and from which these places can be reached.
fn around(variable: &str, proxy: &str, places: &[&str]) -> World {
    let memory = Memory::new(1_795_251_600_000_000_000);
    memory.set_variable(variable, proxy);
    for place in places {
        let (door, place) = (memory.open(place), (*place).to_owned());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = door.accept().await {
                let mut far = TcpStream::connect(&place).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
    memory.world()
}

/// A sink in such an environment.
fn proxied(url: &str, variable: &str, proxy: &str, places: &[&str]) -> Box<dyn DynSink> {
    let site = Site { world: around(variable, proxy, places), ..testing::site(None) };
    match testing::build_at(&http(), &format!("url: \"{url}\""), site) {
        Node::Sink(sink) => sink,
        _ => panic!("http is a sink"),
    }
}

#[tokio::test]
async fn a_proxy_of_the_environment_was_not_asked_though_curl_asks_it() {
    let mut proxy = Server::start([Turn::SayAndClose(answer("403 Filtered", "", ""))], None).await;
    let address = format!("http://me:p%40ss@{}", proxy.address);
    let at = [proxy.address.as_str()];
    let mut sink = proxied("https://web.example/in", "HTTPS_PROXY", &address, &at);
    sink.connect().await.unwrap();
    let (said, _) = retried(write(&mut sink, &readings(1)).await);
    let expected =
        "sending to https://web.example by way of the proxy at SERVER: connecting: the proxy at ";
    assert!(said.starts_with(expected), "{said}");
    assert!(said.ends_with(" does not connect us to web.example:443: 403 Filtered"), "{said}");
    let heard = proxy.requests.recv().await.unwrap();
    assert!(heard.starts_with("CONNECT web.example:443 HTTP/1.1\r\n"), "{heard}");
    // me:p@ss
    assert!(heard.to_lowercase().contains("proxy-authorization: basic bwu6cebzcw=="), "{heard}");
    // What is not encrypted it is asked to pass on as a whole.
    let mut proxy = Server::start([ok()], None).await;
    let address = format!("http://me:p%40ss@{}", proxy.address);
    let at = [proxy.address.as_str()];
    let world = around("http_proxy", &address, &at);
    let request = Request {
        method: "GET".to_owned(),
        url: "http://web.example/in?a=b".to_owned(),
        headers: Vec::new(),
        body: None,
        allowed: ["http://web.example".to_owned()].into(),
        timeout: Duration::from_secs(5),
    };
    let mut caller = Http.caller(&Path::new(".").into(), &world);
    caller.ask(request, &readings(1)[0]).await.unwrap();
    let heard = proxy.requests.recv().await.unwrap();
    assert!(heard.starts_with("GET http://web.example/in?a=b HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains("\r\nhost: web.example\r\n"), "{heard}");
    assert!(heard.to_lowercase().contains("proxy-authorization: basic bwu6cebzcw=="), "{heard}");
    // What is on the site is called straight, and what is no proxy is named.
    let server = Server::start([ok()], None).await;
    let near = format!("http://{}/in", server.address);
    let mut sink = proxied(&near, "ALL_PROXY", &address, &[&server.address]);
    sink.connect().await.unwrap();
    write(&mut sink, &readings(1)).await.unwrap();
    let mut sink = proxied("https://web.example", "ALL_PROXY", "ftp://p", &[]);
    let said = format!("{:#}", sink.connect().await.unwrap_err());
    assert!(said.starts_with("`ALL_PROXY` names no proxy: "), "{said}");
}

fn readings(count: u32) -> Vec<Message> {
    (1..=count).map(|n| Message::new("site/a", json!({ "n": n }))).collect()
}

async fn write(sink: &mut Box<dyn DynSink>, batch: &[Message]) -> Result<Written, WriteError> {
    sink.write(batch, &mut Emitter::default()).await
}

/// Writes `batch` to a server that takes one turn. Gives the end of it and what the server heard.
async fn exchange(
    turn: Turn,
    settings: &str,
    batch: &[Message],
) -> (Result<Written, WriteError>, String) {
    let mut server = Server::start([turn], None).await;
    let mut sink = sink(&format!("http://{}/in?token=tell-nobody", server.address), settings);
    sink.connect().await.unwrap();
    let written = write(&mut sink, batch).await;
    let heard = server.requests.recv().await.unwrap();
    (written, heard.replace(&server.address, "SERVER"))
}

#[track_caller]
fn retried(written: Result<Written, WriteError>) -> (String, Option<Duration>) {
    match written {
        Err(WriteError::Retry { error, after, taken: 0 }) => {
            (without_port(&format!("{error:#}")), after)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn rejected(written: Result<Written, WriteError>) -> String {
    match written {
        Err(WriteError::Reject(error)) => without_port(&format!("{error:#}")),
        other => panic!("{other:?}"),
    }
}

/// The port is another one each time.
fn without_port(error: &str) -> String {
    assert!(!error.contains("tell-nobody"), "{error}");
    match error.split_once("127.0.0.1:") {
        Some((start, rest)) => {
            format!("{start}SERVER{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => error.to_owned(),
    }
}

#[tokio::test]
async fn a_message_is_a_request_whose_body_is_its_payload() {
    let (written, heard) = exchange(ok(), "", &readings(1)).await;
    written.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "POST /in?token=tell-nobody HTTP/1.1\r\n\
         content-type: application/json\r\n\
         accept: */*\r\n\
         user-agent: forebay/{version}\r\n\
         host: SERVER\r\n\
         content-length: 7\r\n\
         \r\n\
         {{\"n\":1}}"
    );
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn what_goes_over_the_wire_is_counted_to_the_byte() {
    for settings in ["", "body: lines", "method: put\nheaders: { User-Agent: me, Host: a.example }"]
    {
        let mut server = Server::start([ok()], None).await;
        let mut sink = sink(&format!("http://{}/in?a=b%20c#part", server.address), settings);
        sink.connect().await.unwrap();
        let written = write(&mut sink, &readings(1)).await.unwrap();
        let heard = server.requests.recv().await.unwrap();
        assert_eq!(written, Written::bytes(heard.len()), "{heard}");
    }
}

/// What leaves the sink after one turn of the server, on which port.
async fn answered(turn: Turn, settings: &str, batch: &[Message]) -> Vec<(Port, Message)> {
    let server = Server::start([turn], None).await;
    let mut sink = sink(&format!("http://{}", server.address), settings);
    sink.connect().await.unwrap();
    let mut out = Emitter::default();
    // Whether it was taken is seen by the answer.
    let _ = sink.write(batch, &mut out).await;
    out.drain().map(|(port, envelope)| (port, envelope.message)).collect()
}

#[tokio::test]
async fn an_answer_goes_out_as_a_message_about_the_same() {
    #[track_caller]
    fn check(answers: &[(Port, Message)], payload: Value, http: Value) {
        let [(port, answer)] = answers else { panic!("{answers:?}") };
        assert_eq!(*port, Port::named(0));
        assert_eq!((&*answer.topic, &answer.meta.source), ("site/a", &None));
        assert_eq!(answer.payload.value(), Ok(&payload));
        assert_eq!(answer.meta.get("http"), Some(&http));
    }
    let say = |headers: &str, body: &str| Turn::Say(answer("200 OK", headers, body));
    let json = "content-type: application/problem+JSON; charset=utf-8\r\n";
    let mut question = readings(1);
    question[0].meta.insert("ticket", 7);
    question[0].meta.source = Some("site/meter".into());
    let answers = answered(say(json, "{\"ok\": true}"), "", &question).await;
    let http = json!({"status": 200, "content_type": "application/problem+JSON; charset=utf-8"});
    check(&answers, json!({"ok": true}), http);
    assert_eq!(answers[0].1.meta.get("ticket"), Some(&json!(7)));

    let answers = answered(say("", "{}"), "", &question).await;
    check(&answers, json!("{}"), json!({"status": 200}));
    let turn = Turn::Say("HTTP/1.1 204 No Content\r\n\r\n".to_owned());
    check(&answered(turn, "", &question).await, json!(null), json!({"status": 204}));

    // A batch has one answer, and it is about the first of them.
    let mut batch = readings(3);
    batch[2].topic = "site/b".into();
    let answers = answered(say("", "3 taken"), "body: array", &batch).await;
    check(&answers, json!("3 taken"), json!({"status": 200}));
}

#[tokio::test]
async fn an_answer_that_is_cut_says_so_and_is_not_read_as_json() {
    let json = "content-type: application/json\r\n";
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n{json}\r\n[1, 2");
    let answers = answered(Turn::SayAndClose(cut), "", &readings(1)).await;
    assert_eq!(answers[0].1.payload.value(), Ok(&json!("[1, 2")));
    assert_eq!(answers[0].1.meta.get("http").unwrap()["cut"], json!(true));

    const BOUND: usize = 64 << 10;
    for (bytes, cut) in [(BOUND, Value::Null), (BOUND + 1, json!(true))] {
        let turn = Turn::Say(answer("200 OK", "", &"x".repeat(bytes)));
        let answers = answered(turn, "", &readings(1)).await;
        assert_eq!(answers[0].1.payload.to_bytes(Format::Text).len(), BOUND);
        assert_eq!(answers[0].1.meta.get("http").unwrap()["cut"], cut);
    }
}

#[tokio::test]
async fn only_who_took_the_messages_has_answered() {
    for status in ["400 Bad Request", "302 Found", "503 Service Unavailable"] {
        let turn = Turn::Say(answer(status, "", "no"));
        assert_eq!(answered(turn, "", &readings(1)).await, []);
    }
}

#[tokio::test]
async fn many_messages_are_one_array_or_lines() {
    let (written, heard) = exchange(ok(), "body: array", &readings(3)).await;
    written.unwrap();
    assert!(heard.contains("\r\ncontent-type: application/json\r\n"), "{heard}");
    assert!(heard.ends_with("\r\n\r\n[{\"n\":1},{\"n\":2},{\"n\":3}]"), "{heard}");

    let mut batch = readings(2);
    batch.push(Message::new("", Payload::encoded("{\n\"n\": 3\r\n}", Format::Json)));
    let (written, heard) = exchange(ok(), "body: lines", &batch).await;
    written.unwrap();
    assert!(heard.contains("\r\ncontent-type: application/x-ndjson\r\n"), "{heard}");
    assert!(heard.ends_with("\r\n\r\n{\"n\":1}\n{\"n\":2}\n{ \"n\": 3  }\n"), "{heard}");

    let (_, heard) = exchange(ok(), "body: array", &readings(1)).await;
    assert!(heard.ends_with("\r\n\r\n[{\"n\":1}]"), "one message is an array too: {heard}");
}

#[tokio::test]
async fn method_headers_and_format_are_as_set() {
    let settings = "\
        method: put\nformat: text\n\
        headers: { X-Api-Key: 'key of mine', Content-Type: application/vnd.site+json }";
    let (written, heard) = exchange(ok(), settings, &[Message::new("", json!("on"))]).await;
    written.unwrap();
    assert!(heard.starts_with("PUT /in"), "{heard}");
    assert!(heard.contains("\r\nx-api-key: key of mine\r\n"), "{heard}");
    assert!(heard.contains("\r\ncontent-type: application/vnd.site+json\r\n"), "{heard}");
    assert!(heard.ends_with("\r\n\r\non"), "{heard}");

    let bytes = Message::new("", Payload::encoded("raw", Format::Bytes));
    let (_, heard) = exchange(ok(), "format: bytes", &[bytes]).await;
    assert!(heard.contains("\r\ncontent-type: application/octet-stream\r\n"), "{heard}");

    // What an `encode` made is written already.
    let bytes = Message::new("", Payload::encoded("a,b\n1,2\n", Format::Bytes));
    let (_, heard) = exchange(ok(), "headers: { Content-Type: text/csv }", &[bytes]).await;
    assert!(heard.ends_with("\r\n\r\na,b\n1,2\n"), "{heard}");
}

#[tokio::test]
async fn a_body_is_packed_and_says_in_what_it_is_written() {
    let settings = "body: array\nformat: cbor\ncompression: gzip";
    let (written, heard) = exchange(ok(), settings, &readings(2)).await;
    written.unwrap();
    assert!(heard.contains("\r\ncontent-type: application/cbor\r\n"), "{heard}");
    assert!(heard.contains("\r\ncontent-encoding: gzip\r\n"), "{heard}");
    assert!(heard.contains("\r\n\r\n\u{1f}\u{fffd}"), "{heard}");

    // A list of one map, {"n": 1}.
    let (_, heard) = exchange(ok(), "body: array\nformat: cbor", &readings(1)).await;
    assert!(heard.contains("\r\ncontent-length: 5\r\n") && heard.ends_with("an\u{1}"), "{heard}");
}

#[tokio::test]
async fn what_is_no_json_is_rejected_before_anything_is_sent() {
    let server = Server::start([ok()], None).await;
    for shape in ["single", "array", "lines"] {
        let mut sink = sink(&format!("http://{}", server.address), &format!("body: {shape}"));
        sink.connect().await.unwrap();
        for bytes in [&b"{oops"[..], b"1},{\"forged\":1", b"\"\xff\"", b""] {
            let message = Message::new("site/a", Payload::encoded(bytes, Format::Json));
            let error = rejected(write(&mut sink, &[message]).await);
            let start = "writing a message of topic \"site/a\": payload is not JSON: ";
            assert!(error.starts_with(start), "{error}");
        }
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_refusal_rejects_and_says_why_on_one_short_line() {
    let body = format!("bad \"field\"\r\n\u{1b}[2J {}", "x".repeat(300));
    let turn = Turn::Say(answer("400 Bad Request", "", &body));
    let (written, _) = exchange(turn, "", &readings(1)).await;
    let start = r#"sending to http://SERVER: 400 Bad Request: bad "field"\r\n\u{1b}[2J x"#;
    let error = rejected(written);
    assert!(error.starts_with(start) && error.ends_with("xx…"), "{error}");
    assert!(error.chars().count() < 260, "{error}");

    let turn = Turn::Say(answer("422 Unprocessable Entity", "", ""));
    let (written, _) = exchange(turn, "", &readings(1)).await;
    assert_eq!(rejected(written), "sending to http://SERVER: 422 Unprocessable Entity");
}

#[tokio::test]
async fn a_server_that_repeats_our_secrets_does_not_bring_them_into_the_log() {
    let body = "no way: Bearer s3cr3t-t0ken, s3cr3t-t0ken, /in?token=tell-nobody, tell-nobody";
    let turn = Turn::Say(answer("403 Forbidden", "", body));
    let settings = "headers: { Authorization: Bearer s3cr3t-t0ken }";
    let (written, heard) = exchange(turn, settings, &readings(1)).await;
    assert!(heard.contains("\r\nauthorization: Bearer s3cr3t-t0ken\r\n"), "{heard}");
    let (error, _) = retried(written);
    assert!(!error.contains("s3cr3t"), "{error}");
    assert!(error.contains("403 Forbidden: no way: <hidden>, <hidden>, /in?<hidden>"), "{error}");
}

#[tokio::test]
async fn what_is_refused_for_a_reason_that_is_not_in_the_message_stays_in_the_buffer() {
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found", "410 Gone"] {
        let (written, _) = exchange(Turn::Say(answer(status, "", "")), "", &readings(1)).await;
        let Err(WriteError::Retry { error, .. }) = written else { panic!("{written:?}") };
        assert!(error.is::<Refused>(), "nothing gets better before somebody mends it: {error:#}");
    }
    let (written, _) =
        exchange(Turn::Say(answer("423 Locked", "retry-after: 7\r\n", "")), "", &readings(1)).await;
    assert_eq!(retried(written).1, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let turn = Turn::Say(answer("429 Too Many Requests", "retry-after: 7\r\n", "slow down"));
    let (written, _) = exchange(turn, "", &readings(1)).await;
    let expected = "sending to http://SERVER: 429 Too Many Requests: slow down";
    assert_eq!(retried(written), (expected.to_owned(), Some(Duration::from_secs(7))));

    let turn = Turn::Say(answer("503 Service Unavailable", "", ""));
    let (written, _) = exchange(turn, "", &readings(1)).await;
    let expected = "sending to http://SERVER: 503 Service Unavailable";
    assert_eq!(retried(written), (expected.to_owned(), None));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_loses_nothing() {
    let headers = "location: https://portal.example/login?from=tell-nobody\r\n";
    let turn = Turn::Say(answer("302 Found", headers, "moved"));
    let (written, _) = exchange(turn, "", &readings(1)).await;
    let expected = "sending to http://SERVER: 302 Found: it sends us to portal.example; \
                    redirects are not followed";
    assert_eq!(retried(written), (expected.to_owned(), None));
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_retried() {
    for cut in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-le"] {
        let turn = Turn::SayAndClose(cut.to_owned());
        let (error, after) = retried(exchange(turn, "", &readings(1)).await.0);
        assert!(
            error.starts_with("sending to http://SERVER: the connection broke before "),
            "{error}"
        );
        assert_eq!(after, None);
    }
}

#[tokio::test]
async fn the_status_decides_even_when_the_rest_of_the_answer_is_lost() {
    let cut =
        |status| Turn::SayAndClose(format!("HTTP/1.1 {status}\r\ncontent-length: 99\r\n\r\nab"));
    exchange(cut("200 OK"), "", &readings(1)).await.0.unwrap();
    let (error, _) = retried(exchange(cut("500 Internal Server Error"), "", &readings(1)).await.0);
    assert_eq!(error, "sending to http://SERVER: 500 Internal Server Error: ab");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let mut server = Server::start([Turn::Silence], None).await;
    let mut sink = sink(&format!("http://{}", server.address), "timeout: 20s");
    sink.connect().await.unwrap();
    let stop_the_clock = async {
        server.requests.recv().await.unwrap();
        tokio::time::pause();
    };
    let batch = readings(1);
    let (written, ()) = tokio::join!(write(&mut sink, &batch), stop_the_clock);
    let expected = "sending to http://SERVER: no answer within 20s".to_owned();
    assert_eq!(retried(written), (expected, None));
}

#[tokio::test]
async fn an_answer_without_end_is_read_no_further_than_a_bound() {
    const FAR_TOO_MUCH: usize = 32 << 20;
    let endless = answer("500 Internal Server Error", "", &"x".repeat(FAR_TOO_MUCH));
    let mut server = Server::start([Turn::Say(endless), ok()], None).await;
    let mut sink = sink(&format!("http://{}", server.address), "");
    sink.connect().await.unwrap();
    let (error, _) = retried(write(&mut sink, &readings(1)).await);
    assert!(error.chars().count() < 280, "{error}");
    sink.connect().await.unwrap();
    write(&mut sink, &readings(1)).await.unwrap();
    assert_eq!(server.connections(), 2, "what is left of the answer is not read to the end");
    assert!(server.requests.recv().await.is_some());
}

#[tokio::test]
async fn requests_share_a_connection() {
    let with_body = || Turn::Say(answer("200 OK", "", "thank you"));
    let server = Server::start([with_body(), with_body(), ok()], None).await;
    let mut sink = sink(&format!("http://{}", server.address), "");
    for _ in 0..3 {
        sink.connect().await.unwrap();
        write(&mut sink, &readings(1)).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn nobody_listening_is_retried_without_showing_path_or_query() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut sink = sink(&format!("http://{address}/hook/tell-nobody?a=tell-nobody"), "");
    sink.connect().await.unwrap();
    let (error, _) = retried(write(&mut sink, &readings(1)).await);
    assert!(error.starts_with("sending to http://SERVER: connecting: "), "{error}");
    assert!(error.contains("Connection refused"), "{error}");
}

/// A server's side of TLS, and the PEM file that vouches for it.
fn certified() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

#[tokio::test]
async fn a_server_is_trusted_by_the_certificates_that_were_set() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, pem) = certified();
    let file = folder.path().join("ca.pem");
    let mut server = Server::start([ok(), ok()], Some(tls)).await;
    let url = format!("https://{}/in?token=tell-nobody", server.address);

    let (_, stranger) = certified();
    fs::write(&file, stranger).unwrap();
    let mut sink = sink(&url, &format!("ca: {}", file.display()));
    sink.connect().await.unwrap();
    let (error, _) = retried(write(&mut sink, &readings(1)).await);
    assert!(error.starts_with("sending to https://SERVER: "), "{error}");
    assert!(error.contains("connecting: the TLS handshake with "), "{error}");

    // Somebody puts the file right: no restart is needed.
    fs::write(&file, &pem).unwrap();
    sink.connect().await.unwrap();
    write(&mut sink, &readings(1)).await.unwrap();
    assert!(server.requests.recv().await.unwrap().starts_with("POST /in?token="));
    drop(sink);

    let mut sink = self::sink(&url, &format!("ca: {}", json!(pem)));
    sink.connect().await.unwrap();
    write(&mut sink, &readings(1)).await.unwrap();
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let mut sink = sink("https://127.0.0.1:1", &format!("ca: {}", file.display()));
    let shown = format!("`ca` ({})", file.display());
    let reading = format!("reading {shown}: ");
    let empty = format!("{shown} holds no certificate in PEM form");
    for (content, expected) in [
        (None, &reading),
        (Some(""), &empty),
        (Some("no PEM"), &empty),
        (Some("-----BEGIN CERTIFICATE-----\nAA"), &reading),
    ] {
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let error = format!("{:#}", sink.connect().await.unwrap_err());
        assert!(error.starts_with(expected), "{error}");
    }
}
