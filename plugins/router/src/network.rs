//! The interfaces of a router, and over which of them it reaches the internet. Pure.

use serde_json::{Map, Value};

use crate::figures::{Figures, Said, truth};

/// One interface, as it is called in messages, and what is said of it.
struct Interface<'a> {
    name: String,
    says: Figures<'a>,
}

/// The interfaces without those that are only the addresses of another one, and without the loopback.
fn real(rows: &Value) -> Vec<Interface<'_>> {
    let mut all = Vec::new();
    let list: Vec<(Option<&String>, &Value)> = match rows {
        Value::Array(list) => list.iter().map(|row| (None, row)).collect(),
        Value::Object(map) => map.iter().map(|(name, row)| (Some(name), row)).collect(),
        _ => Vec::new(),
    };
    for (key, row) in list {
        let says = Figures::of(row);
        let name = says.text(&["id", "interface", "name", "ifname"]).or_else(|| key.cloned());
        if let Some(name) = name.filter(|name| name != "loopback" && name != "lo") {
            all.push(Interface { name, says });
        }
    }
    all
}

/// Of the interfaces, those that count by themselves: `mob1s1a1_4` has the counters of `mob1s1a1`.
fn is_part(name: &str, all: &[Interface<'_>]) -> bool {
    let base = name.strip_suffix("_4").or_else(|| name.strip_suffix("_6"));
    base.is_some_and(|base| all.iter().any(|other| other.name == base))
}

impl Interface<'_> {
    fn is_up(&self) -> Option<bool> {
        self.says.truth(&["up", "is_up", "status", "state"])
    }

    fn kind(&self) -> &'static str {
        let says = |names: &[&str]| self.says.text(names).unwrap_or_default().to_ascii_lowercase();
        let kind = says(&["network_type", "type", "typename"]);
        let proto = says(&["proto"]);
        let device = says(&["l3_device", "device", "ifname"]);
        let is_mobile = self.name.starts_with("mob")
            || ["mobile", "wwan", "cellular", "lte"].iter().any(|word| kind.contains(word))
            || ["wwan", "qmi", "mbim", "ncm", "connm", "3g", "modemmanager"].contains(&&*proto)
            || ["wwan", "qmimux", "rmnet", "usb", "ppp"].iter().any(|it| device.starts_with(it));
        let is_wifi = ["wifi", "wi-fi", "wireless", "wlan"].iter().any(|word| kind.contains(word))
            || self.name.contains("wifi")
            || device.starts_with("wlan");
        let is_tunnel = ["wireguard", "openvpn", "gre", "l2tp", "pptp"].contains(&&*proto)
            || ["wg", "tun", "tap", "tailscale", "zt"].iter().any(|it| device.starts_with(it));
        if is_tunnel {
            "vpn"
        } else if is_mobile {
            "mobile"
        } else if is_wifi {
            "wifi"
        } else {
            "wired"
        }
    }

    fn leads_out(&self) -> bool {
        let area = self.says.text(&["area_type", "zone"]);
        match area.as_deref() {
            Some(area) => area == "wan",
            None => {
                let names = ["wan", "mob"];
                names.iter().any(|it| self.name.starts_with(it)) || self.has_default_route()
            }
        }
    }

    fn has_default_route(&self) -> bool {
        self.says.list(&["route"]).iter().any(|route| {
            let route = Figures::of(route);
            let is_all = matches!(route.text(&["target"]).as_deref(), Some("0.0.0.0" | "::"));
            is_all && route.count(&["mask"]).unwrap_or(0) == 0
        })
    }

    /// The router says that this one is used, by whether its failover finds that it leads anywhere.
    fn is_used(&self) -> bool {
        self.says.truth(&["main"]) == Some(true)
    }

    /// It is up, and has an address, and leads nowhere.
    fn is_dead(&self) -> bool {
        self.says.text(&["mwan"]).is_some_and(|state| state == "offline")
    }

    fn addresses(&self) -> Vec<String> {
        let lists = ["ipaddrs", "ip6addrs", "ipv4-address", "ipv6-address", "addresses"];
        let mut found: Vec<String> = Vec::new();
        for value in lists.iter().flat_map(|name| self.says.list(&[name])) {
            let text = match value {
                Value::String(text) => Some(text.clone()),
                other => Figures::of(other).text(&["address"]),
            };
            let text = text.or_else(|| self.says.text(&["ipaddr"]));
            let text = text.map(|text| text.split('/').next().unwrap_or_default().to_owned());
            found.extend(text.filter(|text| text.parse::<std::net::IpAddr>().is_ok()));
        }
        found.dedup();
        found
    }

    /// Itself, and the parts of it.
    fn whole<'b>(&'b self, all: &'b [Interface<'b>]) -> impl Iterator<Item = &'b Interface<'b>> {
        let parts = ["_4", "_6"].map(|suffix| format!("{}{suffix}", self.name));
        let parts = parts.into_iter().filter_map(|part| all.iter().find(|it| it.name == part));
        std::iter::once(self).chain(parts)
    }

    /// Its own addresses, and those of the parts of it.
    fn all_addresses(&self, all: &[Interface<'_>]) -> Vec<String> {
        let mut found = Vec::new();
        for address in self.whole(all).flat_map(Interface::addresses) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        found
    }
}

