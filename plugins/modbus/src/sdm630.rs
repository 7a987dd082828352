//! A simulated Eastron SDM630: values that move like those of a small workshop.

use std::{f32::consts::TAU, sync::Arc, time::Duration};

use crate::{
    block::{Block, Table},
    decode::{Form, NumberKind, Order, Sort},
    reading::Field,
    refine::Refine,
    simulate::image::{Image, Motion},
};

/// Where it has values, from the first to the last, each in two input registers.
const BLOCKS: [(u16, u16); 7] = [
    (0x00, 0x56),
    (0x64, 0x6A),
    (0xC8, 0xCE),
    (0xE0, 0xE0),
    (0xEA, 0xFA),
    (0x102, 0x10C),
    (0x156, 0x17C),
];
/// What it is asked for first: addresses of input registers, and what the values are called.
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
    VALUES.iter().map(|(start, name)| field(*start, name)).collect()
}

fn field(start: u16, name: &str) -> Field {
    Field {
        name: name.to_owned(),
        block: Block { table: Table::Input, start, count: 2 },
        models: None,
        missing: None,
        is_hidden: false,
        unit: None,
        form: Some(Form::Number { kind: NumberKind::whole(2, Sort::Float), order: Order::Abcd }),
        refine: Refine::default(),
        deadband: None,
    }
}

/// Its registers.
pub fn image() -> Image {
    let mut image = Image::default();
    let addresses = BLOCKS.into_iter().flat_map(|(first, last)| (first..=last).step_by(2));
    for start in addresses {
        let motion =
            Motion::Computed(Arc::new(move |elapsed| f64::from(value(start.into(), elapsed))));
        // All of them are floats, which hold any of these.
        let put = image.put_moving(&field(start, ""), motion);
        debug_assert_eq!(put, Ok(()));
    }
    let identity = ["Eastron", "SDM630 (simulated)", env!("CARGO_PKG_VERSION")];
    image.identity = Some(identity.map(str::to_owned));
    image
}

/// The loads are a little inductive.
const POWER_FACTOR: f32 = 0.96;
/// Reactive power for each watt, and the angle between volts and amps, of such loads.
const VARS_PER_WATT: f32 = 0.291_667;
const PHASE_ANGLE: f32 = 16.26;
/// Between two phases, for each volt of one.
const VOLTS_BETWEEN: f32 = 1.732_050_8;

/// What the meter measures at an address, as the manual lists it. It feeds nothing back, and what is
/// not in the manual is 0.
fn value(address: u32, elapsed: Duration) -> f32 {
    let phase = |first: u32| (address - first) / 2;
    let sum = |of: fn(u32, Duration) -> f32| (0..3).map(|phase| of(phase, elapsed)).sum::<f32>();
    match address {
        0x00..=0x04 => volts(phase(0x00), elapsed),
        0x06..=0x0A => amps(phase(0x06), elapsed),
        0x0C..=0x10 => watts(phase(0x0C), elapsed),
        0x12..=0x16 => watts(phase(0x12), elapsed) / POWER_FACTOR,
        0x18..=0x1C => watts(phase(0x18), elapsed) * VARS_PER_WATT,
        0x1E..=0x22 | 0x3E => POWER_FACTOR,
        0x24..=0x28 | 0x42 => PHASE_ANGLE,
        0x2A => sum(volts) / 3.0,
        0x2E => sum(amps) / 3.0,
        0x30 => sum(amps),
        0x34 => sum(watts),
        0x38 => sum(watts) / POWER_FACTOR,
        0x3C => sum(watts) * VARS_PER_WATT,
        0x46 => 50.0 + 0.02 * wave(elapsed, 37.0, 0.0),
        0x48 | 0x156 => energy_kwh(elapsed),
        0x4C | 0x158 => energy_kwh(elapsed) * VARS_PER_WATT,
        0x50 => energy_kwh(elapsed) / POWER_FACTOR,
        0x52 => energy_kwh(elapsed) / POWER_FACTOR * 1000.0 / 230.0,
        0x54 | 0x56 => mean_sum(),
        0x64 | 0x66 => mean_sum() / POWER_FACTOR,
        0xC8..=0xCC => volts(phase(0xC8), elapsed) * VOLTS_BETWEEN,
        0xCE => sum(volts) / 3.0 * VOLTS_BETWEEN,
        0xE0 | 0x68 | 0x6A => 0.4,
        0xEA..=0xEE | 0xF8 => 1.8,
        0xF0..=0xF4 | 0xFA => 9.5,
        0x102..=0x106 => mean_watts(phase(0x102)) / POWER_FACTOR / 230.0,
        0x108..=0x10C => mean_watts(phase(0x108)) / POWER_FACTOR / 230.0,
        0x15A..=0x15E => energy_of(phase(0x15A), elapsed),
        0x166..=0x16A => energy_of(phase(0x166), elapsed),
        0x16C..=0x170 => energy_of(phase(0x16C), elapsed) * VARS_PER_WATT,
        0x178..=0x17C => energy_of(phase(0x178), elapsed) * VARS_PER_WATT,
        _ => 0.0,
    }
}

fn amps(phase: u32, elapsed: Duration) -> f32 {
    watts(phase, elapsed) / POWER_FACTOR / volts(phase, elapsed)
}

fn mean_sum() -> f32 {
    (0..3).map(mean_watts).sum()
}

/// The part of a phase in all the energy.
fn energy_of(phase: u32, elapsed: Duration) -> f32 {
    energy_kwh(elapsed) * mean_watts(phase) / mean_sum()
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
    AT_START_KWH + mean_sum() / 1000.0 * elapsed.as_secs_f32() / 3600.0
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
            let at = |address| value(address, elapsed);
            for phase in 0..3 {
                assert!((227.0..=233.0).contains(&at(2 * phase)));
                let power = at(2 * phase) * at(6 + 2 * phase) * at(0x1E + 2 * phase);
                assert!((power - at(12 + 2 * phase)).abs() < 0.1);
            }
            assert!((at(0x34) - at(0x0C) - at(0x0E) - at(0x10)).abs() < 0.1);
            assert!((49.9..=50.1).contains(&at(0x46)));
        }
    }

    #[test]
    fn energy_only_rises_and_values_move() {
        let at = |address, minute| value(address, MINUTE * minute);
        assert!(at(0x48, 10) > at(0x48, 0) + 0.4);
        assert_ne!(at(0x00, 0), at(0x00, 1));
    }

    #[test]
    fn the_simulated_meter_refused_what_its_profile_reads() {
        let text = include_str!("../profiles/sdm630.yaml");
        let addresses = text.lines().filter_map(|line| line.split_once(", input: 0x"));
        let addresses: Vec<u16> =
            addresses.map(|(_, rest)| u16::from_str_radix(&rest[..4], 16).unwrap()).collect();
        assert!(addresses.len() > 70, "{}", addresses.len());
        for start in addresses {
            let block = Block { table: Table::Input, start, count: 2 };
            assert!(image().has(block), "{start:#06X}");
        }
    }

    #[test]
    fn a_float_stands_in_two_registers_high_half_first() {
        let block = Block { table: Table::Input, start: 0x48, count: 2 };
        let registers = image().read(block, Duration::ZERO).unwrap();
        assert_eq!(registers, [0x449A, 0x5000], "1234.5");
        let beyond = Block { start: 0x58, ..block };
        assert!(image().read(beyond, Duration::ZERO).is_err());
    }
}
