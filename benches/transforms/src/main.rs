//! What one message costs in each transform, from bytes to bytes, and what the same costs in plain Rust:
//! `cargo run --release --target-dir ../../target/transforms-bench`, which prints the table of `benches/results.md`.

use std::{alloc::System, collections::HashMap, hint::black_box, sync::Arc, time::Instant};

use forebay::plugins;
use forebay_sdk::{Emitter, Format, Input, Message, Node, NodeType, Payload, testing};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: usize = 50_000;
/// Rounds, of which the best counts: others work on the machine, too.
const ROUNDS: usize = 5;

/// A part of the payloads, as they stand in the messages, one after the other and again.
type Payloads = Vec<Vec<u8>>;

/// The same in plain Rust: what comes in, and what goes out.
type Plain = Box<dyn FnMut(&[u8]) -> Option<Vec<u8>>>;

struct Case {
    /// The transform, and what it does.
    name: &'static str,
    node_type: &'static str,
    settings: &'static str,
    payloads: fn() -> Payloads,
    plain: fn() -> Plain,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime starts");
    let _entered = runtime.enter();
    println!("| transform | ns | allocations | bytes allocated | plain Rust, ns | allocations |");
    println!("|---|---|---|---|---|---|");
    for case in cases() {
        let payloads = (case.payloads)();
        let ours = best(|| ours(&case, &payloads));
        let plain = best(|| plain(&case, &payloads));
        println!(
            "| {} | {} | {:.1} | {:.0} | {} | {:.1} |",
            case.name, ours.nanos, ours.allocations, ours.bytes, plain.nanos, plain.allocations
        );
    }
}

struct Cost {
    nanos: u128,
    allocations: f64,
    bytes: f64,
}

fn best(mut measure: impl FnMut() -> Cost) -> Cost {
    let rounds = (0..ROUNDS).map(|_| measure());
    rounds.min_by_key(|cost| cost.nanos).expect("there are rounds")
}

fn measured(mut once: impl FnMut(usize)) -> Cost {
    // What is made once counts for nothing.
    (0..100).for_each(&mut once);
    let region = Region::new(ALLOCATOR);
    let start = Instant::now();
    (0..MESSAGES).for_each(&mut once);
    let nanos = start.elapsed().as_nanos() / MESSAGES as u128;
    let counted = region.change();
    let each = |all: usize| all as f64 / MESSAGES as f64;
    Cost { nanos, allocations: each(counted.allocations), bytes: each(counted.bytes_allocated) }
}

fn ours(case: &Case, payloads: &Payloads) -> Cost {
    let Node::Transform(mut node) =
        testing::build(&*node_type(case.node_type), case.settings, None)
    else {
        panic!("{} is no transform", case.node_type);
    };
    let (mut out, from, topic) =
        (Emitter::default(), Arc::from("meter"), Arc::<str>::from("site/a"));
    measured(move |number| {
        // The bytes are there, as they are when a source has read them.
        let bytes = payloads[number % payloads.len()].clone();
        let message = Message::new(Arc::clone(&topic), Payload::encoded(bytes, Format::Json));
        out.begin(None);
        let input = Input { message, from: Arc::clone(&from) };
        node.apply(input, &mut out).expect("a payload that fits");
        if node.wake_at().is_some_and(|due| due <= tokio::time::Instant::now()) {
            let now = out.now();
            node.wake(now, &mut out).expect("it wakes");
        }
        for (_, envelope) in out.drain() {
            black_box(envelope.message.payload.written(Format::Json).expect("it can be written"));
        }
    })
}

fn plain(case: &Case, payloads: &Payloads) -> Cost {
    let mut plain = (case.plain)();
    measured(move |number| {
        let bytes = payloads[number % payloads.len()].clone();
        black_box(plain(&bytes));
    })
}

fn node_type(name: &str) -> Arc<dyn NodeType> {
    let types = plugins::all().into_iter().flat_map(|plugin| plugin.types);
    let mut named = types.filter(|node_type| {
        node_type.name() == name && node_type.role() == forebay_sdk::Role::Transform
    });
    named.next().expect("it is in this build")
}

