//! A device of the kind that a profile is for, with values that could be. Pure.

use std::time::Duration;

use forebay_sdk::{Finding, Problem, Value, yaml::Yaml};

use super::image::{Image, Motion};
use crate::{block::Table, decode::Form, reading::Field, settings::registers_of, sunspec};

/// The device, and what to read of it. None when it is no profile, which is among the findings then.
pub fn device(
    name: &str,
    profile: &Yaml,
    findings: &mut Vec<Finding>,
) -> Option<(Image, Vec<Field>)> {
    let subject = format!("profile `{name}`");
    let registers = registers_of(profile, &subject, findings)?;
    let mut fields = Vec::new();
    for (index, register) in registers.iter().enumerate() {
        match register.resolve(&format!("registers[{index}]")) {
            Ok(field) => fields.push(field),
            Err(problems) => {
                let wrong = |problem: Problem| {
                    Finding::error(problem.rule, profile.span, problem.message, problem.label)
                };
                findings.extend(problems.into_iter().map(wrong));
                return None;
            }
        }
    }
    let (fields, models) = sunspec::assume(&fields);
    let mut image = Image::default();
    if !models.is_empty() {
        let (begin, map) = sunspec::map(&models);
        image.put(Table::Holding, begin, &map);
    }
    for field in &fields {
        if !image.has(field.block) {
            let zeros = vec![0; field.block.count.into()];
            image.put(field.block.table, field.block.start, &zeros);
        }
    }
    for (index, field) in fields.iter().enumerate() {
        put(&mut image, field, name, index);
    }
    Some((image, fields))
}

/// What could be is told by the unit, and what has none stays zero; so does what cannot hold it.
fn put(image: &mut Image, field: &Field, name: &str, index: usize) {
    if let Some(Form::Text { .. }) = field.form {
        let most = usize::from(field.block.count) * 2;
        let text: String = name.chars().take(most).collect();
        let _ = image.put_value(field, &Value::from(text));
        return;
    }
    if let Some(motion) = field.unit.as_deref().and_then(|unit| motion(unit, index)) {
        let _ = image.put_moving(field, motion);
    }
}

/// How a value with this unit moves; no two in step.
fn motion(unit: &str, index: usize) -> Option<Motion> {
    const PERIOD: Duration = Duration::from_secs(60);
    let (mean, amplitude) = match unit {
        "V" => (230.0, 3.0),
        "A" => (5.0, 2.0),
        "Hz" => (50.0, 0.02),
        "W" | "VA" | "kW" | "kVA" => (1000.0, 300.0),
        "var" | "kvar" => (100.0, 50.0),
        "degC" => (21.0, 2.0),
        "%" => (50.0, 20.0),
        "Wh" | "kWh" | "varh" | "kvarh" | "VAh" | "kVAh" => {
            return Some(Motion::Counter { from: 1000.0 + index as f64, per_second: 0.01 });
        }
        _ => return None,
    };
    Some(Motion::Sine { mean, amplitude, period: PERIOD, shift: index as f64 / 10.0 })
}
