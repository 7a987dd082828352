//! ubus by JSON-RPC over HTTP, as OpenWrt has it. Gives answers in the shape of those of the REST interface
//! of RutOS, so that one reader serves for all.

use std::time::Duration;

use anyhow::{Context, anyhow};
use forebay_sdk::Secret;
use hyper::Method;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    counters::Asked,
    figures::Figures,
    group::Part,
    modem_manager::{self, Found},
    patience::Patience,
    rutos::{Absent, ActFailure, Answers},
    web::{Ask, Failure, Web},
};

const PATH: &str = "/ubus";
/// Whoever has not logged in.
const NOBODY: &str = "00000000000000000000000000000000";
const USUAL_SESSION: u64 = 300;
const LONGEST_SESSION: u64 = 86_400;
/// The status of a call that was refused, of one to nobody, and of one for nothing that is there.
const PERMISSION_DENIED: u64 = 6;
/// The error of JSON-RPC for a session that is not known.
const ACCESS_DENIED: i64 = -32002;
/// A load that the kernel has scaled.
const LOAD_SCALE: f64 = 65_536.0;
const BYTES_IN_MIB: f64 = 1_048_576.0;
const KIB_IN_MIB: f64 = 1024.0;
const MOST_PINS: usize = 64;
const MOST_MODEMS: usize = 8;
/// Modems tell their temperature in tenths of a degree.
const TENTHS: f64 = 10.0;

/// A router that is asked by ubus.
pub struct Ubus {
    web: Web,
    username: String,
    password: Secret,
    session: Option<(String, Instant)>,
    patience: Patience,
}

/// Why a call gave nothing.
enum NoAnswer {
    /// The router does not do that, or not for us.
    Refused(String),
    NoSession,
    Failed(anyhow::Error),
}

impl Ubus {
    pub fn new(web: Web, username: String, password: Secret) -> Ubus {
        Ubus { web, username, password, session: None, patience: Patience::default() }
    }

    pub async fn enter(&mut self) -> anyhow::Result<()> {
        match &self.session {
            Some((_, ends)) if Instant::now() < *ends => return Ok(()),
            Some(_) => self.patience.session_lasted(),
            None => (),
        }
        self.session = None;
        let place = self.web.place().clone();
        self.patience.may_log_in(&place)?;
        let login = json!({ "username": self.username, "password": self.password.expose() });
        match self.call("session", "login", login).await {
            Ok(said) => {
                let said = Figures::of(&said);
                let token =
                    said.text(&["ubus_rpc_session"]).context("logging in: it says no session")?;
                let lasts = said.count(&["timeout", "expires"]).unwrap_or(USUAL_SESSION);
                let lasts = Duration::from_secs(lasts.clamp(1, LONGEST_SESSION));
                self.patience.logged_in();
                self.session = Some((token, Instant::now() + lasts / 2));
                Ok(())
            }
            Err(NoAnswer::Refused(why)) => {
                Err(self.patience.refused(&place, &self.username, &why).into())
            }
            Err(NoAnswer::NoSession) => {
                let why = "access denied";
                Err(self.patience.refused(&place, &self.username, why).into())
            }
            Err(NoAnswer::Failed(error)) => {
                self.patience.failed();
                Err(error.context("logging in"))
            }
        }
    }

    pub async fn read(&mut self, parts: &[Part]) -> anyhow::Result<Answers> {
        let mut answers = Answers::new();
        for is_last in [false, true] {
            self.enter().await?;
            let mut is_known = true;
            for part in parts {
                match self.part(*part).await {
                    Ok(value) => drop(answers.insert(*part, Ok(value))),
                    Err(NoAnswer::Refused(why)) => {
                        drop(answers.insert(*part, Err(Absent::Lasting(why))))
                    }
                    Err(NoAnswer::Failed(error)) => return Err(error),
                    Err(NoAnswer::NoSession) => {
                        is_known = false;
                        break;
                    }
                }
            }
            if is_known {
                break;
            }
            self.session = None;
            self.patience.session_was_lost();
            if is_last {
                self.patience.failed();
                return Err(anyhow!("{} forgets the session at once", self.web.place()));
            }
        }
        Ok(answers)
    }

