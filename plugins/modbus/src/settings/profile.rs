//! A profile: the registers of a kind of device, in a file of its own, and how a node takes them in.
//!
//! What is taken in stands in the settings of the node from then on, as if its author had written it, and keeps
//! the place that it has in the file. So there is one check of registers, and one reader.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use forebay_sdk::{
    Finding, Period, Taken,
    finding::{nearest, quoted},
    rules::SETTING_VALUE,
    schema_of,
    yaml::{self, Content, Entry, Yaml},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{kind::Kind, register::RegisterSettings, sink::PointSettings};
use crate::decode::Order;

/// The registers of a kind of device.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "most of it is only checked, and taken from the tree")]
struct ProfileSettings {
    /// What device it is for, in one sentence.
    summary: Option<String>,
    /// Where each fact comes from.
    #[serde(default)]
    source: Vec<String>,
    /// In how many sources of their own the facts were found.
    checked: Option<Checked>,
    /// What holds for each register that says nothing else.
    defaults: Option<Defaults>,
    /// Names for several registers, for `only`.
    #[serde(default)]
    groups: BTreeMap<String, Vec<String>>,
    /// What a source reads.
    #[serde(default)]
    registers: Vec<RegisterSettings>,
    /// What a sink may write.
    #[serde(default)]
    writable: Vec<PointSettings>,
    /// The most registers in one request, unless the source says otherwise.
    #[schemars(range(min = 1, max = 125))]
    max_registers: Option<u16>,
    /// The most registers that are read in vain, unless the source says otherwise.
    #[schemars(range(max = 124))]
    max_gap: Option<u16>,
    /// Asks for each value by itself, unless the source says otherwise.
    one_by_one: Option<bool>,
    /// Reads coils and discrete inputs from 0 on, unless the source says otherwise.
    bits_from_zero: Option<bool>,
    /// How long the device loses what comes after a connection was opened: what the connection should have as
    /// `after_connect`.
    after_connect: Option<Period>,
}

/// In how many sources of their own facts were found.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Checked {
    Once,
    Twice,
}

/// What holds for each register that says nothing else.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only checked, and taken from the tree")]
struct Defaults {
    /// What registers hold, but for those of which a `bit` is taken.
    kind: Option<Kind>,
    /// The order of bytes.
    order: Option<Order>,
    /// The SunSpec models, in which addresses count.
    #[schemars(length(min = 1))]
    sunspec: Option<Vec<u16>>,
}

/// JSON Schema of the file.
pub fn profile_schema() -> Value {
    SCHEMA.clone()
}

/// Gives a source the registers of a profile.
pub fn to_source(taken: Taken<'_>, settings: &mut Yaml, findings: &mut Vec<Finding>) {
    take_in(taken, REGISTERS, settings, findings);
}

/// Gives a sink what may be written of a profile.
pub fn to_sink(taken: Taken<'_>, settings: &mut Yaml, findings: &mut Vec<Finding>) {
    take_in(taken, WRITABLE, settings, findings);
}

/// All registers of a profile as a source has them, those included that may be written. None when it is none.
pub fn registers_of(
    profile: &Yaml,
    subject: &str,
    findings: &mut Vec<Finding>,
) -> Option<Vec<RegisterSettings>> {
    yaml::read::<ProfileSettings>(profile, &SCHEMA, subject, findings)?;
    let of = |list| profile.get(list).map(items).unwrap_or_default();
    let whole = |register| completed(register, register, profile.get("defaults"));
    let (readable, writable) = (schema_of::<RegisterSettings>(), schema_of::<PointSettings>());
    let mut registers: Vec<RegisterSettings> = Vec::new();
    for register in of(REGISTERS) {
        registers.push(yaml::read(&whole(register), &readable, subject, findings)?);
    }
    for point in of(WRITABLE) {
        let point: PointSettings = yaml::read(&whole(point), &writable, subject, findings)?;
        if registers.iter().all(|register| register.name != point.name) {
            registers.push(point.register());
        }
    }
    Some(registers)
}

const REGISTERS: &str = "registers";
const WRITABLE: &str = "writable";
/// Those that say where a register is.
const TABLES: [&str; 5] = ["holding", "input", "coil", "discrete", "register"];
/// What a profile knows of how its device is read, and of how it is asked for anything.
const OF_READS: [&str; 4] = ["max_registers", "max_gap", "one_by_one", "bits_from_zero"];
const OF_ALL: [&str; 1] = ["after_connect"];

static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<ProfileSettings>);

