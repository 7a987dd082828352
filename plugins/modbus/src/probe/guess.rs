//! What registers probably hold, and why. Pure.
//!
//! Each way to read one or more registers gets points for what real devices show: few digits, values of a
//! mains supply, small numbers, letters, what moves a little or only grows between two looks. The way
//! with the most points in all wins, and the byte order that most of them share.

use std::fmt::{Display, LowerExp};

use crate::decode::Order;

/// A register, and what it held a little later.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub address: u16,
    pub first: u16,
    pub second: Option<u16>,
}

/// What some registers probably hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    pub start: u16,
    pub count: u16,
    /// As in settings: `f32`.
    pub kind: &'static str,
    pub order: Order,
    pub value: String,
    pub why: String,
    points: f64,
}

pub const ORDERS: [Order; 4] = [Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba];

/// Of two ways that are as good, the more usual one.
const RARER: [f64; 4] = [0.0, 0.3, 0.6, 0.6];
/// Most maps begin at 0 and have values of two registers.
const EVEN_ADDRESS: f64 = 0.3;
/// What a value of another order than most of the device loses: more than a likely value is worth, as there
/// hardly is a device with two.
const OTHER_ORDER: f64 = 10.0;
/// Less is not worth a word.
const LEAST_POINTS: f64 = 0.5;
/// Shorter texts are found by chance, but for those of letters and digits alone.
const SHORTEST_TEXT: usize = 3;

/// Guesses for registers in the order of their addresses, none of which overlap.
pub fn guess(registers: &[Seen]) -> Vec<Guess> {
    let first = best(registers, None);
    let mut votes = [0.0; 4];
    for guess in first.iter().filter(|guess| guess.count > 1 && guess.kind != "string") {
        votes[index_of(guess.order)] += guess.points;
    }
    let most = (0..4).max_by(|a, b| votes[*a].total_cmp(&votes[*b])).filter(|at| votes[*at] > 0.0);
    match most {
        Some(order) => best(registers, Some(ORDERS[order])),
        None => first,
    }
}

/// The two registers of a number of 32 bits, the most significant first.
pub fn wide(first: u16, second: u16, order: Order) -> u32 {
    let swap = matches!(order, Order::Badc | Order::Dcba);
    let (a, b) = match order {
        Order::Abcd | Order::Badc => (first, second),
        Order::Cdab | Order::Dcba => (second, first),
    };
    let (a, b) = if swap { (a.swap_bytes(), b.swap_bytes()) } else { (a, b) };
    u32::from(a) << 16 | u32::from(b)
}

fn index_of(order: Order) -> usize {
    ORDERS.iter().position(|other| *other == order).unwrap_or(0)
}

/// The guesses with the most points in all, of those that stand beside each other.
fn best(registers: &[Seen], order: Option<Order>) -> Vec<Guess> {
    // From each place to the end: the points, and the guess that begins there.
    let mut table: Vec<(f64, Option<Guess>)> = vec![(0.0, None); registers.len() + 1];
    for at in (0..registers.len()).rev() {
        let mut here = (table[at + 1].0, None);
        for mut guess in candidates(&registers[at..]) {
            if order.is_some_and(|order| {
                guess.count > 1 && guess.kind != "string" && order != guess.order
            }) {
                guess.points -= OTHER_ORDER;
            }
            let total = guess.points + table[at + usize::from(guess.count)].0;
            if guess.points > 0.0 && total > here.0 {
                here = (total, Some(guess));
            }
        }
        table[at] = here;
    }
    let (mut guesses, mut at) = (Vec::new(), 0);
    while at < registers.len() {
        match table[at].1.take() {
            Some(guess) => {
                at += usize::from(guess.count);
                guesses.push(guess);
            }
            None => at += 1,
        }
    }
    guesses.retain(|guess| guess.points >= LEAST_POINTS);
    guesses
}

/// All that may begin here.
fn candidates(registers: &[Seen]) -> Vec<Guess> {
    let follows = registers.windows(2).take_while(|pair| pair[1].address == pair[0].address + 1);
    let run = &registers[..=follows.count()];
    let mut found = vec![whole(run[0])];
    if let [first, second, ..] = run {
        let usual_place = if first.address.is_multiple_of(2) { EVEN_ADDRESS } else { 0.0 };
        for (order, rarer) in ORDERS.into_iter().zip(RARER) {
            let both = |first, second| wide(first, second, order);
            let now = both(first.first, second.first);
            let then = first.second.zip(second.second).map(|(first, second)| both(first, second));
            let guesses = [float(now, then), long(now, then)];
            for (kind, value, why, points) in guesses.into_iter().flatten() {
                let (start, points) = (first.address, points - rarer + usual_place);
                found.push(Guess { start, count: 2, kind, order, value, why, points });
            }
        }
    }
    found.extend([Order::Abcd, Order::Badc].into_iter().filter_map(|order| text(run, order)));
    found
}

