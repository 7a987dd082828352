//! What routers of several firmwares were seen to say, in figures of our own: each of these read wrong, or was lost, before.

use forebay_sdk::{testing::WallClock, world::memory::Memory};
use serde_json::{Value, json};

use super::{
    NOW, connect, machines, next, settings,
    shapes::{check, of},
};
use crate::group::{Group, Part};

/// RUT241, 7.22: rows without a state or an area, and the default route in the part of the mobile one.
#[test]
fn the_way_out_is_where_the_default_route_is() {
    let rows = json!([
        { "name": "lan", "ipv4-address": [{ "address": "192.168.100.1" }], "route": [], "up": true },
        { "name": "loopback", "ipv4-address": [{ "address": "127.0.0.1" }], "route": [] },
        { "name": "uplink", "up": true, "ipv4-address": [{ "address": "10.6.1.9" }], "proto": "qmi",
          "route": [{ "target": "0.0.0.0", "mask": 0, "nexthop": "0.0.0.0" }] },
    ]);
    let expected = json!({ "kind": "mobile", "interface": "uplink", "addresses": ["10.6.1.9"] });
    check(Group::Wan, Part::Interfaces, rows, expected);
}

/// 7.1x and later: the cable is in and has an address, and the failover has gone to the modem all the same.
#[test]
fn the_way_out_is_the_one_that_the_failover_has_chosen() {
    let wan = json!({ "id": "wan", "area_type": "wan", "up": true, "is_up": true, "metric": 1,
        "ipaddrs": ["192.168.8.2/24"], "network_type": "wired" });
    let mobile = json!({ "id": "mob1s1a1", "area_type": "wan", "up": true, "is_up": true, "main": "1",
        "proto": "wwan", "network_type": "mobile", "ipaddrs": ["10.1.2.3/32"], "uptime": 9 });
    let expected = json!({
        "kind": "mobile", "interface": "mob1s1a1", "addresses": ["10.1.2.3"], "uptime": 9,
    });
    check(Group::Wan, Part::Interfaces, json!([wan, mobile]), expected);
}

/// A kernel's load, of which the last is small.
#[test]
fn loads_are_scaled_all_or_none() {
    let usage = json!({ "uptime_seconds": 1, "load": { "min1": 4800, "min5": 1056, "min15": 96 } });
    let said = of(Group::System, Part::Usage, usage).unwrap();
    assert_eq!(said["load_15m"], 96.0 / 65_536.0);
    let usage =
        json!({ "uptime": "08h 09m 16s", "load": { "min1": 32.5, "min5": 32, "min15": 64 } });
    let said = of(Group::System, Part::Usage, usage).unwrap();
    assert_eq!((&said["load_15m"], &said["uptime"]), (&json!(64.0), &json!(29_356)));
}

/// RUTX, 7.1x: without a SIM in it.
#[test]
fn a_modem_without_a_sim_is_not_registered() {
    check(
        Group::Signal,
        Part::Modems,
        json!([{
            "id": "3-1", "simstate": "Not inserted", "simstate_id": 1, "pinstate": "Not inserted",
            "data_conn_state": "Disconnected", "data_conn_state_id": 2, "operator_state": "Searching",
            "operator_state_id": 0, "operator": "N/A", "provider": "N/A", "ntype": "N/A", "band": "N/A",
            "iccid": "N/A", "cellid": "N/A", "lac": "N/A", "tac": "N/A", "cell_info": [], "temperature": 37.5,
            "busy_state": "Idle", "is_busy": 0, "active_sim": 2, "txbytes": 0, "rxbytes": 0,
        }]),
        json!({
            "modem": "3-1", "connected": false, "registered": false, "temperature": 37.5, "sim": 2,
        }),
    );
}

#[test]
fn each_word_for_the_state_of_a_registration_is_known() {
    for (said, registered, roaming) in [
        ("Registered, home", json!(true), json!(false)),
        ("Roaming", json!(true), json!(true)),
        ("Searching", json!(false), json!(null)),
        ("Not registered", json!(false), json!(null)),
        ("Denied", json!(false), json!(null)),
        ("Unknown", json!(null), json!(null)),
    ] {
        let answer = json!([{ "id": "2-1", "rsrp": -90, "operator_state": said }]);
        let found = of(Group::Signal, Part::Modems, answer).unwrap();
        assert_eq!((&found["registered"], &found["roaming"]), (&registered, &roaming), "{said}");
    }
}

