//! The page in a browser shows what runs as it is, to whoever has the token, and asks nobody else.

use std::{fs, time::Duration};

use serde_json::json;

use crate::support::{Browser, Folder, Forebay, Proxy, free_port, now, program, start_inside};

const TOKEN: &str = "0123456789abcdef";

/// The examples, with a simulated meter and a broker, and the page.
fn examples() -> (Folder, Forebay, String) {
    let (folder, port) = (Folder::new(), free_port());
    folder
        .write("forebay.yaml", &format!("api: {{ listen: '127.0.0.1:{port}', token: {TOKEN} }}\n"));
    let mut demo = program();
    demo.args(["demo", "--folder"]).arg(folder.path());
    let running = Forebay::of(demo);
    running.wait_for_log("answers at http://");
    (folder, running, format!("http://127.0.0.1:{port}/"))
}

fn desk() -> serde_json::Value {
    json!({ "viewport": { "width": 1280, "height": 900 }, "colorScheme": "light" })
}

/// Nothing listens there.
fn stuck(port: u16) -> String {
    format!(
        "sources:\n  beat: {{ type: timer, every: 100ms }}\nsinks:\n  out: {{ from: beat, type: http, url: 'http://127.0.0.1:{port}/' }}\n"
    )
}

#[test]
fn the_page_draws_what_runs_and_shows_what_is_stuck_and_a_reload() {
    let (folder, running, address) = examples();
    let mut browser = Browser::open(&format!("{address}#token={TOKEN}"), &desk());
    for node in ["power-meter/meter", "power-meter/load", "power-meter/plant", "heartbeat/beat"] {
        browser.sees(&format!("!!document.querySelector('.node.running[data-open=\"{node}\"]')"));
    }
    assert_eq!(browser.says("location.href"), address.as_str(), "the token stays out of sight");

    // From when the engine says so. Once in three times a machine with other things to do may take longer.
    let mut after: Vec<u64> = (0..3)
        .map(|at| {
            if at > 0 {
                folder.remove("pipelines/extra.yaml");
                browser.sees("!document.querySelector('[data-open=\"extra/out\"]')");
            }
            let write = || folder.write("pipelines/extra.yaml", &stuck(free_port()));
            running.log_after("will try again", write);
            browser.sees("!!document.querySelector('.node.waiting[data-open=\"extra/out\"]')")
        })
        .collect();
    after.sort_unstable();
    assert!(after[1] < 2000, "the page showed a stuck sink after {after:?} ms");
    browser.sees("!!document.querySelector('.wire.stuck')");
    browser.sees("document.querySelector('#reloads').innerText.includes('pipelines/extra.yaml')");

    folder.write("pipelines/extra.yaml", "sources: 3\n");
    browser.sees(
        "document.querySelector('#care').innerText.includes('the files on disk are refused')",
    );
    browser
        .sees("document.querySelector('#findings').innerText.includes('pipelines/extra.yaml:1:')");
    // The error is seen among many warnings.
    let many: String =
        (0..60).map(|at| format!("  t{at}: {{ type: timer, every: 1h }}\n")).collect();
    folder.write("pipelines/all-unread.yaml", &format!("sources:\n{many}"));
    browser.sees("document.querySelector('#warnings').textContent.includes('and 11 more')");
    browser
        .sees("document.querySelector('#findings').innerText.includes('pipelines/extra.yaml:1:')");
    folder.remove("pipelines/all-unread.yaml");
    folder.remove("pipelines/extra.yaml");
    browser.sees("!document.querySelector('[data-open=\"extra/out\"]')");

    browser.clicks("[data-open='power-meter/meter']");
    browser.clicks("[data-tap='']");
    browser.sees("document.querySelector('#messages').innerText.includes('volts_l1')");
    // The first value is kept within twenty seconds.
    browser.sees("document.querySelector('#plots').innerText.includes('volts_l1')");
    browser.sees("document.querySelector('#plots').innerText.includes(' V')");
    browser.clicks("#settings summary");
    browser.sees("document.querySelector('#settings pre').innerText.includes('type: modbus')");
    browser.clicks("#log summary");
    browser.sees("document.querySelector('#log pre').innerText.includes('reload refused')");
    browser.pictures("page.png");
    browser.presses("Escape");
    browser.sees("document.querySelector('#part').hidden");
    assert_eq!(browser.wrong(), json!([]));
}

