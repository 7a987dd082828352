//! A Modbus TCP server that answers at once, and times the polls that it sees.
//!
//! A poll begins with the request for the first range and ends when the last one was answered.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use forebay_peers::arguments::Arguments;
use serde_json::json;

struct Polls {
    last_address: u16,
    began: Option<Instant>,
    took: Vec<Duration>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let listener = TcpListener::bind(("127.0.0.1", arguments.get::<u16>("port")?))?;
    let last_address = arguments.get("last")?;
    let warm_up = Duration::from_secs_f64(arguments.get("warmup")?);
    let measure = Duration::from_secs_f64(arguments.get("seconds")?);
    println!("listening");
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut polls = Polls { last_address, began: None, took: Vec::new() };

    serve(&mut stream, &mut polls, warm_up)?;
    polls.took.clear();
    println!("begin");
    let start = Instant::now();
    serve(&mut stream, &mut polls, measure)?;
    let elapsed = start.elapsed();
    polls.took.sort();
    let at = |share: f64| {
        let index = (polls.took.len() as f64 * share) as usize;
        polls.took.get(index).map(|took| took.as_secs_f64() * 1e3)
    };
    let rate = polls.took.len() as f64 / elapsed.as_secs_f64();
    println!("{}", json!({ "polls": polls.took.len(), "rate": rate, "p50_ms": at(0.5), "p99_ms": at(0.99) }));
    Ok(())
}

/// Answers requests for as long as asked.
fn serve(stream: &mut TcpStream, polls: &mut Polls, within: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + within;
    let mut request = [0; 12];
    let mut answer = Vec::with_capacity(260);
    while Instant::now() < end {
        stream.read_exact(&mut request)?;
        let [.., address_high, address_low, count_high, count_low] = request;
        let address = u16::from_be_bytes([address_high, address_low]);
        let count = u16::from_be_bytes([count_high, count_low]);
        if address == 0 {
            polls.began = Some(Instant::now());
        }
        let bytes = count * 2;
        answer.clear();
        answer.extend_from_slice(&request[..4]);
        answer.extend_from_slice(&(bytes + 3).to_be_bytes());
        answer.extend_from_slice(&[request[6], request[7], bytes as u8]);
        for register in address..address + count {
            answer.extend_from_slice(&register.to_be_bytes());
        }
        stream.write_all(&answer)?;
        if address == polls.last_address {
            polls.took.extend(polls.began.take().map(|began| began.elapsed()));
        }
    }
    Ok(())
}
