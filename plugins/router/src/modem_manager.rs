//! What ModemManager says of the modems of a machine, in the words of RutOS. Pure.

use serde_json::{Map, Value};

use crate::figures::{Figures, Said};

const MODEM: &str = "org.freedesktop.ModemManager1.Modem";
const NETWORK: &str = "org.freedesktop.ModemManager1.Modem.Modem3gpp";
const SIGNAL: &str = "org.freedesktop.ModemManager1.Modem.Signal";

/// A port of a modem that is a network device.
const NET: u64 = 2;
/// A modem that is connected, and those that are not there for anybody.
const CONNECTED: i64 = 11;
const DISABLED: i64 = 3;

/// The bits of what a modem uses, the best one first.
const TECHNOLOGIES: [(u64, &str); 6] = [
    (1 << 17, "NB-IoT"),
    (1 << 16, "LTE-M"),
    (1 << 15, "5G"),
    (1 << 14, "LTE"),
    (0b11_1110_0000, "3G"),
    (0b1_1110, "2G"),
];
/// Bands of LTE and 5G are numbered from here.
const LTE_BANDS: std::ops::RangeInclusive<u64> = 31..=115;
const NR_BANDS: std::ops::RangeInclusive<u64> = 301..=600;

/// Figures in the words of RutOS, and in its own.
const FIGURES: [(&str, &str); 6] = [
    ("rssi", "rssi"),
    ("rsrp", "rsrp"),
    ("rsrq", "rsrq"),
    ("sinr", "snr"),
    ("rscp", "rscp"),
    ("ecio", "ecio"),
];

/// A modem in the words of RutOS, and the network devices that are its own.
pub struct Found {
    pub says: Map<String, Value>,
    pub devices: Vec<String>,
}

/// The modems in what OpenWrt has of ModemManager over ubus, whose words are those of `mmcli -J`.
pub fn dumped(dump: &Value) -> Vec<Found> {
    Figures::of(dump).list(&["modem"]).iter().map(read_dumped).collect()
}

fn read_dumped(modem: &Value) -> Found {
    let (all, network) = (Figures::of(&modem["generic"]), Figures::of(&modem["3gpp"]));
    let devices: Vec<String> = all
        .list(&["ports"])
        .iter()
        .filter_map(|port| port.as_str()?.strip_suffix(" (net)").map(str::to_owned))
        .collect();
    let mut says = Said::default();
    says.put("id", Some(devices.first().map_or("modem", String::as_str)));
    match all.text(&["state"]).as_deref() {
        Some("connected") => says.put("data_conn_state", Some("Connected")),
        Some("failed" | "unknown" | "initializing" | "locked" | "disabled") => {
            says.put("disabled", Some(true));
        }
        Some(_) => says.put("data_conn_state", Some("Disconnected")),
        None => (),
    }
    says.put("operator_state", network.text(&["registration-state"]));
    says.put("operator", network.text(&["operator-name", "operator-code"]));
    says.put("imei", network.text(&["imei"]).or_else(|| all.text(&["equipment-identifier"])));
    says.put("active_sim", all.count(&["primary-sim-slot"]).filter(|slot| *slot > 0));
    let used = all.list(&["access-technologies"]);
    let uses = |name: &str| used.iter().any(|it| it == name);
    let (technology, figures): (_, &[&str]) = match () {
        () if uses("5gnr") && uses("lte") => (Some("5G-NSA"), &["5g", "lte"]),
        () if uses("5gnr") => (Some("5G-SA"), &["5g"]),
        () if uses("lte-nb-iot") => (Some("NB-IoT"), &["lte"]),
        () if uses("lte-cat-m") => (Some("LTE-M"), &["lte"]),
        () if uses("lte") => (Some("LTE"), &["lte"]),
        () if ["umts", "hsdpa", "hsupa", "hspa", "hspa-plus"].into_iter().any(uses) => {
            (Some("3G"), &["umts"])
        }
        () if ["gsm", "gsm-compact", "gprs", "edge"].into_iter().any(uses) => {
            (Some("2G"), &["gsm"])
        }
        () => (None, &[]),
    };
    says.put("ntype", technology);
    says.put("signal_quality", all.inside("signal-quality").number(&["value"]));
    let of = |name: &&str| Figures::of(&modem["signal"][*name]);
    let is_said = |it: &Figures<'_>| FIGURES.iter().any(|(_, name)| it.number(&[name]).is_some());
    if let Some(found) = figures.iter().map(of).find(is_said) {
        FIGURES.iter().for_each(|(ours, theirs)| says.put(ours, found.number(&[theirs])));
    }
    Found { says: says.0, devices }
}