/// The group `wan`.
pub fn wan(rows: &Value, internet: Option<&Value>) -> Option<Value> {
    let all = real(rows);
    if all.is_empty() {
        return None;
    }
    let is_way =
        |it: &&Interface<'_>| it.whole(&all).any(Interface::leads_out) && !is_part(&it.name, &all);
    let ways: Vec<_> = all.iter().filter(is_way).collect();
    let is_usable = |it: &&Interface<'_>| {
        let is_dead = it.whole(&all).any(Interface::is_dead);
        it.is_up() == Some(true) && !is_dead && !it.all_addresses(&all).is_empty()
    };
    // The lowest metric goes first; without one, the order of the router.
    let metric = |it: &&Interface<'_>| it.says.count(&["metric"]).unwrap_or(u64::MAX);
    let told = ways.iter().copied().find(|it| it.whole(&all).any(Interface::is_used));
    let used = told.or_else(|| ways.iter().copied().filter(is_usable).min_by_key(metric));
    // Whether there is none is known only where it is said of each that it is down, or has no address.
    let is_known = ways.iter().all(|it| it.is_up().is_some());
    let mut said = Said::default();
    let none = is_known.then_some("none");
    said.put("kind", used.map(Interface::kind).or(none));
    said.put("interface", used.map(|it| it.name.clone()));
    said.put("addresses", used.map(|it| it.all_addresses(&all)));
    said.put("uptime", used.and_then(|it| it.says.count(&["uptime"])));
    let internet = internet.map(Figures::of);
    let of = |name| internet?.get(&[name]).and_then(truth);
    let (v4, v6) = (of("ipv4_status"), of("ipv6_status"));
    let is_there = match (v4, v6) {
        (None, None) => None,
        _ => Some(v4 == Some(true) || v6 == Some(true)),
    };
    said.put("internet", is_there);
    said.put("dns", of("dns_status"));
    said.done()
}

/// The group `interfaces`: each by its name.
pub fn interfaces(rows: &Value) -> Option<Value> {
    let all = real(rows);
    let mut map = Map::new();
    for it in all.iter().filter(|it| !is_part(&it.name, &all)) {
        let mut said = Said::default();
        said.put("up", it.is_up());
        said.put("kind", Some(it.kind()));
        let addresses = it.all_addresses(&all);
        said.put("addresses", (!addresses.is_empty()).then_some(addresses));
        said.put("down_bytes", it.says.count(&["rx_bytes"]));
        said.put("up_bytes", it.says.count(&["tx_bytes"]));
        said.put("uptime", it.says.count(&["uptime"]));
        map.insert(it.name.clone(), said.0.into());
    }
    (!map.is_empty()).then(|| map.into())
}
