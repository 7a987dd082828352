//! A simulated Eastron SDM630: values that move like those of a small workshop.

use std::{f32::consts::TAU, sync::Arc, time::Duration};

use crate::{
    block::{Block, Table},
    decode::{Form, NumberKind, Order, Sort},
    reading::Field,
    refine::Refine,
    simulate::image::{Image, Motion},
};

/// What it has: addresses of input registers, and what the values are called.
const VALUES: [(u16, &str); 12] = [
    (0x00, "volts_1"),
    (0x02, "volts_2"),
    (0x04, "volts_3"),
    (0x06, "amps_1"),
    (0x08, "amps_2"),
    (0x0A, "amps_3"),
    (0x0C, "watts_1"),
    (0x0E, "watts_2"),
    (0x10, "watts_3"),
    (0x34, "watts"),
    (0x46, "frequency"),
    (0x48, "energy"),
];

/// What a source reads of it.
pub fn fields() -> Vec<Field> {
    let field = |(start, name): &(u16, &str)| Field {
        name: (*name).to_owned(),
        block: Block { table: Table::Input, start: *start, count: 2 },
        models: None,
        missing: None,
        is_hidden: false,
        unit: None,
        form: Some(Form::Number { kind: NumberKind::whole(2, Sort::Float), order: Order::Abcd }),
        refine: Refine::default(),
        deadband: None,
    };
    VALUES.iter().map(field).collect()
}

/// Its registers.
pub fn image() -> Image {
    let mut image = Image::default();
    for field in fields() {
        let at = u32::from(field.block.start);
        let motion = Motion::Computed(Arc::new(move |elapsed| {
            value(at, elapsed).map_or(f64::NAN, f64::from)
        }));
        // All of them are floats, which hold any of these.
        let put = image.put_moving(&field, motion);
        debug_assert_eq!(put, Ok(()));
    }
    let identity = ["Eastron", "SDM630 (simulated)", env!("CARGO_PKG_VERSION")];
    image.identity = Some(identity.map(str::to_owned));
    image
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
        let block = Block { table: Table::Input, start: 0x48, count: 2 };
        let registers = image().read(block, Duration::ZERO).unwrap();
        assert_eq!(registers, [0x449A, 0x5000], "1234.5");
        let beyond = Block { start: 0x12, ..block };
        assert!(image().read(beyond, Duration::ZERO).is_err());
    }
}