/// Ten fields, 150 bytes, of 64 kinds.
fn readings() -> Payloads {
    let reading = |n: i64| {
        format!(
            r#"{{"flow_temp":{},"return_temp":52.5,"power":{},"energy":{},"state":"run","pump":true,"valve":63,"alarm":0,"serial":"A-{}","pressure":1.42}}"#,
            70 + n % 7,
            18 + n,
            10_452 + n * 3,
            n % 8
        )
        .into_bytes()
    };
    (0..64).map(reading).collect()
}

fn list_of_readings() -> Payloads {
    let readings = readings();
    let lists = readings.chunks(8).map(|chunk| {
        let items: Vec<String> =
            chunk.iter().map(|one| String::from_utf8_lossy(one).into_owned()).collect();
        format!("[{}]", items.join(",")).into_bytes()
    });
    lists.collect()
}

fn table() -> Payloads {
    vec![
        b"time,temp,hum,co2\n1,21.5,60,400\n2,21.6,61,401\n3,21.7,62,402\n4,21.8,63,403\n".to_vec(),
    ]
}

fn frame() -> Payloads {
    vec![br#""AWcBEAJoZQNzJ4g=""#.to_vec()]
}

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("it is JSON")
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or(0.0)
}

fn text(value: &Value) -> Option<Vec<u8>> {
    serde_json::to_vec(value).ok()
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "`map`: takes two fields, scales one",
            node_type: "map",
            settings: "{ fields: { kw: { from: power, scale: 0.001 }, energy: energy }, rest: drop }",
            payloads: readings,
            plain: || {
                Box::new(|bytes| {
                    let value = read(bytes);
                    text(
                        &json!({ "kw": number(&value, "power") * 0.001, "energy": value["energy"] }),
                    )
                })
            },
        },
        Case {
            name: "`map`: computes with two fields",
            node_type: "map",
            settings: "{ fields: { delta: { compute: msg.payload.flow_temp - msg.payload.return_temp } } }",
            payloads: readings,
            plain: || {
                Box::new(|bytes| {
                    let mut value = read(bytes);
                    value["delta"] =
                        (number(&value, "flow_temp") - number(&value, "return_temp")).into();
                    text(&value)
                })
            },
        },
        Case {
            name: "`filter`: one comparison",
            node_type: "filter",
            settings: "when: msg.payload.power > 50",
            payloads: readings,
            plain: || {
                Box::new(|bytes| (number(&read(bytes), "power") > 50.0).then(|| bytes.to_vec()))
            },
        },
        Case {
            name: "`route`: two comparisons",
            node_type: "route",
            settings: "routes: { high: msg.payload.power > 60, low: msg.payload.power < 30 }",
            payloads: readings,
            plain: || {
                Box::new(|bytes| {
                    let power = number(&read(bytes), "power");
                    black_box(if power > 60.0 { 1 } else { i32::from(power < 30.0) * 2 });
                    Some(bytes.to_vec())
                })
            },
        },
        Case {
            name: "`script`: one field added",
            node_type: "script",
            settings: "script: msg.payload.hot = msg.payload.flow_temp > 72.0; msg",
            payloads: readings,
            plain: || {
                Box::new(|bytes| {
                    let mut value = read(bytes);
                    value["hot"] = (number(&value, "flow_temp") > 72.0).into();
                    text(&value)
                })
            },
        },
        Case {
            name: "`deadband`: one field",
            node_type: "deadband",
            settings: "fields: { flow_temp: 2 }",
            payloads: readings,
            plain: || {
                let mut last: Option<f64> = None;
                Box::new(move |bytes| {
                    let now = number(&read(bytes), "flow_temp");
                    let moved = last.is_none_or(|last| (now - last).abs() >= 2.0);
                    moved.then(|| {
                        last = Some(now);
                        bytes.to_vec()
                    })
                })
            },
        },
        Case {
            name: "`dedupe`: by one field",
            node_type: "dedupe",
            settings: "{ fields: [serial], within: 1m }",
            payloads: readings,
            plain: || {
                let mut seen: HashMap<String, Instant> = HashMap::new();
                Box::new(move |bytes| {
                    let key = read(bytes)["serial"].to_string();
                    let is_new = seen.insert(key, Instant::now()).is_none();
                    is_new.then(|| bytes.to_vec())
                })
            },
        },
        Case {
            name: "`throttle`: the first in each second",
            node_type: "throttle",
            settings: "{ every: 1s, send: first }",
            payloads: readings,
            plain: || {
                let mut last: Option<Instant> = None;
                Box::new(move |bytes| {
                    let is_due = last.is_none_or(|last| last.elapsed().as_secs() >= 1);
                    is_due.then(|| {
                        last = Some(Instant::now());
                        bytes.to_vec()
                    })
                })
            },
        },
        Case {
            name: "`debounce`: a value that stands",
            node_type: "debounce",
            settings: "{ field: state, quiet: 1s }",
            payloads: readings,
            plain: || {
                let mut last: Option<(Value, Instant)> = None;
                Box::new(move |bytes| {
                    let state = read(bytes)["state"].take();
                    let is_other = last.as_ref().is_none_or(|(known, _)| *known != state);
                    is_other.then(|| {
                        last = Some((state, Instant::now()));
                        bytes.to_vec()
                    })
                })
            },
        },
        Case {
            name: "`delay`: held, and due at once",
            node_type: "delay",
            settings: "{ for: 1ms }",
            payloads: readings,
            plain: || {
                let mut held = std::collections::VecDeque::new();
                Box::new(move |bytes| {
                    held.push_back((Instant::now(), bytes.to_vec()));
                    let (since, _) = held.front()?;
                    let is_due = since.elapsed().as_millis() >= 1;
                    held.pop_front().filter(|_| is_due).map(|(_, bytes)| bytes)
                })
            },
        },
        Case {
            name: "`join`: the latest of one input",
            node_type: "join",
            settings: "{ shape: flat }",
            payloads: readings,
            plain: || {
                let mut latest = Value::Null;
                Box::new(move |bytes| {
                    latest = read(bytes);
                    text(&latest)
                })
            },
        },
        Case {
            name: "`schedule`: a gate that is open",
            node_type: "schedule",
            settings: "{ zone: Europe/Berlin, open: [{ from: \"00:00\", to: \"23:59\" }, { from: \"23:59\", to: \"00:00\" }] }",
            payloads: readings,
            plain: || {
                let mut until = Instant::now();
                Box::new(move |bytes| {
                    if Instant::now() >= until {
                        until = Instant::now() + std::time::Duration::from_secs(60);
                    }
                    Some(bytes.to_vec())
                })
            },
        },
        Case {
            name: "`counter`: total and rate",
            node_type: "counter",
            settings: "{ field: energy, total: total, rate: rate, on_fall: reset }",
            payloads: readings,
            plain: || {
                let (mut last, mut total) = (None, 0.0);
                Box::new(move |bytes| {
                    let mut value = read(bytes);
                    let now = number(&value, "energy");
                    let gain =
                        last.map_or(0.0, |last: f64| if now >= last { now - last } else { now });
                    (last, total) = (Some(now), total + gain);
                    (value["total"], value["rate"]) = (total.into(), gain.into());
                    text(&value)
                })
            },
        },
        Case {
            name: "`alarm`: a limit, never reached",
            node_type: "alarm",
            settings: "{ field: flow_temp, above: 90, hysteresis: 2 }",
            payloads: readings,
            plain: || {
                Box::new(|bytes| (number(&read(bytes), "flow_temp") > 90.0).then(|| bytes.to_vec()))
            },
        },
        Case {
            name: "`window`: mean and maximum of two fields",
            node_type: "window",
            settings: "{ every: 1h, fields: { power: [mean, max], flow_temp: [mean, max] } }",
            payloads: readings,
            plain: || {
                let mut sums = [(0.0, f64::MIN); 2];
                Box::new(move |bytes| {
                    let value = read(bytes);
                    for (sum, name) in sums.iter_mut().zip(["power", "flow_temp"]) {
                        let number = number(&value, name);
                        *sum = (sum.0 + number, sum.1.max(number));
                    }
                    black_box(sums);
                    None
                })
            },
        },
        Case {
            name: "`split`: a list of eight",
            node_type: "split",
            settings: "{}",
            payloads: list_of_readings,
            plain: || {
                Box::new(|bytes| {
                    let value = read(bytes);
                    value.as_array()?.iter().filter_map(text).last()
                })
            },
        },
        Case {
            name: "`batch`: sixteen in one list",
            node_type: "batch",
            settings: "{ max_messages: 16, longest: 1h }",
            payloads: readings,
            plain: || {
                let mut kept: Vec<Value> = Vec::new();
                Box::new(move |bytes| {
                    kept.push(read(bytes));
                    (kept.len() == 16).then(|| text(&std::mem::take(&mut kept).into())).flatten()
                })
            },
        },
        Case {
            name: "`validate`: four rules",
            node_type: "validate",
            settings: "schema: { type: object, required: [power, state], properties: { power: { type: number, minimum: 0 }, state: { enum: [run, stop] } } }",
            payloads: readings,
            plain: || {
                Box::new(|bytes| {
                    let value = read(bytes);
                    let fits = value["power"].as_f64().is_some_and(|power| power >= 0.0)
                        && matches!(value["state"].as_str(), Some("run" | "stop"));
                    fits.then(|| bytes.to_vec())
                })
            },
        },
        Case {
            name: "`decode`: CSV of four rows",
            node_type: "decode",
            settings: "format: csv",
            payloads: table,
            plain: || {
                Box::new(|bytes| {
                    let text_of = std::str::from_utf8(bytes).ok()?;
                    let mut lines = text_of.lines().map(|line| line.split(','));
                    let names: Vec<&str> = lines.next()?.collect();
                    let row = |cells: std::str::Split<'_, char>| {
                        let cell = |(name, cell): (&&str, &str)| {
                            (
                                (*name).to_owned(),
                                cell.parse::<f64>().map_or(cell.into(), Value::from),
                            )
                        };
                        Value::Object(names.iter().zip(cells).map(cell).collect())
                    };
                    text(&lines.map(row).collect())
                })
            },
        },
        Case {
            name: "`decode`: base64 and Cayenne LPP, three values",
            node_type: "decode",
            settings: "format: [base64, cayenne_lpp]",
            payloads: frame,
            plain: || {
                // Without the base64: there is none in the standard library.
                Box::new(|_| {
                    let bytes = [1, 0x67, 1, 0x10, 2, 0x68, 0x65, 3, 0x73, 0x27, 0x88_u8];
                    let value = json!({
                        "temperature_1": f64::from(i16::from_be_bytes([bytes[2], bytes[3]])) * 0.1,
                        "relative_humidity_2": f64::from(bytes[6]) * 0.5,
                        "barometric_pressure_3": f64::from(u16::from_be_bytes([bytes[9], bytes[10]])) * 0.1,
                    });
                    text(&value)
                })
            },
        },
        Case {
            name: "`encode`: a line for InfluxDB",
            node_type: "encode",
            settings: "{ format: influx, influx: { measurement: m, tags: [serial] } }",
            payloads: readings,
            plain: || {
                Box::new(|bytes| {
                    let value = read(bytes);
                    let mut line = format!("m,serial={} ", value["serial"].as_str()?);
                    for (name, field) in
                        value.as_object()?.iter().filter(|(name, _)| *name != "serial")
                    {
                        line += &format!("{name}={field},");
                    }
                    Some(line.into_bytes())
                })
            },
        },
    ]
}
