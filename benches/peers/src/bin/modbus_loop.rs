//! The floor of Modbus: a loop over tokio-modbus that reads the same ranges and keeps nothing.

use std::{hint::black_box, time::Duration};

use anyhow::Context;
use forebay_peers::arguments::Arguments;
use tokio_modbus::client::{Reader, tcp};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let address = format!("127.0.0.1:{}", arguments.get::<u16>("port")?).parse()?;
    let (ranges, count, stride): (u16, u16, u16) =
        (arguments.get("ranges")?, arguments.get("count")?, arguments.get("stride")?);
    let stream = tokio::net::TcpStream::connect::<std::net::SocketAddr>(address).await?;
    stream.set_nodelay(true)?;
    let mut bus = tcp::attach(stream);
    let every: u64 = arguments.get_or("every_ms", 0)?;
    let mut beat = (every > 0).then(|| tokio::time::interval(Duration::from_millis(every)));
    loop {
        if let Some(beat) = &mut beat {
            beat.tick().await;
        }
        for range in 0..ranges {
            let registers = bus.read_holding_registers(range * stride, count).await;
            black_box(registers.context("reading")??);
        }
    }
}
