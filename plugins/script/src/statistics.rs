//! Functions of scripts over lists of numbers. What is missing in a list is passed over.

use rhai::{Array, Dynamic, Engine, EvalAltResult, FuncRegistration};

use crate::convert::kind;

type Of = fn(Vec<f64>) -> Option<f64>;
type Answer = Result<Dynamic, Box<EvalAltResult>>;

const FUNCTIONS: [(&str, Of); 6] = [
    // The sum of no floats is -0.0.
    ("sum", |numbers| Some(numbers.iter().fold(0.0, |sum, number| sum + number))),
    ("mean", mean),
    ("median", |numbers| percentile(numbers, 50.0)),
    ("stddev", deviation),
    ("min", |numbers| numbers.into_iter().reduce(f64::min)),
    ("max", |numbers| numbers.into_iter().reduce(f64::max)),
];

pub(crate) fn register(engine: &mut Engine) {
    for (name, of) in FUNCTIONS {
        let answer = move |list: &mut Array| -> Answer { Ok(given(of(numbers(list)?))) };
        FuncRegistration::new(name).with_purity(true).register_into_engine(engine, answer);
    }
    let answer = |list: &mut Array, share: f64| -> Answer {
        if !(0.0..=100.0).contains(&share) {
            return Err(format!("expected a percentile from 0 to 100, found {share}").into());
        }
        Ok(given(percentile(numbers(list)?, share)))
    };
    let whole = move |list: &mut Array, share: i64| answer(list, share as f64);
    FuncRegistration::new("percentile").with_purity(true).register_into_engine(engine, answer);
    FuncRegistration::new("percentile").with_purity(true).register_into_engine(engine, whole);
}

/// Nothing comes of no numbers.
fn given(number: Option<f64>) -> Dynamic {
    number.map_or(Dynamic::UNIT, Dynamic::from)
}

fn numbers(list: &Array) -> Result<Vec<f64>, Box<EvalAltResult>> {
    let known = list.iter().enumerate().filter(|(_, value)| !value.is_unit());
    let number = |(index, value): (usize, &Dynamic)| {
        let whole = value.as_int().map(|whole| whole as f64);
        let number = value.as_float().or(whole);
        number.map_err(|_| {
            format!("the list has {} at {index}; expected numbers", kind(value)).into()
        })
    };
    known.map(number).collect()
}

fn mean(numbers: Vec<f64>) -> Option<f64> {
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

/// Of a sample: None of fewer than two numbers.
fn deviation(numbers: Vec<f64>) -> Option<f64> {
    let (count, mean) = (numbers.len(), mean(numbers.clone())?);
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    (count > 1).then(|| (squares / (count - 1) as f64).sqrt())
}

/// On a line between the two numbers that are nearest.
fn percentile(mut numbers: Vec<f64>, share: f64) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let at = share / 100.0 * numbers.len().checked_sub(1)? as f64;
    let (low, high) = (at.floor(), at.ceil());
    let (below, above) = (*numbers.get(low as usize)?, *numbers.get(high as usize)?);
    Some(below + (above - below) * (at - low))
}
