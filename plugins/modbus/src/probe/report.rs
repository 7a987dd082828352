//! What was seen of a device: for people, for programs, and as a pipeline to paste.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::{Value, json};

use super::{
    guess::{Guess, ORDERS, Seen, guess, wide},
    kinds::{Shown, order_name},
    look::Found,
};
use crate::{block::Table, decode::Order, settings::table_setting};

/// All that was seen.
pub struct Report {
    pub url: String,
    /// Whether its answers had other transactions than were asked with.
    pub ignores_transaction: bool,
    /// Each unit that was asked, and why it does not answer.
    pub units: Vec<(u8, Result<(), String>)>,
    /// Whether units answered that nobody asked for one by one, as over TCP.
    pub answers_all: bool,
    /// What units say of themselves, by the numbers of the objects.
    pub identities: Vec<(u8, BTreeMap<u8, String>)>,
    pub tables: Vec<(u8, Table, Found)>,
    /// What is shown beside the usual kinds.
    pub kinds: Vec<Shown>,
    pub took: Vec<Duration>,
    pub requests: usize,
    pub bytes: (u64, u64),
    /// Why it is not all.
    pub cut: Option<String>,
}

const TABLES: [Table; 4] = [Table::Input, Table::Holding, Table::Coil, Table::Discrete];

