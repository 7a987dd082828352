//! Profiles against their register images: what a device of that kind holds, in hexadecimal, and what must
//! become of it.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use forebay_sdk::{
    Message, testing,
    yaml::{self, Content, Limits, Yaml},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Rig, URL, device, next, peer, writing::Bench};
use crate::{
    block::{Block, Table},
    bus::Bus,
    plan::{self, plan},
    profiles,
    source::ModbusSource,
    sunspec,
};

/// What stands in the file of an image.
struct Image {
    /// By function and address.
    registers: BTreeMap<(u8, u16), u16>,
    values: Value,
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles"))
}

fn tree(file: &Path) -> Yaml {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    yaml::parse(&text, 0, Limits::default(), &mut Vec::new()).unwrap()
}

impl Image {
    fn of(file: &Path) -> Image {
        let tree = tree(file);
        let mut registers = BTreeMap::new();
        for (table, of) in [(Table::Holding, "holding"), (Table::Input, "input")] {
            for run in tree.get(of).and_then(Yaml::entries).unwrap_or_default() {
                let start = u16::from_str_radix(run.key.strip_prefix("0x").unwrap(), 16).unwrap();
                let words = run.value.text().unwrap().split_whitespace();
                for (address, word) in (start..).zip(words) {
                    let word = u16::from_str_radix(word, 16).unwrap();
                    registers.insert((table.read_function(), address), word);
                }
            }
        }
        Image { registers, values: tree.get("values").unwrap().to_value() }
    }
}

/// What a source makes of a device.
async fn read(image: Image, settings: &str) -> Message {
    let mut peers = JoinSet::new();
    let (memory, _) = peer(&mut peers, move |frame| Some(device(&image.registers, frame)));
    let mut rig = Rig::new(&memory, "");
    next(&mut rig.source(&format!("every: 1s\n{settings}"))).await
}

#[tokio::test(start_paused = true)]
async fn every_profile_reads_its_image_as_the_values_beside_it() {
    let mut seen = BTreeSet::new();
    let files = fs::read_dir(folder().join("images")).unwrap();
    for file in files.map(|entry| entry.unwrap().path()) {
        // A device may be of several kinds: `sunspec-meter.float.yaml`.
        let name = file.file_name().unwrap().to_str().unwrap();
        let profile = name.split('.').next().unwrap();
        seen.insert(profile.to_owned());
        let image = Image::of(&file);
        let values = image.values.clone();
        let message = read(image, &format!("profile: {profile}")).await;
        let found = message.payload.value().unwrap();
        let (found, wanted) = (found.as_object().unwrap(), values.as_object().unwrap());
        for (value, wanted_value) in wanted {
            let value_found = found.get(value);
            assert_eq!(value_found, Some(wanted_value), "{name}: {value} ({:?})", message.meta);
        }
        let surplus: Vec<&String> = found.keys().filter(|key| !wanted.contains_key(*key)).collect();
        assert_eq!(surplus, <[&String; 0]>::default(), "{name}: values without an image");
    }
    assert!(seen.iter().eq(profiles::names()), "a profile without an image: {seen:?}");
}

/// The files of the folder, and nothing else, are compiled in; each says where its facts come from.
#[test]
fn every_profile_is_listed_and_says_where_its_facts_come_from() {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, profiles::names());
    for profile in &profiles::NATIVE {
        let name = profile.name;
        assert!(profile.summary().ends_with('.'), "{name}: no summary in its first line");
        let tree = tree(&folder().join(format!("{name}.yaml")));
        assert!(tree.get("checked").is_some(), "{name}");
        let Some(Content::List(sources)) = tree.get("source").map(|source| &source.content) else {
            panic!("{name}: no source");
        };
        assert!(!sources.is_empty(), "{name}");
        // What stands nowhere in the text of a message has no unit there, either.
        assert!(tree.get("registers").is_some(), "{name}");
    }
}

