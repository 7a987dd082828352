//! A real browser that looks at the page: Chromium, driven by Playwright.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use super::{Forebay, command, kill, spawn, test_tools};

const SCRIPT: &str = "exec node \"$@\"";

/// A tab of it. Ends with the test.
pub struct Browser {
    process: Child,
    wishes: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    /// Opens an address. `look` is how Playwright describes a screen.
    #[track_caller]
    pub fn open(address: &str, look: &Value) -> Browser {
        Browser::of(command("sh").args(["-c", SCRIPT]), address, look)
    }

    /// The same in the network of a program that has one of its own.
    #[track_caller]
    pub fn open_inside(program: &Forebay, address: &str, look: &Value) -> Browser {
        Browser::of(&mut program.enter("n", SCRIPT), address, look)
    }

    #[track_caller]
    fn of(process: &mut Command, address: &str, look: &Value) -> Browser {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/browser.js");
        process
            .env("NODE_PATH", test_tools().join("node_modules"))
            .args(["sh", script, address, &look.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = spawn(process);
        let wishes = process.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut browser = Browser { process, wishes, answers };
        assert_eq!(browser.answer(), "ready");
        browser
    }

    /// Waits until an expression holds in the page. After how many milliseconds it did.
    #[track_caller]
    pub fn sees(&mut self, expression: &str) -> u64 {
        self.does(&json!({ "see": expression })).as_u64().expect("it is a number")
    }

    #[track_caller]
    pub fn clicks(&mut self, selector: &str) {
        self.does(&json!({ "click": selector }));
    }

    #[track_caller]
    pub fn presses(&mut self, key: &str) {
        self.does(&json!({ "press": key }));
    }

    #[track_caller]
    pub fn types(&mut self, text: &str, into: &str) {
        self.does(&json!({ "type": text, "into": into }));
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn says(&mut self, expression: &str) -> Value {
        self.does(&json!({ "say": expression }))
    }

    /// Takes a picture, for a person to look at.
    #[track_caller]
    pub fn pictures(&mut self, name: &str) {
        let folder = test_tools().join("pictures");
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        self.does(&json!({ "shot": folder.join(name) }));
    }

    /// Errors in the page, and whom else it asked.
    #[track_caller]
    pub fn wrong(&mut self) -> Value {
        self.does(&json!({ "wrong": true }))
    }

    #[track_caller]
    fn does(&mut self, wish: &Value) -> Value {
        writeln!(self.wishes, "{wish}").expect("the browser is there");
        self.answer()
    }

    #[track_caller]
    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the browser is there");
        let mut answer: Value = serde_json::from_str(&line).expect("a line of JSON each");
        assert_eq!(answer["error"], Value::Null, "{}", answer["error"]);
        answer["said"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}