type Judged = (&'static str, String, String, f64);

fn whole(seen: Seen) -> Guess {
    let value = seen.first;
    let then = seen.second.unwrap_or(value);
    let signed = value as i16;
    let (kind, points, why) = match value {
        0 => ("u16", 0.0, "zero"),
        0x7FFF | 0x8000 | 0xFFFF => ("u16", 0.2, "what many devices have for \"not there\""),
        4_980..=5_020 => ("u16", 2.5, "50 Hz at `scale: 0.01`?"),
        2_200..=2_420 => ("u16", 1.8, "a mains voltage at `scale: 0.1`?"),
        1..=9_999 => ("u16", 1.0, "a small number"),
        _ if (-2_000..0).contains(&signed) => ("i16", 1.0, "a small number below zero"),
        _ => ("u16", 0.3, "a number"),
    };
    let (mut points, mut why) = (points, why.to_owned());
    let step = then.wrapping_sub(value);
    if step != 0 && step < 1000 {
        points += 0.6;
        why += ", which grew";
    } else if then.abs_diff(value) < 1000 && then != value {
        points += 0.6;
        why += ", which moved";
    }
    let shown = if kind == "i16" { signed.to_string() } else { value.to_string() };
    Guess { start: seen.address, count: 1, kind, order: Order::Abcd, value: shown, why, points }
}

fn float(now: u32, then: Option<u32>) -> Option<Judged> {
    let value = f32::from_bits(now);
    let size = value.abs();
    if !value.is_finite() || !(1e-3..1e7).contains(&size) {
        return None;
    }
    let (mut points, mut why) = (1.5, Vec::new());
    let digits = digits(value);
    if digits <= 5 {
        // With an empty lower half, most have few.
        points += if now & 0xFFFF == 0 { 1.0 } else { 3.0 };
        why.push(if digits == 1 { "one digit".to_owned() } else { format!("{digits} digits") });
    }
    let looks = [
        (49.0, 51.0, 4.0, "near 50 Hz"),
        (59.5, 60.5, 4.0, "near 60 Hz"),
        (200.0, 255.0, 3.0, "a mains voltage?"),
        (380.0, 425.0, 3.0, "a mains voltage?"),
        (0.5, 1.0, 1.0, "a power factor?"),
    ];
    let sizes = looks.into_iter().find(|(least, most, ..)| (*least..=*most).contains(&size));
    if let Some((_, _, more, what)) = sizes {
        points += more;
        why.push(what.to_owned());
    }
    let later = then.map(f32::from_bits).filter(|later| *later != value);
    if let Some(later) = later {
        let change = (later - value) / value;
        if change.abs() < 0.2 {
            points += 3.0;
            why.push(if change > 0.0 { "grew a little" } else { "moved a little" }.to_owned());
        } else {
            points -= 1.0;
        }
    }
    if why.is_empty() {
        why.push("of a usual size".to_owned());
    }
    Some(("f32", shown(value), why.join(", "), points))
}

fn long(now: u32, then: Option<u32>) -> Option<Judged> {
    let (high, low) = ((now >> 16) as u16, now as u16);
    let grew = then.is_some_and(|then| then > now && then - now < 1_000_000);
    let (kind, value, mut points, why) = match high {
        0 if low > 9_999 => ("u32", now.to_string(), 1.6, "the upper half is zero"),
        0 if low > 0 => ("u32", now.to_string(), 1.3, "small, the upper half is zero"),
        0xFFFF if low >= 0x8000 => {
            ("i32", (now as i32).to_string(), 2.5, "a small number below zero")
        }
        1..=0xFF => ("u32", now.to_string(), 1.2, "not too large"),
        _ => return None,
    };
    let mut why = why.to_owned();
    if grew {
        points += 2.0;
        why += ", grew: a counter?";
    }
    Some((kind, value, why, points))
}

fn text(run: &[Seen], order: Order) -> Option<Guess> {
    let bytes = |seen: &Seen| match order {
        Order::Badc => seen.first.to_le_bytes(),
        _ => seen.first.to_be_bytes(),
    };
    let is_printable = |byte: u8| byte.is_ascii_alphanumeric() || b" -_./:+#()".contains(&byte);
    // The last may be filled up.
    let is_text = |[a, b]: [u8; 2]| is_printable(a) && (is_printable(b) || b == 0);
    let is_stable = |seen: &Seen| seen.second.is_none_or(|second| second == seen.first);
    let count = run.iter().take_while(|seen| is_text(bytes(seen)) && is_stable(seen)).count();
    let all: Vec<u8> = run[..count].iter().flat_map(bytes).collect();
    let end = all.iter().position(|byte| *byte == 0).unwrap_or(all.len());
    let count = end.div_ceil(2);
    let text = String::from_utf8_lossy(&all[..end]).trim_end().to_owned();
    let letters = text.bytes().filter(u8::is_ascii_alphanumeric).count();
    let is_long = count >= SHORTEST_TEXT && letters * 3 >= end * 2;
    let is_a_word = count + 1 == SHORTEST_TEXT && letters == 4;
    if !is_long && !is_a_word {
        return None;
    }
    let points = 2.6 * count as f64 - if order == Order::Badc { 1.0 } else { 0.0 };
    Some(Guess {
        start: run[0].address,
        count: count as u16,
        kind: "string",
        order,
        value: format!("\"{text}\""),
        why: "letters and digits".to_owned(),
        points,
    })
}

/// Of the shortest text that is this float and no other.
fn digits(value: f32) -> usize {
    let text = format!("{value:e}");
    let mantissa = text.split('e').next().unwrap_or_default();
    mantissa.bytes().filter(u8::is_ascii_digit).count()
}

/// A float in at most eleven characters.
pub fn shown(value: impl Copy + Display + Into<f64> + LowerExp) -> String {
    let plain = value.to_string();
    let size = value.into().abs();
    let is_usual = size == 0.0 || (1e-4..1e9).contains(&size);
    if !size.is_finite() || is_usual && plain.len() <= 11 {
        return plain;
    }
    if is_usual { plain.chars().take(11).collect() } else { format!("{value:.2e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(first: &[u16], second: &[u16]) -> Vec<Seen> {
        let second = |index: usize| Some(second.get(index).copied().unwrap_or(first[index]));
        let each = first.iter().enumerate();
        each.map(|(at, first)| Seen { address: at as u16, first: *first, second: second(at) })
            .collect()
    }

    #[track_caller]
    fn check(first: &[u16], second: &[u16], expected: &[&str]) {
        let guesses = guess(&seen(first, second));
        let said: Vec<String> = guesses
            .iter()
            .map(|guess| {
                let order = format!("{:?}", guess.order).to_uppercase();
                format!("{} {} {order} {}", guess.start, guess.kind, guess.value)
            })
            .collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn floats_of_a_meter_are_found_in_each_order() {
        // 230.1, 6.52, 1500.5 and 50.02.
        let high = [0x4366, 0x199A, 0x40D0, 0xA3D7, 0x44BB, 0x9000, 0x4248, 0x147B];
        let values = ["230.1", "6.52", "1500.5", "50.02"];
        for (order, name) in ORDERS.into_iter().zip(["ABCD", "CDAB", "BADC", "DCBA"]) {
            let place = |pair: &[u16]| {
                let bits = wide(pair[0], pair[1], order);
                [(bits >> 16) as u16, bits as u16]
            };
            let registers: Vec<u16> = high.chunks(2).flat_map(place).collect();
            let expected: Vec<String> =
                (0..4).map(|index| format!("{} f32 {name} {}", index * 2, values[index])).collect();
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            check(&registers, &[], &expected);
        }
    }

    #[test]
    fn small_numbers_texts_and_counters_are_told_apart() {
        check(&[2301, 4998, 17], &[], &["0 u16 ABCD 2301", "1 u16 ABCD 4998", "2 u16 ABCD 17"]);
        check(&[0xFFFF, 0xFF38], &[], &["0 i32 ABCD -200"]);
        check(&[0x5344, 0x4D36, 0x3330, 0x0000], &[], &["0 string ABCD \"SDM630\""]);
        check(&[0x4453, 0x364D, 0x0033], &[], &["0 string BADC \"SDM63\""]);
        check(&[1, 0x1170], &[1, 0x117A], &["0 u32 ABCD 70000"]);
        check(&[0, 0, 0], &[], &[]);
        assert!(guess(&seen(&[1, 0x1170], &[1, 0x117A]))[0].why.contains("a counter?"));
    }

    #[test]
    fn a_float_with_an_empty_lower_half_is_no_other_value_beside_zeros() {
        check(&[0, 0, 0x44AF, 0x4000, 0, 0], &[], &["2 f32 ABCD 1402"]);
    }

    #[test]
    fn what_is_not_beside_each_other_is_no_value() {
        let apart = [(0, 0x4366), (7, 0x199A)];
        let apart = apart.map(|(address, first)| Seen { address, first, second: None });
        assert!(guess(&apart).iter().all(|guess| guess.count == 1));
    }

    #[test]
    fn no_registers_whatsoever_cause_a_panic() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..500 {
            let registers: Vec<u16> = (0..random.usize(0..40)).map(|_| random.u16(..)).collect();
            let later: Vec<u16> = registers.iter().map(|_| random.u16(..)).collect();
            let guesses = guess(&seen(&registers, &later));
            let mut end = 0;
            for guess in guesses {
                assert!(guess.start >= end);
                end = guess.start + guess.count;
            }
            assert!(usize::from(end) <= registers.len());
        }
    }
}
