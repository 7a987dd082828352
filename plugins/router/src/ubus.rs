//! ubus by JSON-RPC over HTTP, as OpenWrt has it. Gives answers in the shape of those of the REST interface
//! of RutOS, so that one reader serves for all.

use std::time::Duration;

use anyhow::{Context, anyhow};
use forebay_sdk::Secret;
use hyper::Method;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    figures::Figures,
    group::Part,
    modem_manager::{self, Found},
    patience::Patience,
    rutos::{Absent, Answers},
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
        let mut rows = Vec::new();
        for found in Figures::of(&dump).list(&["interface"]) {
            let Value::Object(mut row) = found.clone() else { continue };
            let says = Figures::of(found);
            let is_default = |route: &Value| {
                matches!(Figures::of(route).text(&["target"]).as_deref(), Some("0.0.0.0" | "::"))
            };
            let leads_out = says.list(&["route"]).iter().any(is_default);
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

    /// What the objects of a modem say, taken together: each firmware has another share in each.
    async fn modems(&mut self) -> Result<Value, NoAnswer> {
        const CALLS: [&str; 5] =
            ["info", "get_network_info", "get_serving_cell", "get_signal_query", "get_temperature"];
        let mut all = Map::new();
        let mut refused = None;
        for method in CALLS {
            match self.call("gsm.modem0", method, json!({})).await {
                Ok(Value::Object(said)) => all.extend(said),
                Ok(_) => (),
                Err(NoAnswer::Refused(why)) => refused = Some(why),
                Err(other) => return Err(other),
            }
        }
        if all.is_empty() {
            let why = refused.unwrap_or_else(|| "it says nothing of a modem".to_owned());
            return self.managed(why).await;
        }
        all.entry("id").or_insert_with(|| "modem0".into());
        let interfaces = self.interfaces().await?;
        let is_mobile = |row: &&Value| {
            let proto = Figures::of(row).text(&["proto"]).unwrap_or_default();
            ["wwan", "qmi", "mbim", "ncm", "connm"].contains(&&*proto)
        };
        let mobile = interfaces.as_array().and_then(|rows| rows.iter().find(is_mobile));
        for (ours, theirs) in [("rxbytes", "rx_bytes"), ("txbytes", "tx_bytes")] {
            let counted = mobile.and_then(|row| Figures::of(row).count(&[theirs]));
            if let Some(counted) = counted {
                all.entry(ours).or_insert_with(|| counted.into());
            }
        }
        Ok(json!([all]))
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
        let objects = self.ask("list", json!([self.token(), "ioman.*"])).await?;
        let names = objects.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        let mut rows = Vec::new();
        for object in names.unwrap_or_default().into_iter().take(MOST_PINS) {
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
