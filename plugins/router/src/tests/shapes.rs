//! What becomes of the answers of several firmwares.

use std::collections::BTreeSet;

use forebay_sdk::Timestamp;
use serde_json::{Value, json};

use crate::{
    group::{Group, Part},
    modem::Identifiers,
    normal,
};

#[track_caller]
pub fn check(group: Group, part: Part, answer: Value, expected: Value) {
    let said = of(group, part, answer).unwrap_or_default();
    assert_eq!(said, expected);
}

pub fn of(group: Group, part: Part, answer: Value) -> Option<Value> {
    let now = Timestamp::from_unix_nanos(super::NOW);
    normal::group(group, &[(part, answer)].into(), Identifiers::Hidden, now)
}

/// As a 5G router with RutOS 7.1x says it.
pub fn modem() -> Value {
    json!([{
        "id": "2-1", "primary": true, "builtin": true, "state": "Connected",
        "data_conn_state": "Connected", "conntype": "5G (NSA); VoLTE", "ntype": "5G-NSA",
        "operator": "O2.CZ", "oper": "O2.CZ", "provider": "O2.HU",
        "netstate": "Registered, home", "operator_state": "Registered, home",
        "signal": -56, "rssi": -56, "rsrp": -83, "rsrq": -10, "sinr": 9, "band": "5G N3",
        "cellid": "14887433684", "tac": "1832", "lac": "N/A", "temperature": 38, "active_sim": 1,
        "txbytes": 1_658_175_509_u64, "rxbytes": 45_844_315_341_u64,
        "imei": "6666666666666666", "imsi": "7777777777777777", "iccid": "88888888888888888",
        "cell_info": [{ "rsrp": "-120", "cellid": "1" }], "ca_signal": [], "service_modes": {},
    }])
}

#[test]
fn a_modem_is_told_in_the_words_that_all_have() {
    check(
        Group::Signal,
        Part::Modems,
        modem(),
        json!({
            "modem": "2-1", "connected": true, "registered": true, "roaming": false,
            "operator": "O2.CZ", "technology": "5G-NSA", "band": "5G N3",
            "rssi": -56, "rsrp": -83, "rsrq": -10, "sinr": 9, "temperature": 38.0, "sim": 1,
            "cell": "14887433684", "area": "1832",
        }),
    );
}

#[test]
fn identifiers_are_only_there_when_asked_for() {
    let raw = [(Part::Modems, modem())].into();
    let now = Timestamp::from_unix_nanos(super::NOW);
    let hidden = normal::group(Group::Signal, &raw, Identifiers::Hidden, now).unwrap();
    let shown = normal::group(Group::Signal, &raw, Identifiers::Shown, now).unwrap();
    for (name, value) in
        [("imei", "6666666666666666"), ("imsi", "7777777777777777"), ("iccid", "88888888888888888")]
    {
        assert_eq!(shown[name], value);
        assert!(!hidden.to_string().contains(value));
    }
}

#[test]
fn numbers_in_texts_are_numbers_and_words_for_nothing_are_nothing() {
    check(
        Group::Signal,
        Part::Modems,
        json!([{
            "id": "3-1", "rssi": "-71 dBm", "rsrp": "-101", "rsrq": "N/A", "sinr": "", "band": null,
            "temperature": "41", "operator": "-", "conntype": "4G (LTE-A)", "active_sim": "2",
            "operator_state": "Registered, roaming", "data_conn_state": "Disconnected",
        }]),
        json!({
            "modem": "3-1", "connected": false, "registered": true, "roaming": true,
            "technology": "LTE", "rssi": -71, "rsrp": -101, "temperature": 41.0, "sim": 2,
        }),
    );
}

#[test]
fn names_of_an_older_firmware_are_known_too() {
    check(
        Group::Signal,
        Part::Modems,
        json!([{
            "id": "1-1", "signal": -60, "rsrp_value": "-95", "sinr_value": 4, "oper": "LMT",
            "netstate": "registered (home network)", "state": "Connected", "nettype": "WCDMA",
            "cell_id": 1234, "lac": "00AF", "temp": 380,
        }]),
        json!({
            "modem": "1-1", "connected": true, "registered": true, "roaming": false,
            "operator": "LMT", "technology": "3G", "rssi": -60, "rsrp": -95, "sinr": 4,
            "temperature": 38.0, "cell": "1234", "area": "00AF",
        }),
    );
}

