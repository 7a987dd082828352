//! What one message costs: `cargo bench -p forebay-script`.

use std::hint::black_box;

use forebay_sdk::{Emitter, Format, Input, Message, Node, Payload, testing};
use tokio::time::Instant;

const MESSAGES: u32 = 200_000;

/// Ten fields, 150 bytes.
const READING: &str = r#"{"flow_temp":71.25,"return_temp":52.5,"power":18.4,"energy":10452,"state":"run","pump":true,"valve":63,"alarm":0,"serial":"A-10","pressure":1.42}"#;

/// The name of each case, and its script. Reads three fields and makes four, or changes one.
const SCRIPTS: [(&str, &str); 7] = [
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
    ("a count kept", "state.n = (state.n ?? 0) + 1; msg.payload.n = state.n; msg"),
    ("a value kept by topic", "state[msg.topic] = msg.payload.power; msg"),
    ("one field changed, whole", "let p = msg.payload; p.power *= 1000; msg.payload = p; msg"),
];

fn main() {
    // One case, and fewer messages, for who counts instructions.
    let number = |text: String| text.parse().expect("a number of messages");
    let messages = std::env::var("MESSAGES").map_or(MESSAGES, number);
    let only = std::env::var("ONLY").ok();
    let plugin = forebay_script::plugin();
    for (case, script) in SCRIPTS {
        if only.as_ref().is_some_and(|only| only != case) {
            continue;
        }
        let settings = format!("script: '{script}'");
        let Node::Transform(mut node) = testing::build(&*plugin.types[0], &settings, None) else {
            panic!("a script is a transform");
        };
        let mut out = Emitter::default();
        let from = "meter".into();
        let start = Instant::now();
        for _ in 0..messages {
            let message = Message::new("site/a", Payload::encoded(READING, Format::Json));
            let input = Input { message, from: std::sync::Arc::clone(&from) };
            node.apply(input, &mut out).expect("the script is right");
            for (_, envelope) in out.drain() {
                black_box(envelope.message.payload.to_bytes(Format::Json));
            }
        }
        println!("{case:26} {:>6} ns", start.elapsed().as_nanos() / u128::from(messages));
    }
}
