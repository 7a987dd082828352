//! Tries random schedules of faults on a test, and makes what it finds as short as it gets.
//!
//! What the test itself expects does not count here: a fault may well be why it does not come. What must hold whatever
//! happens is that nothing is lost that the engine called delivered, that all of the rest arrives once the world is well
//! again, and that nothing comes more often than once, and once more for each thing that happens.

use std::{fmt::Write as _, time::Duration};

use forebay_sdk::Period;

use super::{
    case::{Expected, Said, Step, Test},
    judge::Account,
    run::{How, run},
    settings::{DiskWord, LinkWord, PowerWord, WaySettings},
};
use crate::config::Name;

/// So much of a test is tried: faults come in it.
const LONGEST: Duration = Duration::from_secs(1800);
/// So long the world is well afterwards. The longest pauses between two tries are shorter.
const WELL_AGAIN: Duration = Duration::from_secs(1800);
/// What goes in so shortly before the end may still be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(60);
/// The most faults in a schedule.
const MOST: usize = 8;

/// A schedule that breaks a promise.
pub struct Found {
    /// What it comes from again.
    pub seed: u64,
    /// What is broken.
    pub broken: Vec<String>,
    /// To be pasted into a file of tests.
    pub test: String,
}

/// A fault, at once or for a while.
#[derive(Clone)]
struct Fault {
    at: Duration,
    until: Duration,
    what: What,
}

#[derive(Clone)]
enum What {
    Link(Name, LinkWord),
    Latency(Name, Duration),
    Loss(Name, u8),
    Disk(DiskWord),
    Power,
    Clock(i64),
    /// Another version that the test has, or the first again.
    Reload(usize),
}

/// Tries one schedule. None when it broke nothing.
///
/// # Errors
///
/// When a test cannot be run.
pub fn fuzz(test: &Test, seed: u64) -> anyhow::Result<Option<Found>> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut test = test.clone();
    let versions = versions(&test);
    let mut faults = schedule(&test, versions.len(), &mut dice);
    let broken_by = |test: &Test, faults: &[Fault]| broken(test, &versions, faults, seed);
    let mut broken = broken_by(&test, &faults)?;
    if broken.is_empty() {
        return Ok(None);
    }
    let alone = Test { steps: Vec::new(), ..test.clone() };
    let still = broken_by(&alone, &faults)?;
    if !still.is_empty() {
        (test, broken) = (alone, still);
    }
    // One after the other is left out, as long as that is still enough.
    let mut index = 0;
    while index < faults.len() {
        let mut fewer = faults.clone();
        fewer.remove(index);
        let still = broken_by(&test, &fewer)?;
        match still.is_empty() {
            true => index += 1,
            false => (faults, broken, index) = (fewer, still, 0),
        }
    }
    Ok(Some(Found { seed, broken, test: written(&test, &versions, &faults, seed) }))
}

/// The versions of the pipeline that a test knows: a file, and what it is of. The first is the one that it begins with.
type Versions = Vec<(String, std::sync::Arc<super::scene::Scene>)>;

fn versions(test: &Test) -> Versions {
    let first = (test.pipeline.clone(), test.scene.clone().into());
    let others = test.steps.iter().filter_map(|step| step.uses.clone());
    std::iter::once(first).chain(others).collect()
}

