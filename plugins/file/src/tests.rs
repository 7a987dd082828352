use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use forebay_sdk::{
    Emitter, Format, Message, Node, Payload, WriteError, Written, node::DynSink, testing,
};
use serde_json::json;
use tempfile::TempDir;

use super::{append::Appender, file, record::record};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn sink(path: &Path, settings: &str) -> Box<dyn DynSink> {
    let text = format!("path: {}\n{settings}", path.display());
    match testing::build(&file(), &text, None) {
        Node::Sink(sink) => sink,
        _ => panic!("a file is a sink"),
    }
}

async fn write(sink: &mut Box<dyn DynSink>, batch: &[Message]) -> Result<Written, WriteError> {
    sink.write(batch, &mut Emitter::default()).await
}

fn message(payload: impl Into<Payload>) -> Message {
    Message::new("site/a", payload)
}

fn appender(path: PathBuf, max_bytes: u64, keep: u8) -> Appender {
    Appender { path, max_bytes, keep, sync: true }
}

fn append(appender: &Appender, lines: &[&str]) {
    let lines: Vec<Vec<u8>> = lines.iter().map(|line| format!("{line}\n").into_bytes()).collect();
    appender.append(&lines).unwrap();
}

/// Names and contents of the files in a folder, by name.
#[track_caller]
fn check_files(folder: &TempDir, expected: &[(&str, &str)]) {
    let mut files: Vec<(String, String)> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap_or_default())
        })
        .collect();
    files.sort();
    let files: Vec<(&str, &str)> = files.iter().map(|(n, text)| (&**n, &**text)).collect();
    assert_eq!(files, expected);
}

