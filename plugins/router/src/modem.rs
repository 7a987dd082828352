//! What a modem says about the mobile network. Pure.

use serde_json::Value;

use crate::figures::{Figures, Said};

/// A number of a kind that a firmware writes otherwise than another does is told apart by its size.
const HOTTEST: f64 = 150.0;
/// More than a number or a short name is no profile.
const LONGEST_PROFILE: usize = 32;
/// Where the state of the registration stands as a number.
const STATE_NUMBERS: [&str; 3] = ["operator_state_id", "netstate_id", "reg_stat"];

/// The modem that has the connection: the one called primary, else the first that is no offline one.
pub fn chosen(modems: &Value) -> Option<&Value> {
    let all: Vec<&Value> = all(modems).collect();
    let is_primary = |modem: &&&Value| Figures::of(modem).truth(&["primary"]) == Some(true);
    let works = |modem: &&&Value| !is_offline(Figures::of(modem));
    let found = all.iter().find(|modem| is_primary(modem) && works(modem));
    found.or_else(|| all.iter().find(works)).or_else(|| all.first()).copied()
}

/// The modems of an answer, which is a list of them, or one alone, or a map of them.
pub fn all(modems: &Value) -> impl Iterator<Item = &Value> {
    let is_one = |value: &Value| {
        let names = ["id", "rssi", "rsrp", "data_conn_state", "operator", "txbytes", "offline"];
        names.iter().any(|name| value.get(name).is_some())
    };
    let list: Vec<&Value> = match modems {
        Value::Array(list) => list.iter().collect(),
        Value::Object(_) if is_one(modems) => vec![modems],
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    };
    list.into_iter().filter(|modem| modem.is_object())
}

/// What the modem is called in messages, such as `2-1`.
pub fn name(modem: &Value) -> String {
    Figures::of(modem).text(&["usb_id", "id", "modem_id"]).unwrap_or_else(|| "modem".to_owned())
}

/// The slot of the SIM that is in use, from 1.
pub fn sim(modem: &Value) -> Option<u64> {
    let found = Figures::of(modem).count(&["active_sim", "sim", "sim_slot", "current_sim"]);
    found.filter(|slot| (1..=16).contains(slot))
}

/// The profile in use, where the SIM is one of many profiles.
pub fn esim(modem: &Value) -> Option<String> {
    Figures::of(modem).text(&["esim_profile"]).filter(|it| it.len() <= LONGEST_PROFILE)
}

fn is_offline(modem: Figures<'_>) -> bool {
    ["offline", "blocked", "disabled"].iter().any(|name| modem.truth(&[name]) == Some(true))
}

/// The group `signal`.
pub fn signal(modems: &Value, identifiers: Identifiers) -> Option<Value> {
    let found = chosen(modems)?;
    let modem = Figures::of(found);
    let mut said = Said::default();
    said.put("modem", Some(name(found)));
    if is_offline(modem) {
        said.put("connected", Some(false));
        return said.done();
    }
    let state = modem.text(&["data_conn_state", "connection_state", "connstate", "state"]);
    said.put("connected", state.as_deref().and_then(is_connected));
    let registered =
        modem.text(&["operator_state", "netstate", "registration", "reg_stat_str", "reg_state"]);
    let registered = registered.as_deref().and_then(Registered::parse);
    let registered = registered.or_else(|| Registered::of_number(modem.count(&STATE_NUMBERS)?));
    said.put("registered", registered.map(|it| it != Registered::Not));
    said.put("roaming", registered.and_then(Registered::roams));
    said.put(
        "operator",
        modem.text(&["operator", "oper", "operator_name", "provider", "provider_name"]),
    );
    let kind =
        modem.text(&["ntype", "conntype", "network_type", "nettype", "net_mode_str", "net_mode"]);
    said.put("technology", kind.as_deref().map(technology));
    said.put("band", modem.text(&["band_str", "band", "cur_band", "current_band"]));
    said.put(
        "rssi",
        modem.within(&["rssi", "rssi_value", "signal", "signal_strength"], -140.0, -1.0),
    );
    said.put("rsrp", modem.within(&["rsrp", "rsrp_value"], -156.0, -20.0));
    said.put("rsrq", modem.within(&["rsrq", "rsrq_value"], -43.0, 20.0));
    said.put("sinr", modem.within(&["sinr", "sinr_value", "rssnr_value"], -40.0, 60.0));
    said.put("rscp", modem.within(&["rscp", "rscp_value"], -140.0, -1.0));
    said.put("ecio", modem.within(&["ecio", "ec_io", "ecio_value"], -40.0, 0.0));
    said.put("quality", modem.within(&["signal_quality"], 0.0, 100.0));
    said.put("temperature", temperature(modem));
    said.put("sim", sim(found));
    said.put("cell", modem.text(&["cellid", "cell_id", "cell", "reg_ci"]));
    said.put("area", modem.text(&["tac", "reg_tac", "lac", "reg_lac"]));
    if identifiers == Identifiers::Shown {
        for name in ["imei", "imsi", "iccid"] {
            said.put(name, modem.text(&[name]));
        }
    }
    (said.0.len() > 1).then(|| said.0.into())
}