#[test]
fn values_that_a_firmware_moved_into_an_object_are_found() {
    check(
        Group::Signal,
        Part::Modems,
        json!([{ "id": "2-1", "signal": { "rssi": -56, "rsrp": -83 }, "network": { "operator": "A" } }]),
        json!({ "modem": "2-1", "operator": "A", "rssi": -56, "rsrp": -83 }),
    );
}

#[test]
fn what_a_modem_says_without_a_network_is_no_value() {
    check(
        Group::Signal,
        Part::Modems,
        json!([{
            "id": "2-1", "rssi": 99, "rsrp": 0, "rsrq": -32768, "sinr": 255, "temperature": -9999,
            "operator_state": "Not registered, searching", "operator": "N/A",
        }]),
        json!({ "modem": "2-1", "registered": false }),
    );
}

#[test]
fn a_reference_power_below_that_of_a_byte_is_a_value() {
    let said = of(Group::Signal, Part::Modems, json!([{ "id": "2-1", "rsrp": -139 }])).unwrap();
    assert_eq!(said["rsrp"], -139);
}

#[test]
fn a_modem_that_is_off_says_so_and_nothing_else() {
    let off = json!({ "id": "2-1", "name": "Internal modem", "offline": "1", "rsrp": -80 });
    check(Group::Signal, Part::Modems, json!([off]), json!({ "modem": "2-1", "connected": false }));
    // Of two, the one that works is told.
    let two = json!([off, { "id": "2-2", "rsrp": -80 }]);
    check(Group::Signal, Part::Modems, two, json!({ "modem": "2-2", "rsrp": -80 }));
}

#[test]
fn answers_of_another_form_are_no_answers() {
    for answer in [json!(null), json!("x"), json!([]), json!([1, "a", null]), json!({}), json!(7)] {
        for (group, part) in [
            (Group::Signal, Part::Modems),
            (Group::System, Part::Usage),
            (Group::Wan, Part::Interfaces),
            (Group::Interfaces, Part::Interfaces),
            (Group::Io, Part::Io),
            (Group::Device, Part::Device),
            (Group::Clock, Part::Usage),
        ] {
            assert_eq!(of(group, part, answer.clone()), None, "{group:?} {answer}");
        }
    }
}

/// Each value of an answer is left out, and replaced by what is none, in turn. What is said of it then is not there, and
/// nothing else is otherwise, but for what another value says as well as the one that is missing.
#[test]
fn a_value_that_is_missing_or_of_another_type_is_the_only_one_that_is_missing() {
    let all = [
        (Group::Signal, Part::Modems, modem()),
        (Group::System, Part::Usage, usage()),
        (Group::Clock, Part::Usage, usage()),
        (Group::Interfaces, Part::Interfaces, interfaces()),
        (Group::Wan, Part::Interfaces, interfaces()),
        (Group::Gps, Part::Gps, position(json!("1"), "54.687157", "9")),
        (Group::Device, Part::Device, status()),
    ];
    let none = [json!(null), json!(""), json!("N/A"), json!([]), json!({}), json!([{ "a": 1 }])];
    let mut otherwise = BTreeSet::new();
    for (group, part, answer) in all {
        let before = of(group, part, answer.clone()).unwrap();
        for pointer in leaves(&answer) {
            for other in &none {
                let mut changed = answer.clone();
                *changed.pointer_mut(&pointer).unwrap() = other.clone();
                let after = of(group, part, changed).unwrap_or_default();
                let kept = |path: &String| after.pointer(path) == before.pointer(path);
                let gone: Vec<String> =
                    leaves(&before).into_iter().filter(|it| !kept(it)).collect();
                let new = leaves(&after).into_iter().filter(|it| before.pointer(it).is_none());
                let found = |path: String| {
                    let now = after.pointer(&path).map_or("gone".to_owned(), Value::to_string);
                    format!("{path} {now}")
                };
                let found: Vec<String> = gone.into_iter().chain(new).map(found).collect();
                if found.len() > 1 || found.iter().any(|it| !it.ends_with(" gone")) {
                    otherwise.insert(format!("{} {pointer}: {}", group.name(), found.join(", ")));
                }
            }
        }
    }
    let expected: BTreeSet<String> = OTHERWISE.iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(otherwise, expected);
}

