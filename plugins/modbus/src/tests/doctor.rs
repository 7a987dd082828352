//! What `forebay doctor` says of devices.

use forebay_sdk::{Examination, Step};

use super::*;
use crate::simulate::{
    fault::Faults,
    image::Image,
    server::{Devices, Simulator, Wire},
};

/// What `forebay doctor` says of a peer that speaks one kind of frames and is taken for one of another.
async fn doctor_says(url: &str, speaks: Framing) -> Vec<String> {
    let memory = memory();
    let mut peers = JoinSet::new();
    let mut image = Image::default();
    image.put(Table::Holding, 0, &[7]);
    let simulator = Simulator::new(Devices {
        units: [(1, image)].into(),
        faults: Faults::new(vec![], 1),
        most_clients: 1,
        swallow: Duration::ZERO,
        told: Box::new(|_, _| ()),
    });
    let wire = Wire { framing: speaks, line: None };
    peers.spawn(simulator.serve(Box::new(memory.open("10.0.0.5:502")), wire));
    let configured = testing::configure(&connection(), &format!("url: {url}\ntimeout: 300ms"));
    let configured = configured.unwrap();
    let steps = Mutex::new(Vec::new());
    let tell = |step: Step| {
        steps.lock().unwrap().push(format!("{}: {}; {}", step.what, step.seen, step.help))
    };
    let site = Site { world: memory.world(), ..testing::site(None) };
    let asked = Examination { site, users: &[], topic: None, tell: &tell };
    configured.examine(&asked).unwrap().await;
    steps.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_converter_that_speaks_the_other_kind_of_frames_was_only_silent() {
    let steps = doctor_says("tcp://10.0.0.5", Framing::Rtu).await;
    let expected = "frames: unit 1 answers in RTU over TCP; `url: \"rtu+tcp://10.0.0.5:502\"`";
    assert_eq!(steps.last().unwrap(), expected, "{steps:?}");
    let steps = doctor_says("rtu+tcp://10.0.0.5", Framing::Tcp).await;
    let expected = "frames: unit 1 answers in Modbus TCP; `url: \"tcp://10.0.0.5:502\"`";
    assert_eq!(steps.last().unwrap(), expected, "{steps:?}");
    let steps = doctor_says("tcp://10.0.0.5", Framing::Tcp).await;
    assert!(!steps.iter().any(|step| step.starts_with("frames")), "{steps:?}");
}
