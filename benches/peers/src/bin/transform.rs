//! The transform of the comparison, without a network: by transforms of Forebay, and in plain Rust.
//!
//! `case=value messages=100000 rounds=5` prints the nanoseconds per message of each round.

use std::{hint::black_box, sync::Arc, time::Instant};

use anyhow::bail;
use forebay_peers::{arguments::Arguments, reading};
use forebay_sdk::{Emitter, Format, Input, Message, Node, Payload, Plugin, testing};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Reading {
    seq: u64,
    sent: u64,
    flow_temp: f64,
    return_temp: f64,
}

#[derive(Serialize)]
struct Summary {
    seq: u64,
    sent: u64,
    rise: f64,
    hot: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let messages: u64 = arguments.get("messages")?;
    let rounds: u32 = arguments.get_or("rounds", 1)?;
    let text = reading::text(0);
    let mut work: Box<dyn FnMut()> = match arguments.get::<String>("case")?.as_str() {
        "script" => {
            let path: String = arguments.get("settings")?;
            let settings = json!({ "script": std::fs::read_to_string(path)? }).to_string();
            by_node(&forebay_script::plugin(), &settings, text)?
        }
        "map" => {
            let path: String = arguments.get("settings")?;
            by_node(&forebay_map::plugin(), &std::fs::read_to_string(path)?, text)?
        }
        "value" => Box::new(move || by_value(&text)),
        "struct" => Box::new(move || by_struct(&text)),
        "print" => {
            println!("{text}");
            return Ok(());
        }
        other => bail!("no case is named {other}"),
    };
    for _ in 0..rounds {
        let start = Instant::now();
        (0..messages).for_each(|_| work());
        println!("{:.1}", start.elapsed().as_nanos() as f64 / messages as f64);
    }
    Ok(())
}

/// As the engine calls it, from bytes to bytes.
fn by_node(plugin: &Plugin, settings: &str, text: String) -> anyhow::Result<Box<dyn FnMut()>> {
    let Node::Transform(mut node) = testing::build(&*plugin.types[0], settings, None) else {
        bail!("`{}` is no transform", plugin.name);
    };
    let (mut out, from) = (Emitter::default(), Arc::from("bench"));
    Ok(Box::new(move || {
        let payload = Payload::encoded(text.clone(), Format::Json);
        let input = Input { message: Message::new("bench/in", payload), from: Arc::clone(&from) };
        node.apply(input, &mut out).expect("the settings are right");
        for (_, envelope) in out.drain() {
            black_box(envelope.message.payload.to_bytes(Format::Json));
        }
    }))
}

/// Any JSON in, as a script that is not known beforehand must take it.
fn by_value(text: &str) {
    let text = text.to_owned();
    let value: Value = serde_json::from_str(&text).expect("the template is JSON");
    let (flow, back) = (value["flow_temp"].as_f64(), value["return_temp"].as_f64());
    let (flow, back) = (flow.expect("a number"), back.expect("a number"));
    let summary = json!({ "seq": value["seq"], "sent": value["sent"], "rise": flow - back, "hot": flow > 80.0 });
    black_box(serde_json::to_vec(&summary).expect("a value is JSON"));
}

/// Known fields only: nothing that takes any JSON can be as fast.
fn by_struct(text: &str) {
    let text = text.to_owned();
    let reading: Reading = serde_json::from_str(&text).expect("the template is JSON");
    let summary = Summary {
        seq: reading.seq,
        sent: reading.sent,
        rise: reading.flow_temp - reading.return_temp,
        hot: reading.flow_temp > 80.0,
    };
    black_box(serde_json::to_vec(&summary).expect("a struct is JSON"));
}