#[test]
fn a_buffer_is_dropped_on_the_page_by_two_presses_where_that_is_allowed() {
    let (folder, port) = (Folder::new(), free_port());
    let api = format!(
        "api: {{ listen: '127.0.0.1:{port}', token: {TOKEN}, allow: [reload, drop-buffer] }}\n"
    );
    folder.write("forebay.yaml", &api);
    folder.write("extra.yaml", &stuck(free_port()));
    let running = Forebay::run(folder.path());
    running.wait_for_log("answers at http://");
    let mut browser = Browser::open(&format!("http://127.0.0.1:{port}/#token={TOKEN}"), &desk());
    browser.sees("document.querySelector('#waits').innerText.includes('extra/out')");
    browser.clicks(".node[data-open='extra/out']");
    browser.sees("!document.querySelector('#drop').hidden");
    browser.clicks("#drop-buffer");
    browser.sees("document.querySelector('#drop-buffer').innerText.endsWith(' for good')");
    running.log_after("was dropped, as somebody asked", || browser.clicks("#drop-buffer"));
    browser.sees("document.querySelector('#drop .hint').innerText.includes('were dropped')");
    browser.presses("Escape");
    running.log_after("reload asked for", || browser.clicks("#reload-now button"));
    assert_eq!(browser.wrong(), json!([]));
}

#[test]
fn the_page_tells_nothing_without_the_token() {
    let (_folder, _running, address) = examples();
    let phone = json!({ "viewport": { "width": 390, "height": 800 }, "colorScheme": "dark" });
    let mut browser = Browser::open(&address, &phone);
    browser.sees("!document.querySelector('#door').hidden");
    assert_eq!(browser.says("document.querySelectorAll('.node').length"), 0);
    browser.types("wrong", "#token");
    browser.presses("Enter");
    browser.sees("document.querySelector('#door-why').innerText === 'That is not the token.'");
    browser.types(TOKEN, "#token");
    browser.presses("Enter");
    browser.sees("document.querySelectorAll('.node.running').length > 10");
    // By keyboard: along the wires and between rows, from node to node, into one, and back to it.
    browser.says("document.querySelector('.node').focus()");
    let focused = "document.activeElement.dataset.open";
    let first = browser.says(focused);
    browser.presses("ArrowRight");
    assert_ne!(browser.says(focused), first);
    browser.presses("ArrowLeft");
    assert_eq!(browser.says(focused), first);
    browser.presses("ArrowDown");
    assert_ne!(browser.says(focused), first);
    browser.presses("Tab");
    let second = browser.says("document.activeElement.dataset.open");
    browser.presses("Enter");
    browser.sees("!document.querySelector('#part').hidden");
    assert_eq!(browser.says("document.querySelector('#part-title').innerText"), second);
    browser.presses("Escape");
    assert_eq!(browser.says("document.activeElement.dataset.open"), second);
    let fits = "document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(browser.says(fits), true, "it has to be moved sideways on a phone");
    browser.pictures("page-phone.png");
    // What was asked without the token was refused, and nobody else was asked.
    let wrong = browser.wrong();
    let wrong = wrong.as_array().expect("a list");
    assert!(wrong.iter().all(|it| it.to_string().contains("401")), "{wrong:?}");
}