    /// Ends the session.
    pub async fn leave(&mut self) {
        if self.session.is_some() {
            let _ = self.call("session", "destroy", json!({})).await;
            self.session = None;
        }
    }

    /// What it has on record of a SIM.
    pub async fn record(&mut self, asked: &Asked) -> Result<Option<Value>, ActFailure> {
        let Asked { modem, sim, esim: None, month, now, .. } = asked else { return Ok(None) };
        let what = json!({ "from": month, "to": now, "modem": modem, "sim": sim });
        match self.call("mdcollect", "get_raw", what).await {
            Ok(said) => {
                let rows = Figures::of(&said).list(&["used_data"]).iter();
                let rows = rows.map(|row| json!([row["time"], row["rx"], row["tx"]]));
                Ok(Some(rows.collect()))
            }
            Err(NoAnswer::Refused(_)) => Ok(None),
            Err(NoAnswer::NoSession) => Err(ActFailure::not_done(anyhow!("the session is over"))),
            Err(NoAnswer::Failed(error)) => Err(ActFailure::not_done(error)),
        }
    }

    async fn part(&mut self, part: Part) -> Result<Value, NoAnswer> {
        match part {
            Part::Usage => Ok(usage(&self.call("system", "info", json!({})).await?)),
            Part::Device => self.device().await,
            Part::Interfaces => self.interfaces().await,
            Part::Modems => self.modems().await,
            Part::Gps => match self.call("gpsd", "position", json!({})).await {
                Err(NoAnswer::Refused(_)) => self.call("gpsd", "info", json!({})).await,
                other => other,
            },
            Part::Io => self.pins().await,
            // Whether it counts shows in what it counts.
            Part::Counter => Err(NoAnswer::Refused("ubus does not tell".to_owned())),
            Part::Internet => Err(NoAnswer::Refused("ubus does not tell".to_owned())),
        }
    }

    async fn device(&mut self) -> Result<Value, NoAnswer> {
        let board = self.call("system", "board", json!({})).await?;
        let mut fixed = board.as_object().cloned().unwrap_or_default();
        let release = Figures::of(&board).inside("release");
        let version = release.text(&["description"]).or_else(|| release.text(&["version"]));
        fixed.extend(version.map(|version| ("fw_version".to_owned(), version.into())));
        Ok(json!({ "static": fixed }))
    }

    async fn interfaces(&mut self) -> Result<Value, NoAnswer> {
        let dump = self.call("network.interface", "dump", json!({})).await?;
        // The failover of the router knows which of them leads anywhere.
        let failover = match self.call("mwan3", "status", json!({})).await {
            Ok(said) => said["interfaces"].clone(),
            Err(NoAnswer::Refused(_)) => Value::Null,
            Err(other) => return Err(other),
        };
        let mut rows = Vec::new();
        for found in Figures::of(&dump).list(&["interface"]) {
            let Value::Object(mut row) = found.clone() else { continue };
            let says = Figures::of(found);
            let is_default = |route: &Value| {
                matches!(Figures::of(route).text(&["target"]).as_deref(), Some("0.0.0.0" | "::"))
            };
            let leads_out = says.list(&["route"]).iter().any(is_default);
            let name = says.text(&["interface"]).unwrap_or_default();
            row.extend(failover[&name].get("status").map(|it| ("mwan".to_owned(), it.clone())));
            row.insert("area_type".to_owned(), if leads_out { "wan" } else { "lan" }.into());
            if let Some(device) = says.text(&["l3_device", "device"]) {
                row.extend(self.counters(&device).await?);
            }
            rows.push(row.into());
        }
        Ok(Value::Array(rows))
    }

