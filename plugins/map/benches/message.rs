//! What one message costs: `cargo bench -p forebay-map`.

use std::hint::black_box;

use forebay_sdk::{Emitter, Format, Input, Message, Node, Payload, testing};
use tokio::time::Instant;

const MESSAGES: u32 = 200_000;

/// Ten fields, 150 bytes.
const READING: &str = r#"{"flow_temp":71.25,"return_temp":52.5,"power":18.4,"energy":10452,"state":"run","pump":true,"valve":63,"alarm":0,"serial":"A-10","pressure":1.42}"#;

/// The name of each case, and its settings.
const MAPS: [(&str, &str); 4] = [
    ("topic", "topic: site/b"),
    (
        "fields",
        "{fields: {power_kw: {from: power, scale: 0.001}, flow: flow_temp, site: {value: a}, \
         energy: energy}, rest: drop}",
    ),
    (
        "fields, rest kept",
        "fields: {power_kw: {from: power, scale: 0.001}, flow: flow_temp, site: {value: a}}",
    ),
    ("fields removed", "remove: [serial, alarm]"),
];

fn main() {
    // One case, and fewer messages, for who counts instructions.
    let number = |text: String| text.parse().expect("a number of messages");
    let messages = std::env::var("MESSAGES").map_or(MESSAGES, number);
    let only = std::env::var("ONLY").ok();
    let plugin = forebay_map::plugin();
    for (case, settings) in MAPS {
        if only.as_ref().is_some_and(|only| only != case) {
            continue;
        }
        let Node::Transform(mut node) = testing::build(&*plugin.types[0], settings, None) else {
            panic!("a map is a transform");
        };
        let mut out = Emitter::default();
        let from = "meter".into();
        let start = Instant::now();
        for _ in 0..messages {
            let message = Message::new("site/a", Payload::encoded(READING, Format::Json));
            let input = Input { message, from: std::sync::Arc::clone(&from) };
            node.apply(input, &mut out).expect("a payload that fits");
            for (_, envelope) in out.drain() {
                black_box(envelope.message.payload.to_bytes(Format::Json));
            }
        }
        println!("{case:26} {:>6} ns", start.elapsed().as_nanos() / u128::from(messages));
    }
}