fn schedule(test: &Test, versions: usize, dice: &mut fastrand::Rng) -> Vec<Fault> {
    let seconds = test.lasts.min(LONGEST).as_secs().max(2);
    let members: Vec<&Name> = test.scene.members.keys().collect();
    let count = dice.usize(1..=MOST);
    let mut faults = Vec::new();
    while faults.len() < count {
        let at = dice.u64(1..seconds);
        let until = Duration::from_secs(dice.u64(at..seconds));
        let member = dice.choice(&members).map(|name| Name::clone(name));
        let what = match (dice.u8(..10), member) {
            (0 | 1, Some(member)) => What::Link(member, LinkWord::Down),
            (2, Some(member)) => What::Link(member, LinkWord::Silent),
            (3, Some(member)) => What::Link(member, LinkWord::Cut),
            (4, Some(member)) => What::Latency(member, Duration::from_millis(dice.u64(1..5000))),
            (5, _) => What::Disk(if dice.bool() { DiskWord::Full } else { DiskWord::ReadOnly }),
            (6, _) => What::Clock(dice.i64(-3600..86_400)),
            (7, _) => What::Reload(dice.usize(..versions)),
            (8, Some(member)) => What::Loss(member, dice.u8(1..60)),
            _ => What::Power,
        };
        faults.push(Fault { at: Duration::from_secs(at), until, what });
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// Runs a test with these faults, until the world has been well for long: what is broken then.
fn broken(
    test: &Test,
    versions: &Versions,
    faults: &[Fault],
    seed: u64,
) -> anyhow::Result<Vec<String>> {
    let lasts = test.lasts.min(LONGEST);
    let own = test.steps.iter().filter(|step| step.at < lasts).cloned();
    let own = own.map(|step| Step { expected: Expected::default(), restarts: None, ..step });
    let steps = faults.iter().flat_map(|fault| fault.steps(versions));
    let mut steps: Vec<Step> = own.chain(steps.map(|(step, _)| step)).collect();
    steps.sort_by_key(|step| step.at);
    let happens = steps.len() as u64;
    let names = test.scene.members.keys();
    steps.push(Step {
        at: lasts,
        world: names.map(|name| said(name, well())).collect(),
        disk: Some(DiskWord::Works),
        ..Step::default()
    });
    let expected = Expected::default();
    let end = lasts + WELL_AGAIN;
    let tried = Test { lasts: end, steps, expected, ..test.clone() };
    let record = run(&tried, How { seed, updates: false, covers: false })?.record;
    let mut broken = Vec::new();
    for member in tried.scene.members.keys() {
        let mut account = Account::of_promises(&tried, member, &record);
        account.lost.retain(|(at, _)| *at + ON_ITS_WAY < end);
        // What limits drop is dropped on purpose.
        if account.lost.len() as u64 > account.dropped {
            broken.push(account.lost_in_words(member, account.dropped));
        }
        if account.most_again > happens {
            let often = account.most_again;
            broken.push(format!(
                "{member}: one arrived {often} times more than it went in, expected at most {happens}"
            ));
        }
    }
    Ok(broken)
}

impl Fault {
    /// What happens, and how a test says it behind the time.
    fn steps(&self, versions: &Versions) -> Vec<(Step, String)> {
        let begin = Step { at: self.at, ..Step::default() };
        let end = Step { at: self.until, ..Step::default() };
        let world = |step: &Step, name: &Name, way: WaySettings, words: &str| {
            let step = Step { world: vec![said(name, way)], ..step.clone() };
            (step, format!("world: {{ {name}: {words} }}"))
        };
        match &self.what {
            What::Link(name, LinkWord::Cut) => {
                vec![world(&begin, name, link(LinkWord::Cut), "cut")]
            }
            What::Link(name, word) => {
                let words = if *word == LinkWord::Silent { "silent" } else { "down" };
                vec![
                    world(&begin, name, link(*word), words),
                    world(&end, name, link(LinkWord::Up), "up"),
                ]
            }
            What::Latency(name, latency) => {
                let words = format!("{{ latency: {} }}", Period(*latency));
                vec![
                    world(&begin, name, latent(*latency), &words),
                    world(&end, name, latent(Duration::ZERO), "{ latency: 0ms }"),
                ]
            }
            What::Loss(name, percent) => {
                let lossy = |loss| WaySettings { loss: Some(loss), ..WaySettings::default() };
                vec![
                    world(&begin, name, lossy(*percent), &format!("{{ loss: {percent} }}")),
                    world(&end, name, lossy(0), "{ loss: 0 }"),
                ]
            }
            What::Disk(word) => {
                let words = if *word == DiskWord::Full { "full" } else { "read_only" };
                let works = Some(DiskWord::Works);
                vec![
                    (Step { disk: Some(*word), ..begin }, format!("disk: {words}")),
                    (Step { disk: works, ..end }, "disk: works".to_owned()),
                ]
            }
            What::Power => {
                vec![(Step { power: Some(PowerWord::Cut), ..begin }, "power: cut".to_owned())]
            }
            What::Clock(seconds) => {
                let sign = if *seconds < 0 { '-' } else { '+' };
                let by = Period(Duration::from_secs(seconds.unsigned_abs()));
                let clock_nanos = seconds.saturating_mul(1_000_000_000);
                vec![(Step { clock_nanos, ..begin }, format!("clock: {sign}{by}"))]
            }
            What::Reload(version) => {
                let (file, _) = &versions[*version];
                let uses = Some(versions[*version].clone());
                vec![(Step { uses, ..begin }, format!("use: {file}"))]
            }
        }
    }
}

fn said(member: &Name, way: WaySettings) -> Said {
    Said { member: Name::clone(member), way, told: None }
}

fn link(word: LinkWord) -> WaySettings {
    WaySettings { link: Some(word), ..WaySettings::default() }
}

fn latent(latency: Duration) -> WaySettings {
    WaySettings { latency: Some(Period(latency)), ..WaySettings::default() }
}

fn well() -> WaySettings {
    WaySettings { link: Some(LinkWord::Up), loss: Some(0), ..latent(Duration::ZERO) }
}

/// A test that shows it.
fn written(test: &Test, versions: &Versions, faults: &[Fault], seed: u64) -> String {
    let lasts = Period(test.lasts.min(LONGEST) + WELL_AGAIN);
    let beside = match test.steps.is_empty() {
        true => String::new(),
        false => format!("    # Beside those of `{}`.\n", test.name),
    };
    let mut text = format!(
        "  - name: what was found with the seed {seed}\n    for: {lasts}\n{beside}    steps:\n"
    );
    let mut steps: Vec<_> = faults.iter().flat_map(|fault| fault.steps(versions)).collect();
    steps.sort_by_key(|(step, _)| step.at);
    for (Step { at, .. }, what) in steps {
        let _ = writeln!(text, "      - {{ at: {}, {what} }}", Period(at));
    }
    let members = test.scene.members.keys().filter(|name| !test.scene.sinks_of(name).is_empty());
    let lost: Vec<String> = members.map(|name| format!("{name}: {{ lost: 0 }}")).collect();
    let _ = writeln!(text, "    arrives: {{ {} }}", lost.join(", "));
    text
}