/// What a missing value changes beside itself: of what it belongs to nothing is known then, or another one says the same.
const OTHERWISE: [&str; 16] = [
    r#"clock /localtime: /time gone, /is_set gone, /ahead gone"#,
    r#"device /mnfinfo/name: /model "RUTC50""#,
    r#"gps /fix_status: /fix false, /latitude gone, /longitude gone, /altitude gone, /speed gone, /course gone, /accuracy gone, /satellites gone, /time gone"#,
    r#"gps /latitude: /fix false, /latitude gone, /longitude gone, /altitude gone, /speed gone, /course gone, /accuracy gone, /satellites gone, /time gone"#,
    r#"gps /longitude: /fix false, /latitude gone, /longitude gone, /altitude gone, /speed gone, /course gone, /accuracy gone, /satellites gone, /time gone"#,
    r#"interfaces /1/id: /lan/up gone, /lan/kind gone, /lan/addresses/0 gone, /lan/down_bytes gone, /lan/up_bytes gone"#,
    r#"interfaces /2/id: /wan/up gone, /wan/kind gone"#,
    r#"interfaces /3/id: /mob1s1a1/up gone, /mob1s1a1/kind gone, /mob1s1a1/addresses/0 gone, /mob1s1a1/addresses/1 gone, /mob1s1a1/down_bytes gone, /mob1s1a1/up_bytes gone, /mob1s1a1/uptime gone, /mob1s1a1_4/up true, /mob1s1a1_4/kind "mobile", /mob1s1a1_4/addresses/0 "10.1.2.3", /mob1s1a1_4/down_bytes 30, /mob1s1a1_4/up_bytes 40, /mob1s1a1_6/up true, /mob1s1a1_6/kind "mobile", /mob1s1a1_6/addresses/0 "2001:db8::3", /mob1s1a1_6/down_bytes 30, /mob1s1a1_6/up_bytes 40"#,
    r#"interfaces /4/id: /mob1s1a1/addresses/0 "2001:db8::3", /mob1s1a1/addresses/1 gone"#,
    r#"interfaces /4/ipv4-address/0/address: /mob1s1a1/addresses/0 "2001:db8::3", /mob1s1a1/addresses/1 gone"#,
    r#"signal /0/id: /modem "modem""#,
    r#"system /load/min15: /load_15m 0.195"#,
    r#"wan /3/id: /interface "mob1s1a1_4", /addresses/1 gone, /uptime gone"#,
    r#"wan /3/up: /kind gone, /interface gone, /addresses/0 gone, /addresses/1 gone, /uptime gone"#,
    r#"wan /4/id: /addresses/0 "2001:db8::3", /addresses/1 gone"#,
    r#"wan /4/ipv4-address/0/address: /addresses/0 "2001:db8::3", /addresses/1 gone"#,
];

/// Where all values inside are.
fn leaves(value: &Value) -> Vec<String> {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(name, it)| (name.clone(), it)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(n, it)| (n.to_string(), it)).collect(),
        _ => return vec![String::new()],
    };
    let below = |(name, it): (String, &Value)| {
        leaves(it).into_iter().map(|path| format!("/{name}{path}")).collect::<Vec<_>>()
    };
    inside.into_iter().flat_map(below).collect()
}

#[test]
fn technologies_have_one_name_each() {
    for (said, expected) in [
        ("5G-SA", "5G-SA"),
        ("NR5G-SA", "5G-SA"),
        ("5G (NSA); VoLTE", "5G-NSA"),
        ("LTE-ENDC", "5G-NSA"),
        ("4G (LTE)", "LTE"),
        ("FDD LTE", "LTE"),
        ("CAT-M1", "LTE-M"),
        ("NB-IoT", "NB-IoT"),
        ("3G (HSPA+)", "3G"),
        ("2G (EDGE)", "2G"),
        ("WiMAX", "WiMAX"),
    ] {
        let answer = json!([{ "id": "1", "ntype": said }]);
        assert_eq!(
            of(Group::Signal, Part::Modems, answer).unwrap()["technology"],
            expected,
            "{said}"
        );
    }
}