/// The impulse counter counts in the answer that has the levels.
#[test]
fn pulses_are_those_that_the_router_has_counted() {
    let rows = json!([
        { "id": "din1", "type": "gpio", "direction": "in", "value": "1", "count": 1234 },
        { "id": "din2", "type": "gpio", "direction": "in", "value": "0", "count": "7" },
        { "id": "dout1", "type": "gpio", "direction": "out", "value": "0", "counter_support": "0" },
    ]);
    check(
        Group::Io,
        Part::Io,
        rows.clone(),
        json!({ "din1": true, "din2": false, "dout1": false }),
    );
    let counted = json!({ "din1": 1234, "din2": 7 });
    check(Group::Pulses, Part::Io, rows, counted);
}

/// By ubus, as an RG520N in a RutOS of 2025 tells it: all is in what the router has kept, temperatures are tenths, and
/// `state` is what the modem is busy with.
fn answer_with_cache(asked: &Value) -> Value {
    let params = &asked["params"];
    if asked["method"] == "list" {
        return json!({ "gsm.modem0": {}, "gsm.modem1": {} });
    }
    match (params[1].as_str().unwrap_or(""), params[2].as_str().unwrap_or("")) {
        ("gsm.modem0", "info") => json!([0, {
            "name": "External modem", "usb_id": "1-1.2", "builtin": false, "primary": false, "state": "Idle",
            "state_id": 1, "cache": { "rsrp_value": -120, "net_mode_str": "LTE" },
        }]),
        ("gsm.modem1", "info") => json!([0, {
            "name": "Internal modem", "usb_id": "2-1", "builtin": true, "primary": true, "simcount": 2,
            "is_busy": 0, "state": "Idle", "state_id": 1,
            "cache": {
                "rssi_value": -63, "rsrp_value": -90, "rsrq_value": -8, "sinr_value": 18, "operator": "A",
                "provider_name": "B", "net_mode": 10, "net_mode_str": "LTE", "band": 2, "band_str": "LTE B2",
                "sim": 2, "reg_stat": 5, "reg_stat_str": "Roaming", "temperature": 125, "reg_ci": "29954840",
                "reg_tac": "1832", "cell_info": [{ "cellid": "1", "rsrp": -99 }],
            },
        }]),
        ("gsm.modem0" | "gsm.modem1", _) => panic!("the modem itself is asked: {asked}"),
        ("mwan3", "status") => {
            json!([0, { "interfaces": { "wan": { "status": "offline", "up": true } } }])
        }
        ("mdcollect", "get_raw") => json!([0, { "used_data": [
            { "time": params[3]["to"], "rx": 70, "tx": 7 },
        ] }]),
        ("network.interface", "dump") => json!([0, { "interface": [
            { "interface": "wan", "up": true, "l3_device": "eth1", "proto": "dhcp", "metric": 1,
              "ipv4-address": [{ "address": "192.168.8.2", "mask": 24 }],
              "route": [{ "target": "0.0.0.0", "mask": 0 }] },
            { "interface": "mob1s1a1", "up": false, "proto": "wwan", "metric": 2, "data": { "modem": "2-1" } },
            { "interface": "mob1s2a1", "up": true, "proto": "wwan", "metric": 3, "data": { "modem": "2-1" } },
            { "interface": "mob1s2a1_4", "up": true, "l3_device": "qmimux0", "proto": "static", "metric": 3,
              "data": { "modem": "2-1" }, "ipv4-address": [{ "address": "10.2.3.4", "mask": 32 }],
              "route": [{ "target": "0.0.0.0", "mask": 0 }] },
        ] }]),
        _ => machines::answer(asked),
    }
}

#[tokio::test(start_paused = true)]
async fn what_ubus_has_kept_of_a_modem_is_what_it_says() {
    let _clock = WallClock::at(NOW / 1_000_000_000);
    let memory = Memory::new(NOW);
    machines::serve(&memory, answer_with_cache);
    let mut running = connect(&memory, &settings("provider: ubus\n"));
    let said = next(&mut running.read("groups: [signal, wan, data]")).await;
    assert_eq!(
        said["signal"],
        json!({
            "modem": "2-1", "connected": true, "registered": true, "roaming": true, "operator": "A",
            "technology": "LTE", "band": "LTE B2", "rssi": -63, "rsrp": -90, "rsrq": -8, "sinr": 18,
            "temperature": 12.5, "sim": 2, "cell": "29954840", "area": "1832",
        })
    );
    assert_eq!(said["wan"]["kind"], "mobile");
    assert_eq!(said["data"]["today"], json!({ "up": 7, "down": 70 }));
    assert_eq!(said["data"]["total"], json!({ "up": 400, "down": 300 }));
}
