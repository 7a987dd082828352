//! Whoever asks the program how it is, in whatever way, takes a bounded part of it, and keeps nobody else from asking.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use crate::support::{Certificates, Folder, Forebay, Make, free_port, now, until};

const TOKEN: &str = "0123456789abcdef";
/// How much the program grows at most, and by how many open files: those of 32 at each of two doors, and some of its own.
const MOST_BYTES: u64 = 6 << 20;
const MOST_FILES: usize = 2 * 32 + 16;
/// Whoever is at the machine is answered within this time.
const SOON: Duration = Duration::from_secs(1);

/// What is kept open meanwhile.
type Kept = Vec<Box<dyn Send>>;
/// At a port, with a data folder.
type Attack = fn(u16, &Path) -> Kept;

#[test]
fn whoever_asks_in_bad_ways_takes_little_and_others_are_answered_within_a_second() {
    let port = free_port();
    let (folder, data) =
        (folder(&format!("listen: '127.0.0.1:{port}', token: {TOKEN}")), Folder::new());
    let running = Forebay::run_on(folder.path(), data.path());
    running.wait_for_log(&format!("answers at http://127.0.0.1:{port}"));
    attack(
        &running,
        port,
        data.path(),
        &[
            ("500 that say nothing", say_nothing),
            ("heads that come byte by byte", dribble),
            ("bodies that never end", endless_bodies),
            ("200 that look on and read nothing", read_nothing),
            ("heads without end", huge_heads),
            ("a thousand questions at once", pipelined),
            ("what is no question", nonsense),
        ],
    );
}

#[test]
fn handshakes_that_nobody_finishes_keep_nobody_out() {
    let certificates = Certificates::new();
    certificates.issue("router", "ca", Make::default());
    let (port, data) = (free_port(), Folder::new());
    let (cert, key) = (certificates.shown("router", "pem"), certificates.shown("router", "key"));
    let folder = folder(&format!(
        "listen: '127.0.0.1:{port}', token: {TOKEN}, tls: {{ cert: {cert}, key: {key} }}"
    ));
    let running = Forebay::run_on(folder.path(), data.path());
    running.wait_for_log(&format!("answers at https://127.0.0.1:{port}"));
    attack(
        &running,
        port,
        data.path(),
        &[
            ("handshakes that nobody begins", say_nothing),
            ("handshakes that nobody finishes", half_handshakes),
            ("what is no handshake", nonsense),
        ],
    );
}

fn folder(api: &str) -> Folder {
    Folder::with(&[
        ("forebay.yaml", &format!("api: {{ {api} }}\n")),
        (
            "a.yaml",
            "sources:\n  beat: { type: timer, every: 100ms }\nsinks:\n  s: { from: beat, type: log }\n",
        ),
    ])
}

fn attack(running: &Forebay, port: u16, data: &Path, attacks: &[(&str, Attack)]) {
    answered(data);
    let (bytes, files) = (running.rss_bytes(), running.open_files());
    for (what, attack) in attacks {
        let kept = attack(port, data);
        // The best of a few, as others take the processors too; who has to wait for places waits each time.
        let took = (0..5).map(|_| answered(data)).min().expect("there are some");
        let (more_bytes, more_files) =
            (running.rss_bytes().saturating_sub(bytes), running.open_files().saturating_sub(files));
        println!("{what}: {took:?}, {} KiB and {more_files} files more", more_bytes >> 10);
        assert!(took < SOON, "{what}: {took:?}");
        assert!(more_bytes < MOST_BYTES, "{what}: {more_bytes} bytes");
        assert!(more_files <= MOST_FILES, "{what}: {more_files} files");
        drop(kept);
        until("what it kept open is closed", || running.open_files() <= files + 4);
    }
}

/// How long somebody at the machine waits for an answer.
fn answered(data: &Path) -> Duration {
    let began = now();
    let mut stream = UnixStream::connect(data.join("api.sock")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(40))).expect("it can be set");
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: forebay\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    now() - began
}