pub fn usage() -> Value {
    json!({
        "memory": {
            "ram_total": 241.08, "ram_used": 104.9, "ram_free": 136.18, "ram_percentage": 43.51,
            "ram_buffered": 1.0, "ram_shared": 2.0, "flash_total": 85.78, "flash_used": 0.9,
            "flash_free": 84.88, "flash_percentage": 1.05,
        },
        "uptime": "2d 12h 22m 40s", "uptime_seconds": 217_360, "loadavg": 0.195,
        "localtime": 1_795_251_605, "load": { "min1": 0.42, "min5": 0.32, "min15": 0.19 },
    })
}

#[test]
fn the_health_of_a_router() {
    let expected = json!({
        "uptime": 217_360, "load_1m": 0.42, "load_5m": 0.32, "load_15m": 0.19,
        "memory_total": 241.08, "memory_used": 104.9, "memory_free": 136.18,
        "flash_total": 85.78, "flash_used": 0.9, "flash_free": 84.88,
        "memory_percent": 43.51, "flash_percent": 1.05,
    });
    check(Group::System, Part::Usage, usage(), expected);
    // A kernel's scaled load, an uptime that is a text, and a group that was left out.
    check(
        Group::System,
        Part::Usage,
        json!({ "uptime": "1h 0m 5s", "load": { "min1": 4800, "min5": "0.5" } }),
        json!({ "uptime": 3605, "load_1m": 0.0732421875, "load_5m": 0.5 }),
    );
    let clock = json!({ "time": "2026-11-21T09:00:05.000Z", "is_set": true, "ahead": 5 });
    check(Group::Clock, Part::Usage, usage(), clock);
}

fn position(fix: Value, latitude: &str, satellites: &str) -> Value {
    json!({
        "fix_status": fix, "latitude": latitude, "longitude": "25.279651", "altitude": "112.5",
        "speed": "36.2", "angle": "181.5", "accuracy": "1.2", "satellites": satellites,
        "timestamp": "1795251600000", "utc_timestamp": "1795251600000",
    })
}

#[test]
fn there_is_no_position_without_a_fix() {
    check(
        Group::Gps,
        Part::Gps,
        position(json!("1"), "54.687157", "9"),
        json!({
            "fix": true, "latitude": 54.687157, "longitude": 25.279651, "altitude": 112.5,
            "speed": 36.2, "course": 181.5, "accuracy": 1.2, "satellites": 9,
            "time": "2026-11-21T09:00:00.000Z",
        }),
    );
    for (fix, latitude, satellites) in [
        (json!("0"), "54.687157", "9"),
        (json!("no fix"), "54.687157", "9"),
        (json!("N/A"), "54.687157", "9"),
        (json!(null), "54.687157", "9"),
        (json!(false), "54.687157", "9"),
        (json!("1"), "N/A", "9"),
        (json!("1"), "91.0", "9"),
        (json!("1"), "54.687157", "0"),
    ] {
        let said = position(fix, latitude, satellites);
        check(Group::Gps, Part::Gps, said, json!({ "fix": false }));
    }
    let nowhere = json!({ "fix_status": "1", "latitude": "0.000000", "longitude": "0.000000" });
    check(Group::Gps, Part::Gps, nowhere, json!({ "fix": false }));
    // As one ubus object misspells it.
    let misspelt = json!({ "fix_status": 3, "latitude": 1.5, "longtitude": 2.5 });
    let said = of(Group::Gps, Part::Gps, misspelt).unwrap();
    assert_eq!((&said["longitude"], &said["fix"]), (&json!(2.5), &json!(true)));
}