    async fn counters(&mut self, device: &str) -> Result<Map<String, Value>, NoAnswer> {
        let said = match self.call("network.device", "status", json!({ "name": device })).await {
            Ok(said) => said,
            Err(NoAnswer::Refused(_)) => return Ok(Map::new()),
            Err(other) => return Err(other),
        };
        let counted = Figures::of(&said).inside("statistics");
        let names = ["rx_bytes", "tx_bytes"];
        let counts = names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), counted.count(&[name])?.into())));
        Ok(counts.collect())
    }

    /// The modems of RutOS, else those of ModemManager.
    async fn modems(&mut self) -> Result<Value, NoAnswer> {
        let mut objects = self.names("gsm.").await?;
        if objects.is_empty() {
            objects.push("gsm.modem0".to_owned());
        }
        let interfaces = self.interfaces().await?;
        let mut rows = Vec::new();
        let mut refused = None;
        for object in objects.iter().take(MOST_MODEMS) {
            match self.modem(object, &interfaces).await {
                Ok(row) => rows.push(row),
                Err(NoAnswer::Refused(why)) => refused = Some(why),
                Err(other) => return Err(other),
            }
        }
        if rows.is_empty() {
            let why = refused.unwrap_or_else(|| "it says nothing of a modem".to_owned());
            return self.managed(why).await;
        }
        Ok(Value::Array(rows))
    }

    /// What an object of a modem says. `info` has all that the router knows of it, or, in some firmwares, only what the
    /// modem is; then the modem itself is asked, which takes longer.
    async fn modem(&mut self, object: &str, interfaces: &Value) -> Result<Value, NoAnswer> {
        const CALLS: [&str; 4] =
            ["get_network_info", "get_serving_cell", "get_signal_query", "get_temperature"];
        let mut all = Map::new();
        let mut refused = None;
        match self.call(object, "info", json!({})).await {
            Ok(Value::Object(said)) => all.extend(said),
            Ok(_) => (),
            Err(NoAnswer::Refused(why)) => refused = Some(why),
            Err(other) => return Err(other),
        }
        // What it is busy with, and no state of the connection.
        all.retain(|name, _| !["state", "state_id"].contains(&&**name));
        let is_complete =
            Figures::of_map(&all).get(&["rssi_value", "rsrp_value", "rssi", "rsrp"]).is_some();
        for method in CALLS.iter().filter(|_| !is_complete) {
            match self.call(object, method, json!({})).await {
                Ok(Value::Object(said)) => all.extend(said),
                Ok(_) => (),
                Err(NoAnswer::Refused(why)) => refused = Some(why),
                Err(other) => return Err(other),
            }
        }
        if all.is_empty() {
            let why = refused.unwrap_or_else(|| "it says nothing of a modem".to_owned());
            return Err(NoAnswer::Refused(why));
        }
        let id = object.rsplit_once('.').map_or(object, |(_, id)| id);
        all.entry("id").or_insert_with(|| id.into());
        let says = Figures::of_map(&all);
        let tenths = says.inside("cache").float(&["temperature"]);
        let tenths = tenths.or_else(|| says.float(&["temperature_value"]));
        let usb = says.text(&["usb_id"]);
        all.extend(tenths.map(|it| ("temperature".to_owned(), (it / TENTHS).into())));
        let rows = interfaces.as_array().map_or(&[][..], Vec::as_slice);
        let own = mobile(rows, usb.as_deref());
        for (ours, theirs) in [("rxbytes", "rx_bytes"), ("txbytes", "tx_bytes")] {
            let counted = own.iter().find_map(|row| row.count(&[theirs]));
            all.extend(counted.map(|counted| (ours.to_owned(), counted.into())));
        }
        let has_address = |row: &Figures<'_>| {
            let lists = ["ipv4-address", "ipv6-address"];
            lists.iter().any(|name| !row.list(&[name]).is_empty())
        };
        let is_up = own.iter().any(|row| row.truth(&["up"]) == Some(true) && has_address(row));
        let state = (!own.is_empty()).then_some(if is_up { "Connected" } else { "Disconnected" });
        all.extend(state.map(|state| ("data_conn_state".to_owned(), state.into())));
        Ok(all.into())
    }

    /// The names of the objects that begin so.
    async fn names(&mut self, begin: &str) -> Result<Vec<String>, NoAnswer> {
        let objects = match self.ask("list", json!([self.token(), format!("{begin}*")])).await {
            Err(NoAnswer::Refused(_)) => Value::Null,
            other => other?,
        };
        let names = objects.as_object().into_iter().flat_map(Map::keys);
        Ok(names.filter(|name| name.starts_with(begin)).cloned().collect())
    }

    /// The modems of ModemManager, where OpenWrt has that. `why` there are no others.
    async fn managed(&mut self, why: String) -> Result<Value, NoAnswer> {
        let found = match self.call("modemmanager", "dump", json!({})).await {
            Ok(dump) => modem_manager::dumped(&dump),
            Err(NoAnswer::Refused(_)) => Vec::new(),
            Err(other) => return Err(other),
        };
        let mut rows = Vec::new();
        for Found { mut says, devices } in found {
            if let Some(device) = devices.first() {
                says.extend(self.counters(device).await?);
            }
            rows.push(says.into());
        }
        if rows.is_empty() { Err(NoAnswer::Refused(why)) } else { Ok(Value::Array(rows)) }
    }

    async fn pins(&mut self) -> Result<Value, NoAnswer> {
        let objects = self.names("ioman.").await?;
        let mut rows = Vec::new();
        for object in objects.into_iter().take(MOST_PINS) {
            let Some((_, id)) = object.rsplit_once('.') else { continue };
            if let Ok(Value::Object(mut row)) = self.call(&object, "status", json!({})).await {
                row.insert("id".to_owned(), id.into());
                rows.push(row.into());
            }
        }
        match rows.is_empty() {
            true => Err(NoAnswer::Refused("it has no inputs and outputs".to_owned())),
            false => Ok(Value::Array(rows)),
        }
    }

    fn token(&self) -> String {
        self.session.as_ref().map_or_else(|| NOBODY.to_owned(), |(token, _)| token.clone())
    }

    async fn call(&mut self, object: &str, method: &str, what: Value) -> Result<Value, NoAnswer> {
        let said = self.ask("call", json!([self.token(), object, method, what])).await?;
        let status = said.get(0).and_then(Value::as_u64);
        match status {
            Some(0) => Ok(said.get(1).cloned().unwrap_or_default()),
            Some(PERMISSION_DENIED) => {
                Err(NoAnswer::Refused(format!("no right to call {object} {method}")))
            }
            Some(status) => {
                Err(NoAnswer::Refused(format!("{object} {method} gives status {status}")))
            }
            None => {
                let place = self.web.place();
                Err(NoAnswer::Failed(anyhow!(
                    "{place} answers to {object} {method} what makes no sense"
                )))
            }
        }
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<Value, NoAnswer> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let ask = Ask { method: Method::POST, path: PATH, token: None, body: Some(&body) };
        let answer = self.web.ask(ask).await.map_err(|it| NoAnswer::Failed(it.into_error()))?;
        let said: Option<Value> = serde_json::from_slice(&answer.bytes).ok();
        let Some(said) = said.filter(|_| answer.status.is_success()) else {
            let (place, status) = (self.web.place(), answer.status);
            return Err(NoAnswer::Failed(anyhow!("{place}{PATH} answers {status}")));
        };
        if let Some(error) = said.get("error") {
            let code = error.get("code").and_then(Value::as_i64);
            let text = Figures::of(error).text(&["message"]).unwrap_or_default();
            return Err(match code {
                Some(ACCESS_DENIED) => NoAnswer::NoSession,
                _ => NoAnswer::Refused(text),
            });
        }
        said.get("result").cloned().ok_or_else(|| {
            NoAnswer::Failed(anyhow!("{}{PATH} answers no result", self.web.place()))
        })
    }
}