/// Somebody who is let in for as long as that is. Who is shown out may be so at any byte.
fn say(port: u16, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("it can be set");
    let _ = stream.write_all(bytes);
    stream
}

fn kept(streams: impl Iterator<Item = impl Send + 'static>) -> Kept {
    streams.map(|stream| Box::new(stream) as Box<dyn Send>).collect()
}

fn question(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{headers}\r\n"
    )
}

fn say_nothing(port: u16, data: &Path) -> Kept {
    let mut all = kept((0..500).map(|_| say(port, b"")));
    let here = || UnixStream::connect(data.join("api.sock")).expect("it listens");
    all.extend(kept((0..300).map(|_| here())));
    all
}

fn dribble(port: u16, data: &Path) -> Kept {
    let begun = question("/status", "X-Slow: ");
    let begun = begun.trim_end().as_bytes();
    let mut there: Vec<TcpStream> = (0..100).map(|_| say(port, begun)).collect();
    for _ in 0..20 {
        there.iter_mut().for_each(|stream| drop(stream.write_all(b"x")));
        answered(data);
    }
    kept(there.into_iter())
}

fn endless_bodies(port: u16, _: &Path) -> Kept {
    let long = "Content-Length: 1000000000000\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let body = vec![b'x'; 1 << 20];
    let ask = |headers: &str| {
        let mut stream = say(port, question("/status", headers).as_bytes());
        let size = if headers == chunked { "100000\r\n" } else { "" };
        let _ = stream.write_all(size.as_bytes());
        let _ = stream.write_all(&body);
        stream
    };
    kept((0..40).map(|n| ask(if n % 2 == 0 { long } else { chunked })))
}

fn read_nothing(port: u16, data: &Path) -> Kept {
    let paths = ["/events", "/tap?node=a/beat&per_second=1000"];
    let mut all = kept((0..100).map(|n| say(port, question(paths[n % 2], "").as_bytes())));
    let here = |path: &str| {
        let mut stream = UnixStream::connect(data.join("api.sock")).expect("it listens");
        let question = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let _ = stream.write_all(question.as_bytes());
        stream
    };
    all.extend(kept((0..100).map(|n| here(paths[n % 2]))));
    all
}

fn huge_heads(port: u16, _: &Path) -> Kept {
    let one = format!("X-Long: {}\r\n", "x".repeat(8 << 20));
    let many = "X-Many: x\r\n".repeat(100_000);
    let mut refused = say(port, question("/status", &"X: x\r\n".repeat(100)).as_bytes());
    let mut answer = String::new();
    let _ = refused.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    kept((0..20).map(|n| say(port, question("/status", [&one, &many][n % 2]).as_bytes())))
}

fn pipelined(port: u16, _: &Path) -> Kept {
    let questions = question("/status", "").repeat(1000);
    kept((0..40).map(|_| say(port, questions.as_bytes())))
}

fn nonsense(port: u16, _: &Path) -> Kept {
    let words: [&[u8]; 12] = [
        b"GET /status HTTP/1.0\r\n\r\n",
        b"GET /status HTTP/0.9\r\n\r\n",
        b"GET /status\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n",
        b"GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /status HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
        b"POST /reload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        b"POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"\x00\x01\x02\xff\xfe\r\n\r\n",
        b"GET /%00%ff/../status HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ];
    for words in words {
        let mut stream = say(port, words);
        stream.set_read_timeout(Some(Duration::from_secs(40))).expect("it can be set");
        let mut answer = Vec::new();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains(" 200 ") && !answer.contains("a/beat"), "{answer}");
    }
    kept((0..200).map(|n| say(port, words[n % words.len()])))
}

fn half_handshakes(port: u16, _: &Path) -> Kept {
    // The head of a record that holds a ClientHello of 508 bytes, and a part of that.
    let begun = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 100]].concat();
    kept((0..500).map(|_| say(port, &begun)))
}
