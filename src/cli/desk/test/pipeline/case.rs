//! A test, as it was read.

use std::{path::PathBuf, sync::Arc, time::Duration};

use forebay_yaml::Yaml;

use super::{
    scene::Scene,
    sent::Sent,
    settings::{ArrivesSettings, DiskWord, ExpectSettings, PowerWord, SendSettings, WaySettings},
};
use crate::config::Name;

/// A test that can run.
#[derive(Clone)]
pub struct Test {
    pub name: String,
    /// Where it stands: `pipelines/boiler.test.yaml:4:5`.
    pub place: String,
    /// The folder of the file, which `golden:` is relative to.
    pub beside: PathBuf,
    /// The folder of the pipelines.
    pub root: PathBuf,
    /// The file of the pipeline, from there.
    pub pipeline: String,
    pub lasts: Duration,
    pub scene: Scene,
    /// How the world is at the beginning.
    pub world: Vec<Said>,
    pub steps: Vec<Step>,
    /// What sources send that play back a recording.
    pub replays: Vec<(Name, Vec<Sent>)>,
    pub expected: Expected,
}

/// What is said of another side.
#[derive(Clone)]
pub struct Said {
    pub member: Name,
    pub way: WaySettings,
    /// For who plays it.
    pub told: Option<Yaml>,
}

/// Something that happens.
#[derive(Clone, Default)]
pub struct Step {
    pub at: Duration,
    pub world: Vec<Said>,
    pub send: Vec<(Name, SendSettings)>,
    /// The graph of now on, and the file that it is of.
    pub uses: Option<(String, Arc<Scene>)>,
    /// What that makes anew or begins.
    pub restarts: Option<Vec<String>>,
    /// How far the wall clock is set ahead, in nanoseconds.
    pub clock_nanos: i64,
    pub disk: Option<DiskWord>,
    pub power: Option<PowerWord>,
    pub expected: Expected,
}

/// What is expected at one moment, by what is written.
#[derive(Clone, Default)]
pub struct Expected {
    pub outputs: Vec<(String, ExpectSettings)>,
    pub members: Vec<(String, Name, ArrivesSettings)>,
}
