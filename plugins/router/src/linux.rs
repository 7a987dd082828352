//! Any Linux machine, by what its kernel shows below `/proc` and `/sys`. Gives answers in the shape of
//! those of RutOS, so that one reader serves for all.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use forebay_sdk::{Timestamp, World};
use serde_json::{Map, Value, json};
use tracing::debug;

use crate::{
    dbus::{self, Call},
    group::Part,
    modem_manager::{self, Found},
    rutos::{Absent, Answers},
};

const MOST_BYTES: usize = 256 << 10;
const KIB_IN_MIB: f64 = 1024.0;
const MOST_ZONES: usize = 16;
/// A route that is up, of the kernel's flags.
const ROUTE_UP: u32 = 1;

/// A machine, and where its root is mounted.
pub struct Linux {
    world: World,
    root: PathBuf,
}

impl Linux {
    pub fn new(world: World, root: PathBuf) -> Linux {
        Linux { world, root }
    }

    pub async fn read(&self, parts: &[Part]) -> Answers {
        let mut answers = Answers::new();
        for part in parts {
            let found = match part {
                Part::Usage => self.usage().await,
                Part::Device => self.device().await,
                Part::Interfaces => self.interfaces().await,
                Part::Modems => self.modems().await,
                Part::Internet | Part::Gps | Part::Io | Part::Counter => None,
            };
            let why = || format!("the kernel at {} does not show it", self.root.display());
            answers.insert(*part, found.ok_or_else(|| Absent::Lasting(why())));
        }
        answers
    }

    async fn text(&self, path: &str) -> Option<String> {
        let bytes = self.world.read(self.root.join(path), MOST_BYTES).await.ok()?;
        String::from_utf8(bytes).ok()
    }

    /// A file of the network. Where the root of another machine, or of the host, is mounted, `/proc/net` is ours,
    /// and that of its first process is its own.
    async fn network(&self, name: &str) -> Option<String> {
        match self.text(&format!("proc/1/net/{name}")).await {
            Some(text) => Some(text),
            None => self.text(&format!("proc/net/{name}")).await,
        }
    }

    async fn usage(&self) -> Option<Value> {
        let uptime = self.text("proc/uptime").await?;
        let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let mut said = Map::new();
        said.insert("uptime_seconds".to_owned(), json!(uptime as u64));
        let now = Timestamp::now().unix_millis().div_euclid(1000);
        said.insert("localtime".to_owned(), json!(now));
        if let Some(load) = self.text("proc/loadavg").await {
            let mut load = load.split_whitespace().map_while(|word| word.parse::<f64>().ok());
            let names = ["min1", "min5", "min15"];
            let load =
                names.iter().filter_map(|name| Some(((*name).to_owned(), load.next()?.into())));
            said.insert("load".to_owned(), Value::Object(load.collect()));
        }
        let mut memory = Map::new();
        if let Some(text) = self.text("proc/meminfo").await {
            memory.extend(read_memory(&text));
        }
        if let Ok(space) = self.world.space(&self.root).await {
            let mib = |bytes: u64| (bytes as f64 / KIB_IN_MIB / KIB_IN_MIB * 100.0).round() / 100.0;
            let used = space.total.saturating_sub(space.free);
            memory.insert("flash_total".to_owned(), mib(space.total).into());
            memory.insert("flash_free".to_owned(), mib(space.free).into());
            memory.insert("flash_used".to_owned(), mib(used).into());
            memory.insert("flash_percentage".to_owned(), percent(used as f64, space.total as f64));
        }
        said.insert("memory".to_owned(), memory.into());
        if let Some(hottest) = self.temperature().await {
            said.insert("board_temperature".to_owned(), hottest.into());
        }
        Some(said.into())
    }

    /// The hottest of the zones, in degrees.
    async fn temperature(&self) -> Option<f64> {
        let mut hottest = None;
        for zone in 0..MOST_ZONES {
            let path = format!("sys/class/thermal/thermal_zone{zone}/temp");
            let Some(text) = self.text(&path).await else { break };
            let millis: Option<f64> = text.trim().parse().ok();
            hottest = millis.map(|it| it / 1000.0).into_iter().chain(hottest).reduce(f64::max);
        }
        hottest
    }