#[test]
fn inputs_and_outputs_by_their_names() {
    check(
        Group::Io,
        Part::Io,
        json!([
            { "id": "din1", "type": "gpio", "value": "1", "direction": "in", "invert_input": "0" },
            { "id": "dout1", "type": "gpio", "value": "0", "direction": "out" },
            { "id": "relay0", "type": "relay", "state": "closed" },
            { "id": "adc0", "type": "adc", "value": "12.3" },
            { "id": "acl0", "type": "acl", "value": 4.02, "state": "active" },
            { "id": "dwi0", "type": "dwi", "value": "0", "state": "dry" },
            { "id": "din2", "value": "N/A" },
        ]),
        json!({
            "din1": true, "dout1": false, "relay0": true, "adc0": 12.3, "acl0": 4.02, "dwi0": false,
        }),
    );
}

fn status() -> Value {
    json!({
        "mnfinfo": { "name": "RUTC50000000", "serial": "1126214543", "mac": "001E42547A1C" },
        "static": {
            "fw_version": "RUTC_R_00.07.24.5", "kernel": "6.6.104", "device_name": "site-a",
            "cpu_count": 2, "model": "RUTC50", "fw_build_date": "2026-09-19 15:37:10",
        },
    })
}

#[test]
fn a_firmware_without_a_release_still_says_what_it_is() {
    check(
        Group::Device,
        Part::Device,
        status(),
        json!({
            "name": "site-a", "model": "RUTC50000000", "firmware": "RUTC_R_00.07.24.5",
            "built": "2026-09-19 15:37:10", "kernel": "6.6.104", "cpus": 2,
        }),
    );
}

pub fn interfaces() -> Value {
    json!([
        { "id": "loopback", "type": "ethernet", "up": true, "rx_bytes": 9, "tx_bytes": 9 },
        { "id": "lan", "area_type": "lan", "up": true, "ipaddrs": ["192.168.1.1/24"],
          "network_type": "bridge", "rx_bytes": 10, "tx_bytes": 20 },
        { "id": "wan", "area_type": "wan", "up": false, "metric": 1, "network_type": "ethernet" },
        { "id": "mob1s1a1", "area_type": "wan", "up": true, "metric": 2, "network_type": "mobile",
          "proto": "connm", "uptime": 77, "rx_bytes": 30, "tx_bytes": 40 },
        { "id": "mob1s1a1_4", "area_type": "wan", "up": true, "network_type": "-",
          "ipv4-address": [{ "address": "10.1.2.3", "mask": 32 }], "rx_bytes": 30, "tx_bytes": 40 },
        { "id": "mob1s1a1_6", "area_type": "wan", "up": true, "network_type": "-",
          "ip6addrs": ["2001:db8::3/64"], "rx_bytes": 30, "tx_bytes": 40 },
    ])
}

#[test]
fn the_parts_of_a_mobile_interface_are_not_counted_again() {
    check(
        Group::Interfaces,
        Part::Interfaces,
        interfaces(),
        json!({
            "lan": { "up": true, "kind": "wired", "addresses": ["192.168.1.1"],
                     "down_bytes": 10, "up_bytes": 20 },
            "wan": { "up": false, "kind": "wired" },
            "mob1s1a1": { "up": true, "kind": "mobile", "addresses": ["10.1.2.3", "2001:db8::3"],
                          "down_bytes": 30, "up_bytes": 40, "uptime": 77 },
        }),
    );
}

#[test]
fn the_way_out_is_the_one_that_has_an_address() {
    let raw = [
        (Part::Interfaces, interfaces()),
        (
            Part::Internet,
            json!({ "ipv4_status": "online", "ipv6_status": "offline", "dns_status": "online" }),
        ),
    ];
    let now = Timestamp::from_unix_nanos(super::NOW);
    let said = normal::group(Group::Wan, &raw.into(), Identifiers::Hidden, now).unwrap();
    let expected = json!({
        "kind": "mobile", "interface": "mob1s1a1", "addresses": ["10.1.2.3", "2001:db8::3"],
        "uptime": 77, "internet": true, "dns": true,
    });
    assert_eq!(said, expected);
    let down = json!([{ "id": "wan", "area_type": "wan", "up": true, "ipaddrs": [] }]);
    check(Group::Wan, Part::Interfaces, down, json!({ "kind": "none" }));
}