/// The interfaces of a modem, the ones that are up first: each SIM has its own, with parts for its addresses.
fn mobile<'a>(interfaces: &'a [Value], modem: Option<&str>) -> Vec<Figures<'a>> {
    let name = |row: &Figures<'_>| row.text(&["interface"]).unwrap_or_default();
    let rows: Vec<_> = interfaces.iter().map(Figures::of).collect();
    let is_mobile = |row: &&Figures<'_>| {
        let proto = row.text(&["proto"]).unwrap_or_default();
        ["wwan", "qmi", "mbim", "ncm", "connm"].contains(&&*proto)
    };
    let of = |row: &Figures<'_>| row.text(&["modem"]);
    let is_own =
        |row: &&Figures<'_>| of(row).is_none_or(|it| modem.is_none_or(|modem| modem == it));
    let names: Vec<String> = rows.iter().filter(is_mobile).filter(is_own).map(name).collect();
    let is_part = |row: &&Figures<'_>| {
        let name = name(row);
        let base = name.strip_suffix("_4").or_else(|| name.strip_suffix("_6"));
        names.iter().any(|own| *own == name || base == Some(own))
    };
    let mut own: Vec<_> = rows.iter().filter(is_part).copied().collect();
    own.sort_by_key(|row| row.truth(&["up"]) != Some(true));
    own
}

