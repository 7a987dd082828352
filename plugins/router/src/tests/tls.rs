//! Whether it is the router that answers.

use std::time::Duration;

use forebay_sdk::{tls::Fingerprint, world::memory::Memory};
use tokio::time::sleep;

use super::{NOW, connect, next, shapes::modem, simulated::Simulated};

const URL: &str = "url: https://192.168.1.1\nusername: forebay\npassword: secret-of-the-router\n";

fn world() -> (Memory, Simulated, Fingerprint) {
    let memory = Memory::new(NOW);
    let router = Simulated::start(&memory);
    router.put("/api/modems/status", modem());
    let pin = Fingerprint::of(&router.certify());
    (memory, router, pin)
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_the_routers_own_making_is_known_by_its_fingerprint() {
    let (memory, _router, pin) = world();
    let mut running = connect(&memory, &format!("{URL}fingerprint: \"{pin}\""));
    let mut collected = running.read("groups: [signal]");
    assert_eq!(next(&mut collected).await["signal"]["rsrp"], -83);
}

#[tokio::test]
async fn a_certificate_that_nothing_knows_keeps_the_password_and_says_what_to_write() {
    let (memory, router, pin) = world();
    let running = connect(&memory, URL);
    let words = first_trouble(&running).await;
    assert!(
        words.starts_with("nothing shows yet that https://192.168.1.1 is the router, for nobody here knows its certificate"),
        "{words}"
    );
    assert!(words.ends_with(&format!("`fingerprint: \"{pin}\"`")), "{words}");
    assert_eq!(router.count("/api/login"), 0);
}

#[tokio::test]
async fn a_certificate_that_was_changed_keeps_the_password() {
    let (memory, router, pin) = world();
    let other = Fingerprint::of(&router.certify());
    let running = connect(&memory, &format!("{URL}fingerprint: \"{pin}\""));
    let words = first_trouble(&running).await;
    let expected = "https://192.168.1.1 is not trusted: it shows another certificate than the one in `fingerprint`: ";
    assert!(words.starts_with(expected) && words.contains(&other.to_string()), "{words}");
    assert_eq!(router.count("/api/login"), 0);
}

async fn first_trouble(running: &super::Running) -> String {
    for _ in 0..600 {
        if let Some(words) = running.heard.said().troubles.first() {
            return words.clone();
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing was said in a minute");
}