/// Whether what names a subscriber or a device is part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifiers {
    Shown,
    Hidden,
}

fn is_connected(state: &str) -> Option<bool> {
    let state = state.trim().to_ascii_lowercase();
    if state.starts_with("connected") {
        return Some(true);
    }
    const NOT: [&str; 6] =
        ["disconnected", "not connected", "connecting", "idle", "offline", "failed"];
    NOT.iter().any(|word| state.starts_with(word)).then_some(false)
}

/// The whole numbers of one interface are degrees, and those of another tenths of them.
fn temperature(modem: Figures<'_>) -> Option<f64> {
    let found = modem.float(&["temperature", "temp", "modem_temperature"])?;
    let degrees = if found.abs() > HOTTEST { found / 10.0 } else { found };
    (-60.0..=HOTTEST).contains(&degrees).then_some(degrees)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Registered {
    Home,
    Roaming,
    /// In a way that does not say where.
    Somewhere,
    Not,
}

impl Registered {
    fn parse(text: &str) -> Option<Registered> {
        let text = text.to_ascii_lowercase();
        let has = |word| text.contains(word);
        Some(if has("not registered") || has("unregistered") || has("denied") || has("searching") {
            Registered::Not
        } else if has("not roaming") || has("home") {
            Registered::Home
        } else if has("roaming") {
            Registered::Roaming
        } else if has("registered") {
            Registered::Somewhere
        } else {
            return Registered::of_number(text.trim().parse().ok()?);
        })
    }

    /// As 3GPP TS 27.007 numbers them.
    fn of_number(number: u64) -> Option<Registered> {
        match number {
            0 | 2 | 3 => Some(Registered::Not),
            1 | 6 | 9 => Some(Registered::Home),
            5 | 7 | 10 => Some(Registered::Roaming),
            _ => None,
        }
    }

    fn roams(self) -> Option<bool> {
        match self {
            Registered::Home => Some(false),
            Registered::Roaming => Some(true),
            Registered::Somewhere | Registered::Not => None,
        }
    }
}

/// One word for a technology that has many names. What is not known stays as it is.
fn technology(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    let has = |word| upper.contains(word);
    let known = if has("NB-IOT") || has("NBIOT") || has("NB1") {
        "NB-IoT"
    } else if has("LTE-M") || has("CAT-M") || has("CATM") || has("EMTC") {
        "LTE-M"
    } else if has("NSA") || has("ENDC") || has("EN-DC") {
        "5G-NSA"
    } else if has("5G") || has("NR5G") || upper.trim() == "NR" {
        "5G-SA"
    } else if has("LTE") || has("4G") {
        "LTE"
    } else if has("3G")
        || has("HSPA")
        || has("HSDPA")
        || has("HSUPA")
        || has("UMTS")
        || has("WCDMA")
    {
        "3G"
    } else if has("2G") || has("EDGE") || has("GPRS") || has("GSM") {
        "2G"
    } else {
        text.trim()
    };
    known.to_owned()
}
