//! What a simulated device does wrong, and when. Pure: all chance comes from a seed.

use std::time::Duration;

use fastrand::Rng;

/// Something that goes wrong now and then.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub what: What,
    pub when: When,
    /// Only with these devices; with all when empty.
    pub units: Vec<u8>,
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// It is carried out, and answered so much later.
    Late(Duration),
    /// The answer has the transaction id of another (only Modbus TCP has them).
    WrongId,
    /// The answer is that of another unit.
    WrongUnit,
    /// The answer is to another function.
    WrongFunction,
    /// The answer has two bytes too few.
    WrongLength,
    /// It is refused with this exception.
    Exception(u8),
    /// It is carried out, and not answered.
    Silence,
    /// It is neither carried out nor answered.
    Deaf,
    /// A bit of the answer is another. Over Modbus TCP one of its head: nothing there would show that
    /// one of a value is.
    BitError,
    /// The link is closed behind the answer.
    HangUp,
    /// So many bytes that are no frame come first.
    Noise(u8),
    /// The answer comes twice.
    Twice,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// At each such request, from the first of them on.
    Every(u32),
    /// By chance, from 0 to 1.
    Chance(f64),
}

/// All that a device does wrong.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Each with how many requests it has seen.
    faults: Vec<(Fault, u32)>,
    pub random: Rng,
}

impl Faults {
    pub fn new(faults: Vec<Fault>, seed: u64) -> Faults {
        let faults = faults.into_iter().map(|fault| (fault, 0)).collect();
        Faults { faults, random: Rng::with_seed(seed) }
    }

    /// What goes wrong with the next request to a unit.
    pub fn next(&mut self, unit: u8) -> Vec<What> {
        let mut strikes = Vec::new();
        for (fault, seen) in &mut self.faults {
            if !fault.units.is_empty() && !fault.units.contains(&unit) {
                continue;
            }
            *seen = seen.wrapping_add(1);
            let is_now = match fault.when {
                When::Every(every) => (*seen).is_multiple_of(every),
                When::Chance(chance) => self.random.f64() < chance,
            };
            if is_now {
                strikes.push(fault.what);
            }
        }
        strikes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_as_often_as_wanted_and_always_alike() {
        let fault = |what, when, units: &[u8]| Fault { what, when, units: units.to_vec() };
        let faults = vec![
            fault(What::Silence, When::Every(3), &[]),
            fault(What::WrongId, When::Chance(0.25), &[2]),
        ];
        let run = || {
            let mut faults = Faults::new(faults.clone(), 7);
            let each = (0..3000).map(|n| faults.next(if n % 2 == 0 { 1 } else { 2 }));
            each.collect::<Vec<_>>()
        };
        let (first, second) = (run(), run());
        assert_eq!(first, second);
        assert_eq!(first[2], [What::Silence]);
        let count = |what| first.iter().filter(|strikes| strikes.contains(&what)).count();
        assert_eq!(count(What::Silence), 1000);
        assert!((300..450).contains(&count(What::WrongId)), "{}", count(What::WrongId));
        assert!(first.iter().step_by(2).all(|strikes| !strikes.contains(&What::WrongId)));
    }
}
