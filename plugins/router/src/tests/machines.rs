//! Machines without RutOS: by their kernel, and by ubus.

use forebay_sdk::world::{Listener, memory::Memory};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{NOW, connect, next};

#[tokio::test(start_paused = true)]
async fn any_linux_machine_is_read_below_a_root() {
    let memory = Memory::new(NOW);
    for (path, text) in [
        ("/host/proc/uptime", "217360.42 400000.00\n"),
        ("/host/proc/loadavg", "0.42 0.32 0.19 1/123 4567\n"),
        (
            "/host/proc/meminfo",
            "MemTotal:         524288 kB\nMemFree:  1024 kB\nMemAvailable:     262144 kB\n",
        ),
        ("/host/sys/class/thermal/thermal_zone0/temp", "48125\n"),
        ("/host/sys/class/thermal/thermal_zone1/temp", "51500\n"),
        ("/host/proc/sys/kernel/hostname", "gateway\n"),
        ("/host/proc/device-tree/model", "A Board\0"),
        (
            "/host/proc/1/net/dev",
            "Inter-|   Receive  | Transmit\n face |bytes packets\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n\
             \x20 eth0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n wwan0:300 1 0 0 0 0 0 0 400 1 0 0 0 0 0 0\n",
        ),
        (
            "/host/proc/1/net/route",
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
             wwan0\t00000000\t0103020A\t0003\t0\t0\t10\t00000000\t0\t0\t0\n\
             wwan0\t0003020A\t00000000\t0001\t0\t0\t10\t00FFFFFF\t0\t0\t0\n\
             eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
        ),
        (
            "/host/proc/1/net/fib_trie",
            "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.2.3.4\n        /32 host LOCAL\n     |-- 192.168.1.1\n        \
             /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.168.1.255\n        /32 link \
             BROADCAST\n",
        ),
        ("/host/sys/class/net/eth0/operstate", "up\n"),
        ("/host/sys/class/net/wwan0/operstate", "unknown\n"),
    ] {
        memory.put(path, text);
    }
    let mut running = connect(&memory, "provider: linux\nroot: /host\n");
    let mut collected = running.read("groups: [system, wan, interfaces, device, data]");
    let said = next(&mut collected).await;
    assert_eq!(
        said["system"],
        json!({
            "uptime": 217_360, "load_1m": 0.42, "load_5m": 0.32, "load_15m": 0.19,
            "memory_total": 512.0, "memory_used": 256.0, "memory_free": 256.0, "memory_percent": 50.0,
            "temperature": 51.5,
        })
    );
    assert_eq!(
        said["wan"],
        json!({ "kind": "mobile", "interface": "wwan0", "addresses": ["10.2.3.4"] })
    );
    assert_eq!(
        said["interfaces"]["eth0"],
        json!({ "up": true, "kind": "wired", "addresses": ["192.168.1.1"], "down_bytes": 100, "up_bytes": 200 })
    );
    assert!(said["interfaces"].get("lo").is_none());
    assert_eq!(said["device"], json!({ "name": "gateway", "model": "A Board" }));
    assert_eq!(said["data"]["total"], json!({ "up": 400, "down": 300 }));
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_none_says_what_root_is() {
    let running = connect(&Memory::new(NOW), "root: /host\n");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let said = running.heard.said();
    assert!(
        said.troubles[0].starts_with("/host does not show `proc/uptime`"),
        "{:?}",
        said.troubles
    );
}

/// What a RutOS answers to a call.
pub fn answer(asked: &Value) -> Value {
    let params = &asked["params"];
    let (object, method) = (params[1].as_str().unwrap_or(""), params[2].as_str().unwrap_or(""));
    if asked["method"] == "list" {
        return json!({ "ioman.gpio.din1": {}, "ioman.relay.relay0": {} });
    }
    match (object, method) {
        ("session", "login") => {
            json!([0, { "ubus_rpc_session": "0123456789abcdef0123456789abcdef", "timeout": 300 }])
        }
        ("session", _) => json!([0, { "access": false }]),
        ("gsm.modem0", "get_signal_query") => {
            json!([0, { "net_mode": "LTE", "rssi": -57, "rsrp": -105, "sinr": -13, "rsrq": -20 }])
        }
        ("system", "info") => json!([0, {
            "uptime": 77, "localtime": 1_795_251_600_u64, "load": [65_536, 32_768, 0],
            "memory": { "total": 536_870_912_u64, "available": 268_435_456_u64, "free": 1 },
            "root": { "total": 1024, "free": 512, "used": 512, "avail": 512 },
        }]),
        ("network.interface", "dump") => json!([0, { "interface": [
            { "interface": "lan", "up": true, "l3_device": "br-lan", "proto": "static",
              "ipv4-address": [{ "address": "192.168.1.1", "mask": 24 }], "route": [] },
            { "interface": "mob1s1a1", "up": true, "l3_device": "wwan0", "proto": "wwan", "metric": 3,
              "ipv4-address": [{ "address": "10.2.3.4", "mask": 32 }],
              "route": [{ "target": "0.0.0.0", "mask": 0 }] },
        ] }]),
        ("network.device", "status") => {
            json!([0, { "statistics": { "rx_bytes": 300, "tx_bytes": 400 } }])
        }
        ("ioman.gpio.din1", "status") => json!([0, { "value": "1", "direction": "in" }]),
        ("ioman.relay.relay0", "status") => json!([0, { "state": "open" }]),
        ("gpsd", "info") => json!([6]),
        _ => json!([4]),
    }
}

/// Answers by ubus at the place of the router.
pub fn serve(memory: &Memory, answer: fn(&Value) -> Value) {
    let door = memory.open("192.168.1.1:80");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = door.accept().await {
            tokio::spawn(async move {
                let mut bytes = vec![0; 65_536];
                while let Ok(count) = stream.read(&mut bytes).await {
                    let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { return };
                    let said = match head.starts_with("POST /ubus") {
                        true => {
                            let asked: Value = serde_json::from_str(body).unwrap();
                            json!({ "jsonrpc": "2.0", "id": 1, "result": answer(&asked) })
                                .to_string()
                        }
                        false => "<html>not found</html>".to_owned(),
                    };
                    let said =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
                    if stream.write_all(said.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_router_without_rest_is_asked_by_ubus() {
    let memory = Memory::new(NOW);
    serve(&memory, answer);
    let mut running = connect(&memory, &super::settings(""));
    let mut collected = running.read("groups: [signal, system, wan, data, io, gps]");
    let said = next(&mut collected).await;
    assert_eq!(
        said["signal"],
        json!({
            "modem": "modem0", "connected": true, "technology": "LTE", "rssi": -57, "rsrp": -105, "rsrq": -20,
            "sinr": -13,
        })
    );
    assert_eq!(said["system"]["load_1m"], 1.0);
    assert_eq!(said["system"]["memory_percent"], 50.0);
    assert_eq!(said["wan"]["kind"], "mobile");
    assert_eq!(said["data"]["total"], json!({ "up": 400, "down": 300 }));
    assert_eq!(said["io"], json!({ "din1": true, "relay0": false }));
    assert!(said.get("gps").is_none());
    assert!(running.heard.said().lasting.contains_key("group `gps`"));
}

/// What an OpenWrt with ModemManager answers to a call, in the words of `mmcli -J`.
fn answer_of_openwrt(asked: &Value) -> Value {
    let params = &asked["params"];
    match (params[1].as_str().unwrap_or(""), params[2].as_str().unwrap_or("")) {
        ("gsm.modem0", _) => json!([4]),
        ("modemmanager", "dump") => json!([0, { "modem": [{
            "generic": {
                "state": "connected", "access-technologies": ["lte", "5gnr"], "primary-sim-slot": "1",
                "signal-quality": { "recent": "yes", "value": "38" }, "equipment-identifier": "861234567890123",
                "ports": ["cdc-wdm0 (mbim)", "ttyUSB2 (at)", "wwan0 (net)"],
            },
            "3gpp": { "registration-state": "home", "operator-name": "A1", "operator-code": "23201" },
            "signal": {
                "refresh": { "rate": "30" },
                "5g": { "rsrp": "--", "rsrq": "--", "snr": "--" },
                "lte": { "rssi": "-102.00", "rsrp": "-118.00", "rsrq": "--", "snr": "2.40", "error-rate": "--" },
                "umts": { "rssi": "--" },
            },
        }] }]),
        _ => answer(asked),
    }
}

#[tokio::test(start_paused = true)]
async fn an_openwrt_with_modem_manager_tells_its_modem_too() {
    let memory = Memory::new(NOW);
    serve(&memory, answer_of_openwrt);
    let mut running = connect(&memory, &super::settings("provider: ubus\n"));
    let said = next(&mut running.read("groups: [signal, data]")).await;
    let expected = json!({
        "modem": "wwan0", "connected": true, "registered": true, "roaming": false, "operator": "A1",
        "technology": "5G-NSA", "quality": 38, "rssi": -102.0, "rsrp": -118.0, "sinr": 2.4, "sim": 1,
    });
    assert_eq!(said["signal"], expected);
    assert_eq!(said["data"]["total"], json!({ "up": 400, "down": 300 }));
}
