//! Modems of a Linux machine that ModemManager has.

use forebay_sdk::world::{Listener, memory::Memory};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{NOW, connect, next};
use crate::{
    dbus::{Message, RETURN},
    modem_manager,
};

/// What dbus-fast 5.2.0 makes of the answer of one modem to `GetManagedObjects`.
const MODEMS: &str = include_str!("modems.hex");
/// And of a signal with a value of each kind.
const ALL_KINDS: &str = "
    6c04000160000000060000004900000001016f00020000002f780000000000000201730003000000612e620000000000030173000c0000004e616d
    65416371756972656400000000080167000b737864796e716974766267000000000000000002000000c3a90000fbffffffffffffff000000000000
    f83f0700feff09000000fdffffff00000000000000000001000004287376290000000100000061000261730000000e000000010000006200000001
    000000630000000100000002617900";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|it| u8::from_str_radix(std::str::from_utf8(it).unwrap(), 16).unwrap()).collect()
}

/// The answer, to the call of a number.
fn answer_to(serial: u8) -> Vec<u8> {
    let mut message = bytes(MODEMS);
    let field = [5, 1, b'u', 0];
    let at = message.windows(4).position(|it| it == field).unwrap() + 4;
    message[at] = serial;
    message
}

#[test]
fn values_of_all_kinds_are_read() {
    let message = Message::read(&bytes(ALL_KINDS)).unwrap();
    let inner = json!(["a", ["b", "c"]]);
    let expected = json!(["é", -5, 1.5, 7, -2, 9, -3, 1_u64 << 40, inner, true, "ay"]);
    assert_eq!(Value::from(message.values), expected);
}

#[test]
fn an_answer_that_is_cut_or_changed_is_an_error_at_worst() {
    let whole = answer_to(2);
    assert_eq!((Message::read(&whole).unwrap().kind), RETURN);
    for end in 0..whole.len() {
        assert!(Message::read(&whole[..end]).is_err(), "{end}");
    }
    let mut chance = fastrand::Rng::with_seed(1);
    for at in 0..whole.len() {
        for _ in 0..20 {
            let mut changed = whole.clone();
            changed[at] = chance.u8(..);
            if let Ok(message) = Message::read(&changed) {
                message.values.iter().for_each(|it| drop(modem_manager::modems(it)));
            }
        }
    }
}

#[test]
fn what_is_no_modem_is_none() {
    for objects in [json!(null), json!([]), json!({ "/": {} }), json!({ "/": { "org.a": 3 } })] {
        assert!(modem_manager::modems(&objects).is_empty(), "{objects}");
    }
}

/// A bus that lets everybody in and answers two calls.
async fn serve(memory: &Memory) {
    let door = memory.open("/host/run/dbus/system_bus_socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = door.accept().await {
            let mut seen = Vec::new();
            for (wanted, said) in [
                (&b"DATA\r\n"[..], b"DATA\r\nOK 0123456789abcdef\r\n".to_vec()),
                (b"Hello\0", answer_to(1)),
                (b"GetManagedObjects\0", [bytes(ALL_KINDS), answer_to(2)].concat()),
            ] {
                while !seen.windows(wanted.len()).any(|it| it == wanted) {
                    let mut chunk = [0; 1000];
                    let count = stream.read(&mut chunk).await.unwrap_or(0);
                    if count == 0 {
                        return;
                    }
                    seen.extend_from_slice(&chunk[..count]);
                }
                if stream.write_all(&said).await.is_err() {
                    return;
                }
            }
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_modem_of_modem_manager_is_told_as_that_of_a_router() {
    let memory = Memory::new(NOW);
    memory.put("/host/proc/uptime", "217360.42 400000.00\n");
    memory.put(
        "/host/proc/1/net/dev",
        "Inter-|   Receive  | Transmit\n face |bytes packets\n wwan0:300 1 0 0 0 0 0 0 400 1 0 0 0 0 0 0\n",
    );
    serve(&memory).await;
    let mut running = connect(&memory, "provider: linux\nroot: /host\n");
    let mut collected = running.read("groups: [signal, data]");
    let said = next(&mut collected).await;
    assert_eq!(
        said["signal"],
        json!({
            "modem": "wwan0", "connected": true, "registered": true, "roaming": true, "operator": "LMT",
            "technology": "LTE", "band": "LTE B3", "quality": 67, "rssi": -61.0, "rsrp": -93.0, "rsrq": -11.0,
            "sinr": 8.4, "sim": 1,
        })
    );
    assert_eq!(said["data"]["total"], json!({ "up": 400, "down": 300 }));
    // And the same by the kernel alone, once ModemManager is gone.
    memory.shut("/host/run/dbus/system_bus_socket");
    let said = next(&mut collected).await;
    assert_eq!(said["data"]["total"], json!({ "up": 400, "down": 300 }));
    assert_eq!(said["data"]["sims"].as_object().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_says_nothing_holds_nothing_up_for_long() {
    let memory = Memory::new(NOW);
    memory.put("/host/proc/uptime", "217360.42 400000.00\n");
    let _silent = memory.open("/host/run/dbus/system_bus_socket");
    let mut running = connect(&memory, "provider: linux\nroot: /host\n");
    let mut collected = running.read("groups: [signal, system]");
    let began = tokio::time::Instant::now();
    let said = next(&mut collected).await;
    assert_eq!(said["system"]["uptime"], 217_360);
    assert!(began.elapsed() <= std::time::Duration::from_secs(5));
}