    async fn device(&self) -> Option<Value> {
        let mut fixed = Map::new();
        let mut put = |name: &str, text: Option<String>| {
            let text = text.map(|text| text.trim_matches(['\0', '\n', ' ', '"']).to_owned());
            fixed.extend(text.filter(|it| !it.is_empty()).map(|it| (name.to_owned(), it.into())));
        };
        put("hostname", self.text("proc/sys/kernel/hostname").await);
        put("kernel", self.text("proc/sys/kernel/osrelease").await);
        let model = match self.text("proc/device-tree/model").await {
            Some(model) => Some(model),
            None => self.text("sys/class/dmi/id/product_name").await,
        };
        put("model", model);
        let release = self.text("etc/os-release").await.unwrap_or_default();
        let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        put("fw_version", name.map(str::to_owned));
        if let Some(cpus) = self.text("proc/cpuinfo").await {
            let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
            fixed.insert("cpu_count".to_owned(), count.into());
        }
        (!fixed.is_empty()).then(|| json!({ "static": fixed }))
    }

    /// The modems that ModemManager knows; else their devices, which the kernel counts. What the network is like it does
    /// not know.
    async fn modems(&self) -> Option<Value> {
        const DEVICES: [&str; 4] = ["wwan", "qmimux", "rmnet", "ppp"];
        let counters = self.network("dev").await.unwrap_or_default();
        let rows: Vec<(&str, u64, u64)> = counters.lines().filter_map(read_counters).collect();
        let managed = self.managed().await.into_iter().map(|Found { mut says, devices }| {
            let counted = rows.iter().find(|(name, ..)| devices.iter().any(|it| it == name));
            if let Some((_, down, up)) = counted {
                says.extend(
                    [("rxbytes", down), ("txbytes", up)]
                        .map(|(name, bytes)| (name.to_owned(), Value::from(*bytes))),
                );
            }
            Value::from(says)
        });
        let mut modems: Vec<Value> = managed.collect();
        if modems.is_empty() {
            let own =
                rows.iter().filter(|(name, ..)| DEVICES.iter().any(|it| name.starts_with(it)));
            let says = |(name, down, up): &(&str, u64, u64)| json!({ "id": name, "rxbytes": down, "txbytes": up });
            modems = own.map(says).collect();
        }
        (!modems.is_empty()).then(|| modems.into())
    }

    /// What ModemManager says, where it runs. It is not started for it, and told to do nothing.
    async fn managed(&self) -> Vec<Found> {
        const ALL: Call<'_> = Call {
            service: "org.freedesktop.ModemManager1",
            path: "/org/freedesktop/ModemManager1",
            interface: "org.freedesktop.DBus.ObjectManager",
            method: "GetManagedObjects",
        };
        let Ok(stream) = self.world.socket(self.root.join("run/dbus/system_bus_socket")).await
        else {
            return Vec::new();
        };
        match dbus::ask(stream, &ALL).await {
            Ok(objects) => modem_manager::modems(&objects),
            Err(error) => {
                debug!("{error:#}");
                Vec::new()
            }
        }
    }

    async fn interfaces(&self) -> Option<Value> {
        let counters = self.network("dev").await?;
        let routes = self.network("route").await.unwrap_or_default();
        let routes: Vec<Route> = routes.lines().filter_map(Route::parse).collect();
        let local = self.network("fib_trie").await.unwrap_or_default();
        let local = local_addresses(&local);
        let local6 = self.network("if_inet6").await.unwrap_or_default();
        let mut rows = Vec::new();
        for (name, received, sent) in counters.lines().filter_map(read_counters) {
            let state = self.text(&format!("sys/class/net/{name}/operstate")).await;
            let leads_out = routes.iter().find(|it| it.device == name && it.is_default());
            let addresses = local.iter().filter(|address| {
                let of = |it: &&Route| !it.is_default() && it.leads_to(**address);
                let nearest = routes.iter().filter(of).max_by_key(|it| it.mask.count_ones());
                nearest.is_some_and(|it| it.device == name)
            });
            let mut row = json!({
                "id": name, "device": name, "rx_bytes": received, "tx_bytes": sent,
                "ipaddrs": addresses.map(Ipv4Addr::to_string).collect::<Vec<_>>(),
                "ip6addrs": addresses6(&local6, name),
                "area_type": if leads_out.is_some() { "wan" } else { "lan" },
            });
            // Point-to-point devices, such as those of modems, say `unknown` and mean up.
            let is_up = state.as_deref().map(str::trim).map(|it| it == "up" || it == "unknown");
            row["up"] = json!(is_up.unwrap_or(leads_out.is_some()));
            if let Some(route) = leads_out {
                row["metric"] = route.metric.into();
            }
            rows.push(row);
        }
        Some(rows.into())
    }
}

