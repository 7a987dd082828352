//! What one message costs: `cargo bench -p forebay-script`.

use std::hint::black_box;

use forebay_script::PLUGIN;
use forebay_sdk::{Emitter, Format, Message, Node, Payload, testing};
use tokio::time::Instant;

const MESSAGES: u32 = 200_000;

/// Ten fields, 150 bytes.
const READING: &str = r#"{"flow_temp":71.25,"return_temp":52.5,"power":18.4,"energy":10452,"state":"run","pump":true,"valve":63,"alarm":0,"serial":"A-10","pressure":1.42}"#;

/// The name of each case, and its script. Reads three fields and makes four, or changes one.
const SCRIPTS: [(&str, &str); 5] = [
    ("passed on", "msg"),
    (
        "fields in use",
        "let p = msg.payload.power; msg.payload = #{ rise: msg.payload.flow_temp - msg.payload.return_temp, power: p, \
         hot: msg.payload.flow_temp > 80.0, site: `a` }; msg",
    ),
    (
        "whole payload",
        "let p = msg.payload; msg.payload = #{ rise: p.flow_temp - p.return_temp, power: p.power, \
         hot: p.flow_temp > 80.0, site: `a` }; msg",
    ),
    ("one field changed", "msg.payload.power *= 1000; msg"),
    ("one field changed, whole", "let p = msg.payload; p.power *= 1000; msg.payload = p; msg"),
];

fn main() {
    for (case, script) in SCRIPTS {
        let settings = format!("script: '{script}'");
        let Node::Transform(mut node) = testing::build(PLUGIN.types[0], &settings, None) else {
            panic!("a script is a transform");
        };
        let mut out = Emitter::default();
        let start = Instant::now();
        for _ in 0..MESSAGES {
            let payload = Payload::encoded(READING, Format::Json);
            node.apply(Message::new("site/a", payload), &mut out).expect("the script is right");
            for (_, message) in out.drain() {
                black_box(message.payload.to_bytes(Format::Json));
            }
        }
        println!("{case:26} {:>6} ns", start.elapsed().as_nanos() / u128::from(MESSAGES));
    }
}
