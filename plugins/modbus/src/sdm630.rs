//! A simulated Eastron SDM630, for demonstrations and tests: a real Modbus TCP server on the
//! loopback interface, with values that move like those of a small workshop.
//!
//! The server is our own, because that of tokio-modbus brings in the multi-threaded runtime.

use std::{f32::consts::TAU, io, net::Ipv4Addr, time::Duration};

use anyhow::Context;
use forebay_sdk::{
    RunningDevice, World,
    world::{Listener, Stream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, sleep},
};

/// Further clients wait until one leaves. The real meter has one line and one client.
const MOST_CLIENTS: usize = 8;

const READ_INPUT_REGISTERS: u8 = 4;
const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_DATA_ADDRESS: u8 = 2;
const ILLEGAL_DATA_VALUE: u8 = 3;

/// Starts the meter on a free port.
pub async fn start() -> anyhow::Result<RunningDevice> {
    const OPENING: &str = "opening a port for the simulated SDM630";
    let at = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = World::system().listen(at).await.context(OPENING)?;
    let address = listener.local_addr().context(OPENING)?;
    Ok(RunningDevice { url: format!("tcp://{address}"), serve: Box::pin(serve(listener)) })
}

/// Serves until dropped, and hangs up on everybody then.
pub async fn serve(listener: Box<dyn Listener>) {
    let since = Instant::now();
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < MOST_CLIENTS => match accepted {
                Ok((client, _)) => {
                    clients.spawn(talk(client, since));
                }
                // Out of file descriptors, most likely: some may come free.
                Err(_) => sleep(Duration::from_millis(100)).await,
            },
            Some(_) = clients.join_next() => (),
        }
    }
}

/// Answers one client until it leaves or says something that is no request.
async fn talk(mut client: Box<dyn Stream>, since: Instant) -> io::Result<()> {
    loop {
        let mut head = [0; 7];
        client.read_exact(&mut head).await?;
        let [t1, t2, 0, 0, 0, length @ 2..=254, unit] = head else { return Ok(()) };
        let mut body = [0; 253];
        let body = &mut body[..usize::from(length) - 1];
        client.read_exact(body).await?;

        let answer = answer(body, since.elapsed());
        // An answer has at most 252 bytes: two and those of 125 registers.
        let mut frame = vec![t1, t2, 0, 0, 0, answer.len() as u8 + 1, unit];
        frame.extend(answer);
        client.write_all(&frame).await?;
    }
}

/// The answer to a request, both without their head.
fn answer(request: &[u8], elapsed: Duration) -> Vec<u8> {
    let (&function, request) = request.split_first().unwrap_or((&0, &[]));
    let refuse = |exception| vec![function | 0x80, exception];
    if function != READ_INPUT_REGISTERS {
        return refuse(ILLEGAL_FUNCTION);
    }
    let &[s1, s2, c1, c2] = request else { return refuse(ILLEGAL_DATA_VALUE) };
    let (start, count) = (u16::from_be_bytes([s1, s2]), u16::from_be_bytes([c1, c2]));
    if !(1..=125).contains(&count) {
        return refuse(ILLEGAL_DATA_VALUE);
    }
    let registers: Option<Vec<[u8; 2]>> = (u32::from(start)..u32::from(start) + u32::from(count))
        .map(|address| input_register(address, elapsed))
        .collect();
    match registers {
        Some(registers) => {
            // At most 250.
            let mut answer = vec![function, (registers.len() * 2) as u8];
            answer.extend(registers.into_iter().flatten());
            answer
        }
        None => refuse(ILLEGAL_DATA_ADDRESS),
    }
}

/// Half of a float: the high half at even addresses.
fn input_register(address: u32, elapsed: Duration) -> Option<[u8; 2]> {
    let [a, b, c, d] = value(address & !1, elapsed)?.to_be_bytes();
    Some(if address.is_multiple_of(2) { [a, b] } else { [c, d] })
}