/// The modems among all that ModemManager has.
pub fn modems(objects: &Value) -> Vec<Found> {
    let all = objects.as_object().into_iter().flatten();
    all.filter_map(|(path, object)| read(path, object)).collect()
}

fn read(path: &str, object: &Value) -> Option<Found> {
    let modem = Figures::of(object.get(MODEM)?);
    let network = Figures::of(&object[NETWORK]);
    let device = |port: &Value| {
        let is_network = port.get(1).and_then(Value::as_u64) == Some(NET);
        port.get(0).and_then(Value::as_str).filter(|_| is_network).map(str::to_owned)
    };
    let devices: Vec<String> = modem.list(&["Ports"]).iter().filter_map(device).collect();
    let mut says = Said::default();
    // The path has another number each time that the modem is found. That of the kernel stays.
    let number = path.rsplit('/').next().unwrap_or_default();
    let id = devices.first().cloned().unwrap_or_else(|| format!("modem{number}"));
    says.put("id", Some(id));
    let state = modem.number(&["State"]).and_then(|state| state.as_i64());
    match state {
        Some(CONNECTED) => says.put("data_conn_state", Some("Connected")),
        Some(state) if state <= DISABLED => says.put("disabled", Some(true)),
        Some(_) => says.put("data_conn_state", Some("Disconnected")),
        None => (),
    }
    // Of which 4 stands for what is not known, as it does not in the numbers of 3GPP.
    let registered = network.count(&["RegistrationState"]).filter(|state| *state != 4);
    says.put("operator_state_id", registered);
    says.put(
        "operator",
        network.text(&["OperatorName"]).or_else(|| network.text(&["OperatorCode"])),
    );
    says.put("imei", network.text(&["Imei"]).or_else(|| modem.text(&["EquipmentIdentifier"])));
    says.put("active_sim", modem.count(&["PrimarySimSlot"]).filter(|slot| *slot > 0));
    let used = modem.count(&["AccessTechnologies"]).unwrap_or(0);
    let has_both = used & (1 << 15) != 0 && used & (1 << 14) != 0;
    let technology = TECHNOLOGIES.iter().find(|(bits, _)| used & bits != 0).map(|(_, name)| *name);
    says.put("ntype", if has_both { Some("5G-NSA") } else { technology });
    if let [Value::Number(percent), ..] = modem.list(&["SignalQuality"]) {
        says.put("signal_quality", Some(percent.clone()));
    }
    says.put("band", band(modem.list(&["CurrentBands"])));
    put_signal(&object[SIGNAL], technology, &mut says);
    Some(Found { says: says.0, devices })
}

/// The figures of the technology in use. There are none until somebody has switched that on.
fn put_signal(signal: &Value, technology: Option<&str>, says: &mut Said) {
    let names: &[&str] = match technology {
        Some("5G") => &["Nr5g", "Lte"],
        Some("LTE" | "LTE-M" | "NB-IoT") => &["Lte"],
        Some("3G") => &["Umts"],
        Some("2G") => &["Gsm"],
        _ => return,
    };
    let is_said = |name: &&&str| signal[**name].as_object().is_some_and(|it| !it.is_empty());
    let Some(name) = names.iter().find(is_said) else { return };
    let figures = Figures::of(&signal[*name]);
    FIGURES.iter().for_each(|(ours, theirs)| says.put(ours, figures.number(&[theirs])));
}

/// The band, where a modem says the one that it uses. Most say all that they may use.
fn band(bands: &[Value]) -> Option<String> {
    let [only] = bands else { return None };
    let number = only.as_u64()?;
    if LTE_BANDS.contains(&number) {
        Some(format!("LTE B{}", number - LTE_BANDS.start() + 1))
    } else if NR_BANDS.contains(&number) {
        Some(format!("5G N{}", number - NR_BANDS.start() + 1))
    } else {
        None
    }
}