/// Puts the registers of one list of a profile into the settings, below those of the same names that
/// stand there.
fn take_in(taken: Taken<'_>, list: &str, settings: &mut Yaml, findings: &mut Vec<Finding>) {
    let Taken { name, span, profile } = taken;
    let subject = format!("profile `{name}`");
    let Some(read) = yaml::read::<ProfileSettings>(profile, &SCHEMA, &subject, findings) else {
        return;
    };
    let offered = profile.get(list).map(items).unwrap_or_default();
    if offered.is_empty() {
        let verb = if list == REGISTERS { "read" } else { "write" };
        let message = format!("profile `{name}` has nothing to {verb}");
        let label = format!("expected one with a list `{list}`");
        findings.push(Finding::error(&SETTING_VALUE, span, message, label));
        return;
    }
    findings.extend(unknown_members(profile, &read));
    let own = settings.get(REGISTERS).map(items).unwrap_or_default();
    let before = findings.len();
    let mut wanted = wanted(settings, &read.groups, offered, name, findings);
    if findings.len() > before {
        return;
    }
    if let Some(wanted) = &mut wanted {
        wanted.extend(own.iter().filter_map(name_of));
        let factors = offered.iter().filter(|register| is_in(wanted, register));
        let factors: Vec<&str> =
            factors.filter_map(|register| register.get("scale_by")?.text()).collect();
        wanted.extend(factors);
    }
    let defaults = profile.get("defaults");
    let chosen = offered
        .iter()
        .filter(|register| wanted.as_ref().is_none_or(|wanted| is_in(wanted, register)));
    let mut registers: Vec<Yaml> = chosen
        .map(|register| {
            let same = own.iter().find(|own| name_of(own) == name_of(register));
            completed(same.unwrap_or(register), register, defaults)
        })
        .collect();
    let offered: BTreeSet<&str> = offered.iter().filter_map(name_of).collect();
    registers.extend(own.iter().filter(|own| !is_in(&offered, own)).cloned());

    let Content::Map(entries) = &mut settings.content else { return };
    let content = Content::List(registers);
    match entries.iter_mut().find(|entry| entry.key == REGISTERS) {
        Some(entry) => entry.value.content = content,
        None => {
            let value = Yaml { span, content };
            entries.push(Entry { key: REGISTERS.to_owned(), key_span: span, value });
        }
    }
    for key in OF_READS.into_iter().filter(|_| list == REGISTERS).chain(OF_ALL) {
        if entries.iter().all(|entry| entry.key != key) {
            entries.extend(profile.entry(key).cloned());
        }
    }
}

/// Registers that groups name and that are not there.
fn unknown_members(profile: &Yaml, read: &ProfileSettings) -> Vec<Finding> {
    let registers = read.registers.iter().map(|register| register.name.as_str());
    let writable = read.writable.iter().map(|register| register.name.as_str());
    let names: BTreeSet<&str> = registers.chain(writable).collect();
    let members = read.groups.iter().flat_map(|(group, members)| {
        members.iter().enumerate().map(move |(index, name)| (group, index, name))
    });
    members
        .filter(|(_, _, name)| !names.contains(name.as_str()))
        .map(|(group, index, name)| {
            let message = format!("group `{group}` has `{name}`, and there is no such register");
            let span = profile.at(&format!("groups.{group}[{index}]")).span;
            Finding::error(&SETTING_VALUE, span, message, "expected the `name` of a register")
        })
        .collect()
}

fn items(list: &Yaml) -> &[Yaml] {
    match &list.content {
        Content::List(items) => items,
        Content::Map(_) | Content::Scalar(_) => &[],
    }
}

fn name_of(register: &Yaml) -> Option<&str> {
    register.get("name")?.text()
}

fn is_in(names: &BTreeSet<&str>, register: &Yaml) -> bool {
    name_of(register).is_some_and(|name| names.contains(name))
}

/// The names that `only` asks for. None for all of them.
fn wanted<'a>(
    settings: &'a Yaml,
    groups: &'a BTreeMap<String, Vec<String>>,
    offered: &'a [Yaml],
    profile: &str,
    findings: &mut Vec<Finding>,
) -> Option<BTreeSet<&'a str>> {
    let only = settings.get("only").map(items).filter(|only| !only.is_empty())?;
    let own = settings.get(REGISTERS).map(items).unwrap_or_default();
    let names: BTreeSet<&str> = offered.iter().chain(own).filter_map(name_of).collect();
    let mut wanted = BTreeSet::new();
    for entry in only {
        // What is no text is reported with the settings.
        let Some(name) = entry.text() else { continue };
        if let Some(group) = groups.get(name) {
            wanted.extend(group.iter().map(String::as_str));
        } else if names.contains(name) {
            wanted.insert(name);
        } else {
            let message =
                format!("profile `{profile}` has neither a register nor a group `{name}`");
            let finding = Finding::error(&SETTING_VALUE, entry.span, message, "");
            let known = || groups.keys().map(String::as_str).chain(names.iter().copied());
            findings.push(match nearest(name, known()) {
                Some(near) => finding.edit("one with a similar name exists", entry.span, near),
                None if groups.is_empty() => {
                    finding.help(format!("registers are {}", quoted(known())))
                }
                None => finding
                    .help(format!("groups are {}", quoted(groups.keys().map(String::as_str)))),
            });
        }
    }
    Some(wanted)
}

/// A register with all that another of the same name, and the defaults, say beyond it.
fn completed(register: &Yaml, other: &Yaml, defaults: Option<&Yaml>) -> Yaml {
    let mut register = register.clone();
    let is_placed = TABLES.iter().any(|table| register.get(table).is_some());
    let Content::Map(entries) = &mut register.content else { return register };
    for entry in other.entries().unwrap_or_default() {
        let is_moved = is_placed && TABLES.contains(&&*entry.key);
        if !is_moved && entries.iter().all(|own| own.key != entry.key) {
            entries.push(entry.clone());
        }
    }
    let is_bit =
        ["bit", "coil", "discrete"].iter().any(|key| entries.iter().any(|e| e.key == *key));
    for entry in defaults.and_then(Yaml::entries).unwrap_or_default() {
        let fits = !is_bit || entry.key != "kind";
        if fits && entries.iter().all(|own| own.key != entry.key) {
            entries.push(entry.clone());
        }
    }
    register
}