/// What the meter measures at an address, as the manual lists it.
fn value(address: u32, elapsed: Duration) -> Option<f32> {
    let phase = |first: u32| (address - first) / 2;
    match address {
        0x00..=0x04 => Some(volts(phase(0x00), elapsed)),
        0x06..=0x0A => Some(watts(phase(0x06), elapsed) / volts(phase(0x06), elapsed)),
        0x0C..=0x10 => Some(watts(phase(0x0C), elapsed)),
        0x34 => Some((0..3).map(|phase| watts(phase, elapsed)).sum()),
        0x46 => Some(50.0 + 0.02 * wave(elapsed, 37.0, 0.0)),
        0x48 => Some(energy_kwh(elapsed)),
        _ => None,
    }
}

fn volts(phase: u32, elapsed: Duration) -> f32 {
    230.0 + 2.5 * wave(elapsed, 61.0, phase as f32 / 3.0)
}

/// Each phase has its own load, which comes and goes within minutes.
fn watts(phase: u32, elapsed: Duration) -> f32 {
    mean_watts(phase) * (1.0 + 0.3 * wave(elapsed, 120.0 + 45.0 * phase as f32, 0.25))
}

fn mean_watts(phase: u32) -> f32 {
    [1500.0, 900.0, 600.0][phase as usize % 3]
}

/// What the mean load takes. The waves cancel out over time, so it never runs backwards.
fn energy_kwh(elapsed: Duration) -> f32 {
    const AT_START_KWH: f32 = 1234.5;
    let mean: f32 = (0..3).map(mean_watts).sum();
    AT_START_KWH + mean / 1000.0 * elapsed.as_secs_f32() / 3600.0
}

/// A sine from -1 to 1. `shift` is a part of the period, both in seconds and turns.
fn wave(elapsed: Duration, period_seconds: f32, shift: f32) -> f32 {
    // In double precision, or the wave has steps after some days.
    let turns = elapsed.as_secs_f64() / f64::from(period_seconds);
    (TAU * (turns.fract() as f32 + shift)).sin()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn values_are_those_of_a_meter_at_any_time() {
        for minute in (0..60 * 24 * 7).step_by(7) {
            let elapsed = MINUTE * minute;
            let at = |address| value(address, elapsed).unwrap();
            for phase in 0..3 {
                assert!((227.0..=233.0).contains(&at(2 * phase)));
                let power = at(2 * phase) * at(6 + 2 * phase);
                assert!((power - at(12 + 2 * phase)).abs() < 0.1);
            }
            assert!((at(0x34) - at(0x0C) - at(0x0E) - at(0x10)).abs() < 0.1);
            assert!((49.9..=50.1).contains(&at(0x46)));
        }
    }

    #[test]
    fn energy_only_rises_and_values_move() {
        let at = |address, minute| value(address, MINUTE * minute).unwrap();
        assert!(at(0x48, 10) > at(0x48, 0) + 0.4);
        assert_ne!(at(0x00, 0), at(0x00, 1));
    }

    #[test]
    fn a_float_stands_in_two_registers_high_half_first() {
        let answer = answer(&[4, 0, 0x48, 0, 2], Duration::ZERO);
        assert_eq!(answer[..2], [4, 4]);
        assert_eq!(answer[2..], 1234.5_f32.to_be_bytes());
    }

    #[test]
    fn what_the_meter_does_not_know_is_refused_with_the_right_exception() {
        let answer = |request: &[u8]| answer(request, Duration::ZERO);
        assert_eq!(answer(&[3, 0, 0, 0, 2]), [0x83, 1]);
        assert_eq!(answer(&[4, 0, 0x12, 0, 1]), [0x84, 2]);
        assert_eq!(answer(&[4, 0, 0x10, 0, 3]), [0x84, 2]);
        assert_eq!(answer(&[4, 0xFF, 0xFF, 0, 2]), [0x84, 2]);
        assert_eq!(answer(&[4, 0, 0, 0, 0]), [0x84, 3]);
        assert_eq!(answer(&[4, 0, 0, 0, 126]), [0x84, 3]);
        assert_eq!(answer(&[4]), [0x84, 3]);
        assert_eq!(answer(&[]), [0x80, 1]);
    }
}