/// `system info` in the words of RutOS.
fn usage(info: &Value) -> Value {
    let all = Figures::of(info);
    let mut said = Map::new();
    for (ours, theirs) in [("uptime_seconds", "uptime"), ("localtime", "localtime")] {
        said.extend(all.count(&[theirs]).map(|count| (ours.to_owned(), count.into())));
    }
    let load = all.list(&["load"]).iter().filter_map(Value::as_f64).map(|load| load / LOAD_SCALE);
    let names = ["min1", "min5", "min15"].into_iter().map(str::to_owned);
    said.insert("load".to_owned(), names.zip(load.map(Value::from)).collect::<Map<_, _>>().into());
    let mut memory = Map::new();
    let ram = all.inside("memory");
    let free = ram.float(&["available"]).or_else(|| ram.float(&["free"]));
    memory.extend(sizes("ram", ram.float(&["total"]), free, BYTES_IN_MIB));
    let root = all.inside("root");
    let free = root.float(&["avail"]).or_else(|| root.float(&["free"]));
    memory.extend(sizes("flash", root.float(&["total"]), free, KIB_IN_MIB));
    said.insert("memory".to_owned(), memory.into());
    said.into()
}

fn sizes(of: &str, total: Option<f64>, free: Option<f64>, unit: f64) -> Map<String, Value> {
    let Some((total, free)) = total.zip(free).filter(|(total, _)| *total > 0.0) else {
        return Map::new();
    };
    let used = (total - free).max(0.0);
    let round = |it: f64| Value::from((it * 100.0).round() / 100.0);
    Map::from_iter([
        (format!("{of}_total"), round(total / unit)),
        (format!("{of}_free"), round(free / unit)),
        (format!("{of}_used"), round(used / unit)),
        (format!("{of}_percentage"), round(used / total * 100.0)),
    ])
}

/// Whether somebody answers there who speaks it.
pub async fn is_here(web: &mut Web) -> anyhow::Result<bool> {
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "call",
        "params": [NOBODY, "session", "access", {}],
    });
    let ask = Ask { method: Method::POST, path: PATH, token: None, body: Some(&body) };
    let answer = web.ask(ask).await.map_err(Failure::into_error)?;
    let said: Option<Value> = serde_json::from_slice(&answer.bytes).ok();
    Ok(answer.status.is_success() && said.is_some_and(|said| said.get("jsonrpc").is_some()))
}
