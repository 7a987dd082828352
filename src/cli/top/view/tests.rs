use serde_json::json;

use super::*;
use crate::cli::columns;

const PLANT: &str = "plant-of-the-second-building/温度計-é";

fn seen() -> Seen {
    let part = |name: &str, state: &str, errors: u64, waiting: u64, sent: f64| {
        json!({
            "name": name, "role": "sink", "type": "mqtt", "state": state, "for_s": 62, "why": (state == "waiting").then_some("nothing listens at broker.example:8883"),
            "counts": { "errors": errors }, "per_second": { "received": sent, "sent": sent },
            "queue": { "messages": waiting, "bytes": 100, "used": 0.5 },
        })
    };
    let nodes = [
        part(PLANT, "running", 0, 3, 0.5),
        part("a/cloud", "waiting", 7, 0, 0.0),
        part("a/meter", "running", 0, 12, 20.0),
    ];
    let status = json!({
        "version": "1.0.0", "pid": 7, "running_for_s": 3600, "health": { "state": "degraded", "why": ["sink a/cloud: waiting for a minute"] },
        "files": { "folder": "/etc/forebay", "data": "/var/lib/forebay", "pipelines": 1 }, "clock_is_set": true, "nodes": nodes, "connections": [], "reloads": [],
    });
    let last = json!({
        "time": "2026-11-29T12:00:00.000Z", "ago_s": 2, "topic": "a/b",
        "values": { "flow": 45.200_000_76, "power": 3, "室": "高い\u{1b}[31m", "gone": null, "tiny": 1e-9 },
        "units": { "flow": "degC" }, "quality": { "gone": "no answer" },
    });
    let values = json!({
        "every_s": 10, "fields": {}, "last": last,
        "errors": [{ "text": "it broke\nin two", "ago_s": 75, "times": 3 }, { "text": "before", "ago_s": 7200, "times": 1 }],
    });
    Seen {
        status: serde_json::from_value(status).unwrap(),
        last: serde_json::from_value(json!({ "a/cloud": last })).unwrap(),
        values: Some(("a/cloud".to_owned(), serde_json::from_value(values).unwrap())),
        away: None,
    }
}

fn view() -> View {
    View::new(Sort::default())
}

fn lines(view: &mut View, width: usize, height: usize) -> Vec<Line> {
    let seen = seen();
    view.choose(&seen.status);
    view.lines(&seen, width, height)
}

fn text(view: &mut View, width: usize, height: usize) -> String {
    lines(view, width, height).into_iter().map(|(line, _)| line + "\n").collect()
}

fn names(view: &mut View) -> Vec<String> {
    let lines = lines(view, 80, 24);
    lines[3..6].iter().map(|(line, _)| line.split(' ').next().unwrap().to_owned()).collect()
}

fn press(view: &mut View, code: KeyCode) {
    assert_eq!(view.press(code.into()), Pressed::Other);
}

#[test]
fn what_needs_a_look_comes_first() {
    let mut view = view();
    assert_eq!(names(&mut view), ["a/cloud", "a/meter", "…t-of-the-second-building/温度計-é"]);
    for (key, first) in [('n', "a/cloud"), ('r', "a/meter"), ('w', "a/meter"), ('e', "a/cloud")] {
        press(&mut view, KeyCode::Char(key));
        assert_eq!(names(&mut view)[0], first, "{key}");
    }
    assert_eq!(view.press(KeyCode::Char('q').into()), Pressed::Quit);
    let control = |key| KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
    assert_eq!(view.press(control('c')), Pressed::Quit);
    assert_eq!(view.press(control('z')), Pressed::Suspend);
}

#[test]
fn no_line_is_wider_than_the_terminal_nor_a_screen_higher_and_nothing_steers_it() {
    for (width, height) in [(80, 24), (40, 10), (10, 4), (1, 1), (100, 24), (300, 100)] {
        for at in 0..3 {
            let mut view = view();
            view.go(at);
            let lines = lines(&mut view, width, height);
            assert!(lines.len() <= height, "{height}");
            for (line, _) in lines {
                assert!(columns::width(&line) <= width, "{width}: {line:?}");
                assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
            }
        }
    }
}