impl Report {
    /// In at most 80 columns.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.url);
        let there = self.units.iter().filter(|(_, there)| there.is_ok()).map(|(unit, _)| *unit);
        let there: Vec<u16> = there.map(u16::from).collect();
        let absent = self.units.iter().filter(|(_, there)| there.is_err());
        let absent: Vec<u16> = absent.map(|(unit, _)| (*unit).into()).collect();
        line(&mut text, "units", &format!("{} answer{}", ranges(&there), s(there.len())));
        if self.answers_all {
            line(&mut text, "", "it answers as whichever unit is asked: the number means nothing");
        }
        if let Some((_, Err(why))) = self.units.iter().find(|(_, there)| there.is_err()) {
            line(&mut text, "", &format!("{}: {why}", ranges(&absent)));
        }
        for (unit, identity) in &self.identities {
            let said: Vec<&str> = identity.values().map(String::as_str).collect();
            line(&mut text, "says", &format!("unit {unit} is {}", said.join(", ")));
        }
        if let Some([least, median, most]) = self.speed() {
            let answers = self.took.len();
            line(
                &mut text,
                "speed",
                &format!("{least} to {most} ms an answer, {median} in the middle, of {answers}"),
            );
        }
        let (out, back) = self.bytes;
        let spent = format!("{} requests; {out} bytes sent, {back} received", self.requests);
        line(&mut text, "spent", &spent);
        if let Some(cut) = &self.cut {
            line(&mut text, "stopped", cut);
        }
        for (unit, table, found) in &self.tables {
            self.table(&mut text, *unit, *table, found);
        }
        text
    }

    fn table(&self, text: &mut String, unit: u8, table: Table, found: &Found) {
        let title = format!("{}s of unit {unit}", table.noun());
        let addresses: Vec<u16> = found.values.keys().copied().collect();
        let _ = writeln!(text, "\n{title}");
        if !addresses.is_empty() {
            line(text, "answers", &ranges(&addresses));
        }
        for (block, why) in &found.refused {
            let last = block.end() - 1;
            let range = format!("{}-{last}", block.start);
            line(
                text,
                "refuses",
                &format!("{}: {why}", if block.count == 1 { last.to_string() } else { range }),
            );
        }
        if addresses.is_empty() {
            return;
        }
        if table.holds_bits() {
            bits(text, found);
            return;
        }
        let seen = seen(found);
        let zeros = seen.iter().all(|seen| seen.first == 0);
        if zeros {
            text.push_str("  all of them are zero\n");
            return;
        }
        numbers(text, &seen);
        let usual = ["i32", "f32"].map(Shown::of);
        if let [Some(signed), Some(float)] = &usual {
            // Where nothing is below zero it is as above.
            signed.table_below_zero(text, &seen);
            float.table(text, &seen);
        }
        self.kinds.iter().for_each(|kind| kind.table(text, &seen));
        let guesses = guess(&seen);
        if !guesses.is_empty() {
            text.push_str("\n  what is plausible\n");
        }
        for guess in &guesses {
            let order = order_name(guess.order);
            let (value, why) = (&guess.value, &guess.why);
            let start = guess.start;
            let said = format!("  {start:>5}  {:<6} {order:<4} {value:>12}  {why}", guess.kind);
            let _ = writeln!(text, "{}", said.chars().take(80).collect::<String>());
        }
    }

    /// The least, the middle and the most, in milliseconds.
    fn speed(&self) -> Option<[u128; 3]> {
        let mut took = self.took.clone();
        took.sort_unstable();
        let (first, last) = (took.first()?, took.last()?);
        Some([first.as_millis(), took[took.len() / 2].as_millis(), last.as_millis()])
    }

    /// A pipeline that reads what was found.
    pub fn yaml(&self) -> String {
        let more = if self.ignores_transaction { ", ignore_transaction: true" } else { "" };
        let mut text = format!(
            "connections:\n  bus: {{ type: modbus, url: \"{}\"{more} }}\n\nsources:\n",
            self.url.replace('\\', "\\\\").replace('"', "\\\"")
        );
        let mut sources = Vec::new();
        let mut units: Vec<u8> = self.tables.iter().map(|(unit, ..)| *unit).collect();
        units.dedup();
        for unit in units {
            let registers = self.registers(unit);
            if registers.is_empty() {
                continue;
            }
            let name = format!("unit_{unit}");
            let _ = write!(
                text,
                "  {name}:\n    type: modbus\n    connection: bus\n    unit: {unit}\n    every: 10s\n    \
                 registers:\n{registers}"
            );
            sources.push(name);
        }
        if sources.is_empty() {
            return String::new();
        }
        let from = sources.join(", ");
        text + &format!("\nsinks:\n  print: {{ type: log, from: [{from}] }}\n")
    }

    fn registers(&self, unit: u8) -> String {
        let mut text = String::new();
        for table in TABLES {
            let of = |(of, in_table, _): &&(u8, Table, Found)| *of == unit && *in_table == table;
            let Some((_, _, found)) = self.tables.iter().find(of) else { continue };
            let key = table_setting(table);
            if table.holds_bits() {
                for (address, (bit, second)) in &found.values {
                    if *bit == 1 || second.is_some_and(|second| second != *bit) {
                        let _ =
                            writeln!(text, "      - {{ name: {key}_{address}, {key}: {address} }}");
                    }
                }
                continue;
            }
            for Guess { start, count, kind, order, value, .. } in guess(&seen(found)) {
                let _ = write!(text, "      - {{ name: {key}_{start}, {key}: {start}");
                if kind != "u16" {
                    let _ = write!(text, ", kind: {kind}");
                }
                if kind == "string" {
                    let _ = write!(text, ", length: {count}");
                }
                if order != Order::Abcd {
                    let _ = write!(text, ", order: {}", order_name(order));
                }
                let _ = writeln!(text, " }} # {value}");
            }
        }
        text
    }

    pub fn json(&self) -> Value {
        let speed = self.speed().map(|[least, median, most]| {
            json!({ "answers": self.took.len(), "min_ms": least as u64, "median_ms": median as u64,
                "max_ms": most as u64 })
        });
        let units = self.units.iter().map(|(unit, there)| {
            let says = self.identities.iter().find(|(of, _)| of == unit);
            let says = says.map(|(_, identity)| named(identity));
            json!({ "unit": unit, "answers": there.is_ok(), "why": there.as_ref().err(), "says": says })
        });
        let tables = self.tables.iter().map(|(unit, table, found)| {
            let refused = found.refused.iter().map(
                |(block, why)| json!({ "first": block.start, "last": block.end() - 1, "why": why }),
            );
            json!({
                "unit": unit,
                "table": table_setting(*table),
                "values": values(*table, found, &self.kinds),
                "refused": refused.collect::<Vec<_>>(),
            })
        });
        json!({
            "url": self.url,
            "units": units.collect::<Vec<_>>(),
            "answers_as_any_unit": self.answers_all,
            "tables": tables.collect::<Vec<_>>(),
            "speed": speed,
            "requests": self.requests,
            "bytes_sent": self.bytes.0,
            "bytes_received": self.bytes.1,
            "stopped": self.cut,
            "yaml": self.yaml(),
        })
    }
}

