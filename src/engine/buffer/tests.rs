//! What a buffer promises.

use forebay_sdk::{Format, Message, Payload};
use serde_json::json;

use super::*;

fn log(folder: &Path) -> Log {
    let (log, repairs) = Log::open(Folder::new(folder), Limits { max_bytes: 1 << 20 }).unwrap();
    assert_eq!(repairs, Repairs::default());
    log
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b");
    let mut first = log(&path);
    let mut batch = Batch::new(first.next_seq());
    let mut message = Message::new("site/a", json!({"a": 1.5, "b": [null, "x"]}));
    message.meta.source = Some("p/meter".into());
    message.meta.insert("quality", json!({"a": "bad"}));
    batch.push(&message);
    let bytes = Message::new("", Payload::encoded(&b"\xff\x00"[..], Format::Bytes));
    batch.push(&bytes);
    first.append(&batch).unwrap();
    first.sync().unwrap();
    first.ack(0..1);
    first.settle().unwrap();
    drop(first);
    let mut second = log(&path);
    assert_eq!((second.first(), second.next_seq(), second.messages()), (Some(1), 2, 1));
    let read = second.read(0, 10, 1000).unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].seq, &read[0].message), (1, &bytes));
}