fn read_memory(text: &str) -> Map<String, Value> {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let mut memory = Map::new();
    let Some(total) = of("MemTotal") else { return memory };
    let Some(free) = of("MemAvailable").or_else(|| of("MemFree")) else { return memory };
    let mib = |kib: f64| Value::from((kib / KIB_IN_MIB * 100.0).round() / 100.0);
    memory.insert("ram_total".to_owned(), mib(total));
    memory.insert("ram_free".to_owned(), mib(free));
    memory.insert("ram_used".to_owned(), mib((total - free).max(0.0)));
    memory.insert("ram_percentage".to_owned(), percent((total - free).max(0.0), total));
    memory
}

fn percent(part: f64, whole: f64) -> Value {
    match whole > 0.0 {
        true => ((part / whole * 1e4).round() / 1e2).into(),
        false => Value::Null,
    }
}

/// A line of `/proc/net/dev`: the name, and the bytes that came and went.
fn read_counters(line: &str) -> Option<(&str, u64, u64)> {
    let (name, counts) = line.split_once(':')?;
    let counts: Vec<u64> = counts.split_whitespace().map_while(|it| it.parse().ok()).collect();
    Some((name.trim(), *counts.first()?, *counts.get(8)?))
}

struct Route {
    device: String,
    to: u32,
    mask: u32,
    metric: u64,
}

impl Route {
    /// A line of `/proc/net/route`. Its addresses are in the order of the machine.
    fn parse(line: &str) -> Option<Route> {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let address = |at: usize| Some(u32::from_str_radix(cells.get(at)?, 16).ok()?.swap_bytes());
        let flags = u32::from_str_radix(cells.get(3)?, 16).ok()?;
        let device = (*cells.first()?).to_owned();
        let route = Route {
            device,
            to: address(1)?,
            mask: address(7)?,
            metric: cells.get(6)?.parse().ok()?,
        };
        (flags & ROUTE_UP != 0).then_some(route)
    }

    fn is_default(&self) -> bool {
        self.to == 0 && self.mask == 0
    }

    fn leads_to(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask == self.to
    }
}

/// The machine's own addresses, of `/proc/net/fib_trie`.
fn local_addresses(trie: &str) -> Vec<Ipv4Addr> {
    let mut found: Vec<Ipv4Addr> = Vec::new();
    let mut last = None;
    for line in trie.lines() {
        let line = line.trim_start_matches([' ', '|', '+', '-']);
        if line.starts_with("/32 host LOCAL") {
            found.extend(last.filter(|it: &Ipv4Addr| !it.is_loopback() && !found.contains(it)));
        } else {
            last = line.split('/').next().and_then(|text| text.trim().parse().ok());
        }
    }
    found
}

/// Those of an interface, of `/proc/net/if_inet6`, without those of the link.
fn addresses6(text: &str, device: &str) -> Vec<String> {
    let of = |line: &str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let number = u128::from_str_radix(cells.first()?, 16).ok()?;
        let address = std::net::Ipv6Addr::from(number);
        let is_it = *cells.get(5)? == device && !address.is_unicast_link_local();
        is_it.then(|| address.to_string())
    };
    text.lines().filter_map(of).collect()
}

/// Whether the kernel shows itself there.
pub async fn is_here(world: &World, root: &Path) -> bool {
    world.read(root.join("proc/uptime"), MOST_BYTES).await.is_ok()
}