/// What a device says of itself, by the names of the standard.
fn named(identity: &BTreeMap<u8, String>) -> Value {
    const NAMES: [&str; 7] =
        ["vendor", "product_code", "version", "url", "product", "model", "application"];
    let name = |id: u8| {
        NAMES.get(usize::from(id)).map_or_else(|| id.to_string(), |name| (*name).to_owned())
    };
    Value::Object(identity.iter().map(|(id, said)| (name(*id), said.as_str().into())).collect())
}

fn values(table: Table, found: &Found, kinds: &[Shown]) -> Vec<Value> {
    let seen = seen(found);
    if table.holds_bits() {
        let bit = |seen: &Seen| json!({ "address": seen.address, "bool": seen.first == 1 });
        return seen.iter().map(bit).collect();
    }
    let guesses = guess(&seen);
    let each = seen.iter().enumerate().map(|(index, one)| {
        let mut value = json!({
            "address": one.address,
            "hex": format!("{:04X}", one.first),
            "u16": one.first,
            "i16": one.first as i16,
            "later": one.second,
        });
        if let Some(next) = seen.get(index + 1).filter(|next| follows(one, next)) {
            for order in ORDERS {
                let bits = wide(one.first, next.first, order);
                let name = order_name(order);
                value["u32"][&name] = bits.into();
                value["i32"][&name] = (bits as i32).into();
                value["f32"][&name] = f32::from_bits(bits).into();
            }
        }
        for kind in kinds {
            if let Some(values) = kind.values(&seen[index..]) {
                value[&kind.name] = values.into();
            }
        }
        if let Some(guess) = guesses.iter().find(|guess| guess.start == one.address) {
            value["guess"] = json!({
                "kind": guess.kind, "order": order_name(guess.order), "registers": guess.count,
                "value": guess.value, "why": guess.why,
            });
        }
        value
    });
    each.collect()
}

fn seen(found: &Found) -> Vec<Seen> {
    let one = |(address, (first, second)): (&u16, &(u16, Option<u16>))| Seen {
        address: *address,
        first: *first,
        second: *second,
    };
    found.values.iter().map(one).collect()
}

fn follows(one: &Seen, next: &Seen) -> bool {
    u32::from(next.address) == u32::from(one.address) + 1
}

fn numbers(text: &mut String, seen: &[Seen]) {
    text.push_str(
        "\n          hex   u16    i16 text   u32 ABCD       CDAB       BADC       DCBA\n",
    );
    for (index, one) in seen.iter().enumerate() {
        let letters: String = one.first.to_be_bytes().map(letter).iter().collect();
        let first = one.first;
        let _ = write!(
            text,
            "  {:>5}  {first:04X} {first:>5} {:>6} {letters:<4}",
            one.address, first as i16
        );
        if let Some(next) = seen.get(index + 1).filter(|next| follows(one, next)) {
            for order in ORDERS {
                let _ = write!(text, " {:>10}", wide(first, next.first, order));
            }
        }
        end_line(text);
    }
}

fn bits(text: &mut String, found: &Found) {
    const IN_A_ROW: usize = 16;
    let seen = seen(found);
    for row in seen.chunks(IN_A_ROW) {
        let bits: String = row.iter().map(|seen| if seen.first == 1 { '1' } else { '0' }).collect();
        let _ = writeln!(text, "  {:>5}  {bits}", row[0].address);
    }
}

fn end_line(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

fn letter(byte: u8) -> char {
    if byte.is_ascii_graphic() { char::from(byte) } else { '.' }
}

/// A fact and its name, broken at 80 columns.
fn line(text: &mut String, name: &str, said: &str) {
    const WIDTH: usize = 68;
    let mut line = String::new();
    let mut name = name;
    for word in said.split(' ') {
        if !line.is_empty() && line.chars().count() + word.chars().count() >= WIDTH {
            let _ = writeln!(text, "  {name:<9}{line}");
            (line, name) = (String::new(), "");
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    let _ = writeln!(text, "  {name:<9}{line}");
}

/// `1-3, 7`.
pub fn ranges(numbers: &[u16]) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if u32::from(*last) + 1 == u32::from(*number) => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let said = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(said).collect::<Vec<_>>().join(", ")
}

fn s(count: usize) -> &'static str {
    if count == 1 { "s" } else { "" }
}