/// `UPDATE=1` writes it anew.
#[test]
fn the_table_of_profiles_in_the_readme_is_fresh() {
    const BEGIN: &str = "<!-- profiles -->\n";
    const END: &str = "<!-- /profiles -->";
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = fs::read_to_string(file).unwrap();
    let (front, rest) = readme.split_once(BEGIN).unwrap();
    let (_, back) = rest.split_once(END).unwrap();
    let mut table =
        "| profile | device | values | source | checked |\n|---|---|---|---|---|\n".to_owned();
    for profile in &profiles::NATIVE {
        let tree = tree(&folder().join(format!("{}.yaml", profile.name))).to_value();
        let list = |key: &str| tree[key].as_array().cloned().unwrap_or_default();
        let shown = list("registers").into_iter().filter(|register| register["hidden"] != true);
        let names: BTreeSet<String> = shown.map(|register| register["name"].to_string()).collect();
        let writes = list("writable").len();
        let values = match writes {
            0 => format!("{}", names.len()),
            writes => format!("{}, {writes} to write", names.len()),
        };
        let sources = list("source");
        let sources: Vec<&str> = sources.iter().filter_map(Value::as_str).collect();
        let (name, summary) = (profile.name, profile.summary().trim_end_matches('.'));
        let checked = tree["checked"].as_str().unwrap();
        table +=
            &format!("| `{name}` | {summary} | {values} | {} | {checked} |\n", sources.join("; "));
    }
    let fresh = format!("{front}{BEGIN}{table}{END}{back}");
    if std::env::var_os("UPDATE").is_some() && fresh != readme {
        fs::write(file, fresh).unwrap();
    } else {
        assert_eq!(readme, fresh, "README.md is stale; UPDATE=1 rewrites it");
    }
}

/// As long as the device answers for what stands between its registers.
#[test]
fn a_profile_of_many_registers_is_a_few_requests() {
    let bus = testing::configure(&crate::connection(), URL).unwrap();
    let bus = (&*bus as &dyn Any).downcast_ref::<Bus>().unwrap();
    let mut counted = Vec::new();
    for profile in &profiles::NATIVE {
        let text = format!("every: 1s\nprofile: {}", profile.name);
        let source = testing::configure(&crate::source(), &text).unwrap();
        let source = (&*source as &dyn Any).downcast_ref::<ModbusSource>().unwrap();
        let (fields, _) = sunspec::assume(&source.reading.fields);
        let blocks: Vec<Block> = fields.iter().map(|field| field.block).collect();
        let requests =
            plan(&blocks, &plan::Limits::of(source.reading.merging), |block| bus.cost(block));
        counted.push((profile.name, requests.len()));
    }
    assert!(counted.iter().all(|(_, requests)| *requests <= 5), "{counted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sink_with_a_profile_writes_within_its_limits_and_nothing_else() {
    let settings = "profile: victron-gx
only: [ess_setpoint, ess_minimum_soc, relay_1]
registers: [{ name: ess_setpoint, min: -3000, max: 3000 }]";
    let mut bench = Bench::of(&crate::sink(), settings);
    bench.answer(json!({ "ess_setpoint": -250, "ess_minimum_soc": 27.5 })).await;
    assert_eq!(bench.writes(), [vec![6, 0x0A, 0x8C, 0xFF, 0x06], vec![6, 0x0B, 0x55, 0x01, 0x13]]);
    for (payload, says) in [
        (json!({ "ess_setpoint": 3001 }), "writing `ess_setpoint`: expected at most 3000"),
        (json!({ "ess_minimum_soc": 101 }), "writing `ess_minimum_soc`: expected at most 100"),
        (json!({ "relay_1": 2 }), "writing `relay_1`: expected one of [0,1], found 2"),
        (json!({ "relay_2": 1 }), "`relay_2` is not among the `registers` of this sink"),
        (json!({ "battery_soc": 1 }), "`battery_soc` is not among the `registers` of this sink"),
    ] {
        let error = bench.refusal(payload.clone()).await;
        assert!(error.starts_with(says), "{payload}: {error}");
    }
}
