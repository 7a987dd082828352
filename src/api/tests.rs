use std::{os::unix::fs::PermissionsExt, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    time::Instant,
};

use super::{Answer, Questions, ask, open, server::SOCKET};

const WITHIN: Duration = Duration::from_secs(20);

/// Answers whatever is asked.
async fn serve(mut questions: Questions) {
    loop {
        let question = questions.next().await;
        let wanted = question.wanted.clone();
        question.answer(&json!({ "asked": format!("{wanted:?}") }));
    }
}

fn said(answer: Answer) -> Value {
    match answer {
        Answer::Said(value) => value,
        Answer::Nobody => panic!("somebody is there"),
    }
}

/// What comes back for bytes of any kind.
async fn exchange(data: &std::path::Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(data.join(SOCKET)).await.unwrap();
    // It may hang up before all is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_asks_gets_an_answer_and_nobody_else_may_ask() {
    let data = tempfile::tempdir().unwrap();
    let questions = open(data.path());
    let mode = std::fs::metadata(data.path().join(SOCKET)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    tokio::select! {
        () = serve(questions) => (),
        () = async {
            let status = ask(data.path(), "/status", WITHIN).await.unwrap();
            assert_eq!(said(status), json!({ "asked": "Status" }));
            let health = ask(data.path(), "/health", WITHIN).await.unwrap();
            assert_eq!(said(health), json!({ "asked": "Health" }));
            let unknown = ask(data.path(), "/else", WITHIN).await.err().unwrap();
            assert!(format!("{unknown:#}").contains("404"), "{unknown:#}");
            let post = |headers: &str| format!("POST /status HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
            let posted = exchange(data.path(), post("").as_bytes()).await;
            assert!(posted.starts_with("HTTP/1.1 403 "), "{posted}");
            let posted = exchange(data.path(), post("X-Forebay: x\r\n").as_bytes()).await;
            assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
            let garbage = exchange(data.path(), b"\x16\x03\x01\x00\xff\x00\r\n\r\n").await;
            assert!(!garbage.contains("200"), "{garbage}");
        } => (),
    }
}

#[tokio::test]
async fn what_a_process_that_was_killed_left_is_nobodys_and_in_nobodys_way() {
    let data = tempfile::tempdir().unwrap();
    assert!(matches!(ask(data.path(), "/health", WITHIN).await.unwrap(), Answer::Nobody));
    drop(std::os::unix::net::UnixListener::bind(data.path().join(SOCKET)).unwrap());
    assert!(matches!(ask(data.path(), "/health", WITHIN).await.unwrap(), Answer::Nobody));
    let questions = open(data.path());
    tokio::select! {
        () = serve(questions) => (),
        answer = ask(data.path(), "/health", WITHIN) => drop(said(answer.unwrap())),
    }
    assert!(!data.path().join(SOCKET).exists(), "it is gone with its process");
}

#[tokio::test]
async fn a_data_folder_that_takes_no_socket_is_no_reason_not_to_run() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join(SOCKET)).unwrap();
    let mut questions = open(data.path());
    tokio::select! {
        biased;
        _ = questions.next() => panic!("nobody can ask"),
        () = std::future::ready(()) => (),
    }
}

#[tokio::test(start_paused = true)]
async fn who_looked_on_and_took_nothing_was_kept_for_ever() {
    let data = tempfile::tempdir().unwrap();
    let mut questions = open(data.path());
    let mut idle = UnixStream::connect(data.path().join(SOCKET)).await.unwrap();
    idle.write_all(b"GET /tap?node=a HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let (say, lines) = mpsc::channel(1);
    questions.next().await.answer_by_lines(lines);
    let began = Instant::now();
    while say.send("x".repeat(1 << 16)).await.is_ok() {}
    let kept = began.elapsed().as_secs();
    assert!((60..120).contains(&kept), "{kept} s");
}