/// The error of a write that may be tried again.
#[track_caller]
fn retried(written: Result<Written, WriteError>) -> String {
    match written {
        Err(WriteError::Retry { error, after: None, taken: 0 }) => format!("{error:#}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_message_is_a_line_in_a_file_whose_folders_were_made() {
    let folder = folder();
    let path = folder.path().join("a/b/site.jsonl");
    for sync in [true, false] {
        let mut sink = sink(&path, &format!("sync: {sync}"));
        sink.connect().await.unwrap();
        let batch = [message(json!({"b": 1, "a": 2})), message(json!("x\ny"))];
        assert_eq!(write(&mut sink, &batch).await.unwrap(), Written::bytes(21));
    }
    let expected = "{\"b\":1,\"a\":2}\n\"x\\ny\"\n".repeat(2);
    assert_eq!(fs::read_to_string(path).unwrap(), expected);
}

#[test]
fn a_record_never_spans_lines_but_for_bytes() {
    #[track_caller]
    fn check(payload: impl Into<Payload>, format: Format, expected: &str) {
        let record = record(&message(payload), format).unwrap();
        assert_eq!(String::from_utf8_lossy(&record), format!("{expected}\n"));
    }
    let pretty = || Payload::encoded("{\n  \"a\": \"\\n\"\r\n}", Format::Json);
    check(pretty(), Format::Json, r#"{   "a": "\n"  }"#);
    check(json!({"a": "b\n"}), Format::Json, r#"{"a":"b\n"}"#);
    check(Payload::encoded("on\n", Format::Text), Format::Json, r#""on\n""#);
    check(json!("two\nlines\r\n"), Format::Text, r"two\nlines");
    check(json!("C:\\new\r\n\n"), Format::Text, r"C:\new\r\n");
    check(json!(21.5), Format::Text, "21.5");
    check(json!({"a": "b\n"}), Format::Text, r#"{"a":"b\n"}"#);
    check(Payload::encoded(&b"a\n\xffb"[..], Format::Bytes), Format::Bytes, "a\n\u{fffd}b");
    check(pretty(), Format::Bytes, "{\n  \"a\": \"\\n\"\r\n}");
}

#[tokio::test]
async fn what_is_no_json_is_rejected_and_nothing_of_its_batch_is_written() {
    let folder = folder();
    let path = folder.path().join("log");
    let mut sink = sink(&path, "");
    for bytes in [&b"{oops"[..], b"", b"1 2", b"\"\xff\"", b"1}\n{\"forged\":1"] {
        let batch = [message(json!(1)), message(Payload::encoded(bytes, Format::Json))];
        match write(&mut sink, &batch).await {
            Err(WriteError::Reject(error)) => {
                let text = format!("{error:#}");
                let start = "writing a message of topic \"site/a\": payload is not JSON: ";
                assert!(text.starts_with(start), "{text}");
            }
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
    assert!(!path.exists());
}

#[test]
fn a_full_file_makes_room_and_the_oldest_goes() {
    let folder = folder();
    let appender = appender(folder.path().join("log"), 8, 2);
    append(&appender, &["aaa", "bbb", "ccc", "ddd", "eee"]);
    check_files(&folder, &[("log", "eee\n"), ("log.1", "ccc\nddd\n"), ("log.2", "aaa\nbbb\n")]);
    append(&appender, &["fff"]);
    append(&appender, &["ggg"]);
    check_files(&folder, &[("log", "ggg\n"), ("log.1", "eee\nfff\n"), ("log.2", "ccc\nddd\n")]);
}

#[test]
fn a_line_that_is_too_long_for_a_file_gets_one_of_its_own() {
    let folder = folder();
    let appender = appender(folder.path().join("log"), 8, 5);
    append(&appender, &["a", "much longer than a file", "b", "much longer than a file"]);
    check_files(
        &folder,
        &[
            ("log", "much longer than a file\n"),
            ("log.1", "b\n"),
            ("log.2", "much longer than a file\n"),
            ("log.3", "a\n"),
        ],
    );
}

#[test]
fn with_nothing_to_keep_a_full_file_is_deleted() {
    let folder = folder();
    let appender = appender(folder.path().join("log"), 8, 0);
    append(&appender, &["aaa", "bbb", "ccc"]);
    check_files(&folder, &[("log", "ccc\n")]);
}

#[test]
fn a_rotation_that_was_interrupted_costs_no_further_file() {
    let folder = folder();
    let appender = appender(folder.path().join("log"), 4, 3);
    append(&appender, &["aaa", "bbb", "ccc"]);
    // The power went after `log.1` was renamed to `log.2` and before `log` was.
    fs::rename(folder.path().join("log.2"), folder.path().join("log.3")).unwrap();
    fs::rename(folder.path().join("log.1"), folder.path().join("log.2")).unwrap();
    append(&appender, &["ddd"]);
    check_files(
        &folder,
        &[("log", "ddd\n"), ("log.1", "ccc\n"), ("log.2", "bbb\n"), ("log.3", "aaa\n")],
    );
}

#[test]
fn a_line_torn_by_a_power_cut_is_not_glued_to_the_next() {
    let folder = folder();
    let path = folder.path().join("log");
    fs::write(&path, "{\"a\":1}\n{\"a\":").unwrap();
    let appender = appender(path, 1024, 1);
    append(&appender, &["{\"a\":2}"]);
    append(&appender, &["{\"a\":3}"]);
    check_files(&folder, &[("log", "{\"a\":1}\n{\"a\":\n{\"a\":2}\n{\"a\":3}\n")]);
}

#[test]
fn a_file_that_was_taken_away_is_made_again() {
    let folder = folder();
    let appender = appender(folder.path().join("sub/log"), 1024, 1);
    append(&appender, &["a"]);
    fs::remove_dir_all(folder.path().join("sub")).unwrap();
    append(&appender, &["b"]);
    assert_eq!(fs::read_to_string(folder.path().join("sub/log")).unwrap(), "b\n");
}

#[tokio::test]
async fn what_stands_in_the_way_is_retried_until_somebody_clears_it() {
    let folder = folder();
    let path = folder.path().join("sub/log");
    let shown = path.display().to_string();
    let batch = [message(json!(1))];
    let mut sink = sink(&path, "");

    fs::create_dir_all(&path).unwrap();
    let expected = format!("appending to {shown}: not a regular file");
    assert_eq!(retried(write(&mut sink, &batch).await), expected);
    assert_eq!(format!("{:#}", sink.connect().await.unwrap_err()), expected);

    fs::remove_dir_all(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub"), "").unwrap();
    let error = retried(write(&mut sink, &batch).await);
    let expected = format!("appending to {shown}: making the folder ");
    assert!(error.starts_with(&expected), "{error}");

    fs::remove_file(folder.path().join("sub")).unwrap();
    write(&mut sink, &batch).await.unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "1\n");
}

#[tokio::test]
async fn a_device_or_a_pipe_is_not_written_to() {
    let folder = folder();
    let path = folder.path().join("log");
    symlink("/dev/null", &path).unwrap();
    let error = retried(write(&mut sink(&path, ""), &[message(json!(1))]).await);
    assert!(error.ends_with(": not a regular file"), "{error}");
}

#[test]
fn a_rotation_that_cannot_be_done_loses_nothing() {
    let folder = folder();
    let appender = appender(folder.path().join("log"), 4, 1);
    append(&appender, &["aaa"]);
    fs::create_dir(folder.path().join("log.1")).unwrap();
    let error = format!("{:#}", appender.append(&[b"bbb\n".to_vec()]).unwrap_err());
    assert!(error.contains("/log: renaming ") && error.contains("/log.1: "), "{error}");
    check_files(&folder, &[("log", "aaa\n"), ("log.1", "")]);
    fs::remove_dir(folder.path().join("log.1")).unwrap();
    append(&appender, &["bbb"]);
    check_files(&folder, &[("log", "bbb\n"), ("log.1", "aaa\n")]);
}

/// Set in the process of the test below that runs under a limit on the size of its files.
const LIMITED: &str = "FOREBAY_TEST_LIMITED_FILE";

/// The operating system takes a part of a write and then refuses, as on a full disk.
#[test]
fn a_write_that_failed_half_way_leaves_no_half_line() {
    if let Some(path) = std::env::var_os(LIMITED) {
        return write_until_refused(Path::new(&path));
    }
    let folder = folder();
    let path = folder.path().join("log");
    // Ignored, the signal that goes with the limit becomes an error of `write`.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let name = "tests::a_write_that_failed_half_way_leaves_no_half_line";
    // Its own output goes to a pipe: to a file, the limit would hold for it too.
    let ended = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(LIMITED, &path)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");

    // Somebody made room. The batch comes again.
    let before = fs::read_to_string(&path).unwrap();
    append(&appender(path.clone(), 1 << 20, 1), &["next"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{before}next\n"));
}

fn write_until_refused(path: &Path) {
    let appender = appender(path.to_owned(), 1 << 20, 1);
    let line = [&[b'x'; 999][..], b"\n"].concat();
    let batch = [line.clone(), line];
    let mut settled = 0;
    let error = loop {
        match appender.append(&batch) {
            Ok(()) => settled += 2,
            Err(error) => break format!("{error:#}"),
        }
        assert!(settled < 100, "the limit does not work");
    };
    assert!(error.contains("/log: ") && error.contains("os error"), "{error}");
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.len(), settled * 1000);
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_the_settings() {
    #[track_caller]
    fn check(settings: &str, expected: &[&str]) {
        let findings = testing::configure(&file(), settings).err().unwrap_or_default();
        assert_eq!(findings, expected, "{settings}");
    }
    let no_file = "setting-value: `path` does not name a file \
                   [expected a path such as `/var/log/site.jsonl`]";
    check(
        "path: site.jsonl",
        &[
            "relative-path: `path` depends on where Forebay is started [expected an absolute path, such as `/var/log/site.jsonl`]",
        ],
    );
    check("path: /var/log/", &[no_file]);
    check("path: ''", &[no_file]);
    check("path: /var/..", &[no_file]);
    check(
        "{path: /a, max_size: 100B}",
        &["setting-value: `max_size` is too small [expected at least 1KiB, found 100B]"],
    );
    check(
        "{path: /a, keep: 100}",
        &["setting-type: `keep` is out of range [expected 0 to 99, found 100]"],
    );
}

#[test]
fn two_sinks_cannot_have_the_same_file() {
    let claim = |path: &str| {
        let claims = testing::configure(&file(), &format!("path: {path}")).unwrap().claims();
        assert_eq!(claims[0].setting, "path");
        claims[0].what.clone()
    };
    assert_eq!(claim("/log/a"), "file /log/a");
    assert_eq!(claim("/log//./a"), "file /log/a");
}
