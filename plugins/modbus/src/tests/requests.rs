//! Requests that come as messages, against the device in memory of `writing.rs`.

use forebay_sdk::{WriteError, testing::configure};

use super::{
    writing::{Bench, Fault},
    *,
};
use crate::request;

fn bench(settings: &str) -> Bench {
    Bench::of(&request(), settings)
}

/// As a building's controller would be shared.
const SOME: &str = "units: 1, 5-7
read: { holding: 0-99, input: 0-99 }
write: { holding: \"10-19, 30\", coil: 0-7 }
";

#[tokio::test(start_paused = true)]
async fn what_a_message_asks_for_is_read_and_answered() {
    let mut bench = bench("{}");
    bench.device.lock().unwrap().values.extend([(10, 0x4366), (11, 0x199A), (3, 1)]);
    let asked = json!({ "id": 7, "function": 3, "address": 10, "count": 2 });
    let answered =
        json!({ "id": 7, "unit": 1, "function": 3, "address": 10, "values": [0x4366, 0x199A] });
    assert_eq!(bench.answer(asked).await, answered);
    let coils = bench.answer(json!({ "function": 1, "address": 2, "count": 3 })).await;
    assert_eq!(coils["values"], json!([false, true, false]));
    let one = bench.answer(json!({ "unit": 1, "function": 4, "address": 10 })).await;
    assert_eq!(one["values"], json!([0x4366]));
    assert_eq!(bench.writes(), Vec::<Vec<u8>>::new());
}

#[tokio::test(start_paused = true)]
async fn what_a_message_asks_for_is_written_by_the_function_that_it_names() {
    let mut bench = bench(SOME);
    for (function, address, values) in [
        (5, 3, json!(true)),
        (6, 10, json!([7])),
        (15, 0, json!([1, 0, 1])),
        (16, 10, json!([1, 2])),
    ] {
        let asked =
            json!({ "unit": 5, "function": function, "address": address, "values": values });
        let answer = bench.answer(asked).await;
        let values = if values.is_array() { values } else { json!([values]) };
        assert_eq!((&answer["unit"], &answer["values"]), (&json!(5), &values));
    }
    let exchange = json!({
        "unit": 5, "function": 23, "address": 10, "count": 3, "write_address": 11, "values": [9, 8],
    });
    assert_eq!(bench.answer(exchange).await["values"], json!([1, 9, 8]), "read after the write");
    let expected: [&[u8]; 5] = [
        &[5, 0, 3, 0xFF, 0],
        &[6, 0, 10, 0, 7],
        &[15, 0, 0, 0, 3, 1, 5],
        &[16, 0, 10, 0, 2, 4, 0, 1, 0, 2],
        &[23, 0, 10, 0, 3, 0, 11, 0, 2, 4, 0, 9, 0, 8],
    ];
    assert_eq!(bench.writes(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_permitted_was_asked_or_written() {
    let mut bench = bench(SOME);
    for (asked, says) in [
        (json!({ "function": 3, "address": 0 }), "expected `unit`, 0 to 255"),
        (json!({ "unit": 2, "function": 3, "address": 0 }), "unit 2 is not among the `units`"),
        (
            json!({ "unit": 1, "function": 3, "address": 99, "count": 2 }),
            "holding registers 99 to 100: not among what this sink may `read`",
        ),
        (json!({ "unit": 1, "function": 2, "address": 0 }), "discrete input 0: not among"),
        (
            json!({ "unit": 1, "function": 6, "address": 20, "values": [1] }),
            "holding register 20: not among what this sink may `write`",
        ),
        (
            json!({ "unit": 1, "function": 16, "address": 19, "values": [1, 2] }),
            "holding registers 19 to 20: not among what this sink may `write`",
        ),
        (
            json!({ "unit": 1, "function": 23, "address": 0, "write_address": 99, "values": [1] }),
            "holding register 99: not among what this sink may `write`",
        ),
    ] {
        let error = bench.refusal(asked.clone()).await;
        assert!(error.starts_with(says), "{asked}: {error}");
    }
    let mut unchanged = Bench::of(&request(), "{}");
    let error = unchanged.refusal(json!({ "function": 6, "address": 0, "values": [1] })).await;
    assert_eq!(error, "holding register 0: not among what this sink may `write`");
    assert_eq!([bench.writes(), unchanged.writes()], [Vec::<Vec<u8>>::new(), Vec::new()]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_makes_no_sense_says_what_would() {
    let mut bench = bench("write: { holding: 0-65535, coil: 0-65535 }");
    let most: Vec<u16> = vec![0; 124];
    for (asked, says) in [
        (json!(5), "expected a map such as {\"function\": 3"),
        (json!({ "fc": 3, "address": 0 }), "`fc` is not known: expected id, unit, function"),
        (json!({ "address": 0 }), "expected `function`, 1 to 23"),
        (json!({ "function": 7, "address": 0 }), "expected `function` 1 to 6, 15, 16 or 23"),
        (json!({ "function": 3 }), "expected `address`, 0 to 65535"),
        (json!({ "function": 3, "address": -1 }), "expected `address`, 0 to 65535, found -1"),
        (json!({ "function": 3, "address": 65536 }), "expected `address`, 0 to 65535"),
        (
            json!({ "function": 3, "address": 0, "count": 126 }),
            "expected `count`, 1 to 125, found 126",
        ),
        (json!({ "function": 1, "address": 0, "count": 2001 }), "expected `count`, 1 to 2000"),
        (
            json!({ "function": 3, "address": 65535, "count": 2 }),
            "expected `count`, 1 to 1, found 2",
        ),
        (json!({ "function": 3, "address": 0, "values": [1] }), "function 3 has no use for `val"),
        (json!({ "function": 6, "address": 0 }), "expected one value in `values`, found 0"),
        (
            json!({ "function": 6, "address": 0, "values": [65536] }),
            "expected 0 to 65535 in `values`, found 65536",
        ),
        (
            json!({ "function": 16, "address": 0, "count": 3, "values": [1, 2] }),
            "expected as many `values` as `count`, found 2 and 3",
        ),
        (
            json!({ "function": 16, "address": 0, "values": most }),
            "expected 1 to 123 `values`, found 124",
        ),
        (
            json!({ "function": 15, "address": 0, "values": ["on"] }),
            "expected true or false, found \"on\"",
        ),
        (
            json!({ "function": 16, "address": 0, "write_address": 0, "values": [1] }),
            "function 16 has no use for `write_address`",
        ),
    ] {
        let error = bench.refusal(asked.clone()).await;
        assert!(error.starts_with(says), "{asked}: {error}");
    }
    assert_eq!(bench.writes(), Vec::<Vec<u8>>::new());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_was_asked_again_and_again() {
    let mut bench = bench("write: { holding: 0-9 }");
    bench.fails_by(Fault::SilentFrom(0));
    for (function, extra) in [(16, json!(null)), (23, json!(0))] {
        let mut asked = json!({ "function": function, "address": 0, "values": [1] });
        if !extra.is_null() {
            asked["write_address"] = extra;
        }
        let (written, answers) = bench.write(asked).await;
        let Err(WriteError::InDoubt(error)) = written else { panic!("{written:?}") };
        assert_says(&format!("{error:#}"), "writing holding register 0");
        assert_eq!(answers.len(), 0);
    }
    assert_eq!(bench.writes().len(), 2);
    bench.fails_by(Fault::RefusesFrom(0, 2));
    let error = bench.refusal(json!({ "function": 6, "address": 0, "values": [1] })).await;
    assert_says(&error, "illegal data address (exception 2)");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_requests_reads_and_writes_nothing() {
    let mut bench = bench("write: { holding: 0-9 }\ndry_run: true");
    let (written, answers) =
        bench.write(json!({ "function": 6, "address": 0, "values": [1] })).await;
    written.unwrap();
    assert_eq!(answers[0].meta.get("modbus"), Some(&json!({ "dry_run": true })));
    bench.answer(json!({ "function": 3, "address": 0 })).await;
    assert_eq!(bench.writes(), Vec::<Vec<u8>>::new());
}

#[test]
fn ranges_that_are_none_are_findings() {
    for (settings, says) in [
        ("units: 9-1", "expected the smaller first: `1-9`"),
        ("read: { holding: all }", "expected numbers and ranges of them"),
        ("write: { coil: \"1-\" }", "expected numbers and ranges of them"),
        ("write: { input: 1-2 }", "input"),
        ("expires_after: 1ms", "expected 1s to 31d"),
    ] {
        let found = format!("{:?}", configure(&request(), settings).err());
        assert!(found.contains(says), "{settings}: {found}");
    }
    assert!(configure(&request(), "units: 5\nwrite: { holding: 0x10-0x1F }").is_ok());
}