#[test]
fn the_chosen_line_is_seen_and_explained() {
    let mut view = view();
    (0..9).for_each(|_| press(&mut view, KeyCode::Down));
    let marked = |view: &mut View| {
        let lines = lines(view, 80, 8);
        let marked: Vec<_> = lines.into_iter().filter(|(_, look)| *look == Look::Chosen).collect();
        let [(line, _)] = marked.as_slice() else { panic!("{marked:?}") };
        line.clone()
    };
    assert!(marked(&mut view).contains("温度計"));
    // It is followed when lines move, and the first line is whoever needs a look.
    press(&mut view, KeyCode::Char('r'));
    assert!(marked(&mut view).contains("温度計"));
    press(&mut view, KeyCode::Home);
    assert!(marked(&mut view).starts_with("a/meter"));
    press(&mut view, KeyCode::Char('s'));
    assert!(marked(&mut view).starts_with("a/cloud"));
}

#[test]
fn last_values_and_errors_are_told_where_there_is_room() {
    let narrow = text(&mut view(), 80, 24);
    for expected in [
        "a/cloud: sink of type mqtt; waiting: nothing listens at broker.example:8883",
        "2 seconds ago, a/b:  flow 45.2 degC  power 3  室 高い\u{fffd}[31m  gone - (no answer)",
        "tiny 1e-9",
        "error 1 minute ago, 3 times: it broke\u{fffd}in two",
        "error 2 hours ago: before",
    ] {
        assert!(narrow.contains(expected), "{expected}: {narrow}");
    }
    assert!(!narrow.contains("LAST VALUES"), "{narrow}");
    // Of each something, in three lines.
    let low = text(&mut view(), 40, 10);
    for expected in ["a/cloud: sink", "2 seconds ago", "error 1 minute ago"] {
        assert!(low.contains(expected), "{expected}: {low}");
    }
    let wide = text(&mut view(), 120, 24);
    assert!(wide.contains("AGO  LAST VALUES"), "{wide}");
    let row = wide.lines().find(|line| line.starts_with("a/cloud  ")).unwrap();
    assert!(row.contains("  2s  flow 45.2 degC  power 3"), "{row}");
}

#[test]
fn keys_are_explained_and_what_was_known_stays_while_nobody_answers() {
    let mut view = view();
    press(&mut view, KeyCode::Char('?'));
    assert!(text(&mut view, 80, 24).contains("Any key goes back."));
    assert!(HELP.lines().count() <= 24 && HELP.lines().all(|line| line.len() <= 80));
    press(&mut view, KeyCode::Char('q'));
    let mut seen = seen();
    seen.away = Some("nothing runs on /x".to_owned());
    view.choose(&seen.status);
    let lines = view.lines(&seen, 80, 24);
    assert_eq!(lines[1].0, "as it was: nothing runs on /x");
    assert!(lines[3].0.starts_with("a/cloud"));
}

#[test]
fn what_waits_for_a_moment_was_called_well() {
    let mut seen = seen();
    seen.status.health.why.clear();
    assert_eq!(wellness(&seen.status), "nothing that lasts: 1 has waited for a moment");
    seen.status.report.nodes.remove(1);
    assert_eq!(wellness(&seen.status), "all is well");
}

#[test]
fn what_was_measured_has_no_more_digits_than_that() {
    for (value, expected) in [
        (json!(45.200_000_76), "45.2"),
        (json!(0.001_234_567_8), "0.00123457"),
        (json!(123_456.789), "123457"),
        (json!(7), "7"),
        (json!(-2.0), "-2"),
        (json!(0.0), "0.0"),
        (json!(1e20), "1e+20"),
    ] {
        assert_eq!(short_number(value.as_number().unwrap()), expected);
    }
}