/// After a night of sleep, or behind a router that forgot the connection, dashboards go on showing what was last told.
#[test]
fn a_page_that_hears_nothing_more_says_so_and_asks_again() {
    let folder = Folder::new();
    let port = free_port();
    folder
        .write("forebay.yaml", &format!("api: {{ listen: '127.0.0.1:{port}', token: {TOKEN} }}\n"));
    folder.write("extra.yaml", &stuck(free_port()));
    let running = Forebay::run(folder.path());
    running.wait_for_log("answers at http://");
    let link = Proxy::to(port);
    let address = format!("http://127.0.0.1:{}/#token={TOKEN}", link.port);
    let mut browser = Browser::open(&address, &desk());
    browser.sees("!!document.querySelector('[data-open=\"extra/out\"]')");
    link.swallow();
    browser.sees("document.querySelector('#state').innerText === 'no answer'");
    link.heal();
    browser.sees("document.querySelector('#state').innerText !== 'no answer'");
    assert_eq!(browser.wrong(), json!([]));
}

/// Two hundred nodes, which send each second.
fn large(folder: &Folder, data: &Folder) {
    const BRANCHES: usize = 66;
    let data = data.path().display();
    for half in ["north", "south"] {
        let mut text = [
            "sources:\n  beat: { type: timer, every: 1s }\n".to_owned(),
            "transforms:\n".to_owned(),
            "sinks:\n".to_owned(),
        ];
        for at in 0..BRANCHES / 2 {
            let fields = format!("fields: {{ count: 'msg.payload.count * {at}' }}");
            text[1] += &format!(
                "  map-{at}: {{ from: beat, type: map, {fields} }}\n  slow-{at}: {{ from: map-{at}, type: throttle, every: 1s }}\n"
            );
            text[2] += &format!(
                "  out-{at}: {{ from: slow-{at}, type: file, path: {data}/{half}-{at}.jsonl }}\n"
            );
        }
        folder.write(&format!("{half}.yaml"), &text.concat());
    }
}

#[test]
fn over_64_kbit_a_second_two_hundred_nodes_are_seen_soon_and_leave_room_for_others() {
    let (folder, data) = (Folder::new(), Folder::new());
    large(&folder, &data);
    folder.write("forebay.yaml", &format!("api: {{ listen: '127.0.0.1:9464', token: {TOKEN} }}\n"));
    let link = "PATH=$PATH:/usr/sbin:/sbin\nip link set lo mtu 1500 up\n\
                tc qdisc add dev lo root tbf rate 64kbit burst 3000 limit 30000";
    let Some(running) = start_inside("n", link, folder.path(), data.path()) else { return };
    running.wait_for_log("answers at http://");
    // Of both directions, with what the protocols below need.
    let bytes = || {
        let path = format!("/proc/{}/net/dev", running.id());
        let text = fs::read_to_string(path).expect("it runs");
        let loopback = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
        let sent = loopback.and_then(|numbers| numbers.split_whitespace().nth(8)?.parse().ok());
        sent.unwrap_or_else(|| panic!("{text}"))
    };
    let before: u64 = bytes();
    let began = now();
    let mut browser =
        Browser::open_inside(&running, &format!("http://127.0.0.1:9464/#token={TOKEN}"), &desk());
    browser.sees("document.querySelectorAll('.node').length === 200");
    let (took, first) = (began.elapsed(), bytes() - before);
    assert!(took < Duration::from_secs(15), "the first picture came after {took:?}");
    assert!(first < 60_000, "the first picture took {first} bytes");
    let (before, began) = (bytes(), now());
    let seconds =
        "Number(/runs for (\\d+) s/.exec(document.querySelector('#about').innerText)?.[1] ?? 1e9)";
    let second = browser.says(seconds).as_f64().expect("it is a number");
    browser.sees(&format!("{seconds} >= {}", second + 10.0));
    let rate = (bytes() - before) as f64 / began.elapsed().as_secs_f64();
    eprintln!("first picture: {first} bytes in {took:?}; then {rate:.0} bytes/s");
    assert!(rate < 4000.0, "looking takes {rate} bytes a second of 8000");
    assert_eq!(browser.wrong(), json!([]));
}
