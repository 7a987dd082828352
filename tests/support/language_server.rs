//! The YAML language server that editors use, as a process with an open file.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use serde_json::{Value, json};

use super::{command, kill, longest_wait, spawn, test_tools};

/// A server that has one file open.
pub struct LanguageServer {
    process: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    uri: String,
    /// Of the text and of requests.
    version: u64,
}

impl LanguageServer {
    /// Starts the server with a text as the content of a file.
    #[track_caller]
    pub fn open(file: &Path, text: &str) -> LanguageServer {
        let mut process = command("node");
        process.arg(program()).arg("--stdio").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = spawn(&mut process);
        let input = process.stdin.take().expect("stdin is piped");
        let output = process.stdout.take().expect("stdout is piped");
        let (sender, messages) = sync_channel(100);
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Some(message) = receive(&mut output) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let uri = format!("file://{}", file.display());
        let mut server = LanguageServer { process, input, messages, uri, version: 1 };
        let capabilities = json!({ "workspace": { "configuration": true } });
        server.request(
            "initialize",
            json!({ "processId": null, "rootUri": null, "capabilities": capabilities }),
        );
        server.send(json!({ "method": "initialized", "params": {} }));
        let document =
            json!({ "uri": server.uri, "languageId": "yaml", "version": 1, "text": text });
        server.send(
            json!({ "method": "textDocument/didOpen", "params": { "textDocument": document } }),
        );
        server
    }

    /// Puts a text in the place of what the file held.
    pub fn change(&mut self, text: &str) {
        self.version += 1;
        let document = json!({ "uri": self.uri, "version": self.version });
        let params = json!({ "textDocument": document, "contentChanges": [{ "text": text }] });
        self.send(json!({ "method": "textDocument/didChange", "params": params }));
    }

    /// What is wrong with the text: lines from 1, and messages. `until` says when they are those
    /// that belong to the text, since the server works while one types.
    #[track_caller]
    pub fn diagnostics(&mut self, until: impl Fn(&[(u64, String)]) -> bool) -> Vec<(u64, String)> {
        loop {
            let message =
                self.wait(|message| message["method"] == "textDocument/publishDiagnostics");
            let list = message["params"]["diagnostics"].as_array().cloned().unwrap_or_default();
            let one = |one: &Value| {
                let line = one["range"]["start"]["line"].as_u64().unwrap_or_default() + 1;
                (line, one["message"].as_str().unwrap_or_default().to_owned())
            };
            let found: Vec<(u64, String)> = list.iter().map(one).collect();
            if until(&found) {
                return found;
            }
        }
    }

    /// What is shown when the mouse rests at a line and column, both from 1.
    #[track_caller]
    pub fn hover(&mut self, line: usize, column: usize) -> String {
        let shown = self.request("textDocument/hover", self.place(line, column));
        let contents = &shown["contents"];
        contents["value"].as_str().or(contents.as_str()).unwrap_or_default().to_owned()
    }

    /// What may be typed at a line and column, both from 1.
    #[track_caller]
    pub fn completion(&mut self, line: usize, column: usize) -> Vec<String> {
        let offered = self.request("textDocument/completion", self.place(line, column));
        let items = offered["items"].as_array().or(offered.as_array()).cloned().unwrap_or_default();
        items.iter().filter_map(|item| item["label"].as_str().map(str::to_owned)).collect()
    }

    fn place(&self, line: usize, column: usize) -> Value {
        json!({
            "textDocument": { "uri": self.uri },
            "position": { "line": line - 1, "character": column - 1 },
        })
    }

    #[track_caller]
    fn request(&mut self, method: &str, params: Value) -> Value {
        self.version += 1;
        let id = self.version;
        self.send(json!({ "id": id, "method": method, "params": params }));
        self.wait(|message| message["id"] == id && message.get("method").is_none())["result"]
            .clone()
    }

    /// Answers what the server asks meanwhile: it must not look for schemas on the internet.
    #[track_caller]
    fn wait(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.messages.recv_timeout(longest_wait()).expect("the server answers");
            if is_it(&message) {
                return message;
            }
            if message.get("method").is_some() && message.get("id").is_some() {
                let settings = |item: &Value| match item["section"].as_str() {
                    Some("yaml") => json!({
                        "schemaStore": { "enable": false }, "kubernetesCRDStore": { "enable": false },
                        "validate": true, "hover": true, "completion": true,
                    }),
                    _ => Value::Null,
                };
                let items = message["params"]["items"].as_array().cloned().unwrap_or_default();
                let result: Vec<Value> = items.iter().map(settings).collect();
                self.send(json!({ "id": message["id"], "result": result }));
            }
        }
    }

    fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = "2.0".into();
        let text = message.to_string();
        let frame = format!("Content-Length: {}\r\n\r\n{text}", text.len());
        self.input.write_all(frame.as_bytes()).expect("the server reads");
    }
}

impl Drop for LanguageServer {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

/// Headers, an empty line, and as many bytes as they say. None at the end.
fn receive(output: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        output.read_line(&mut line).ok().filter(|count| *count > 0)?;
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?;
            }
            Some(_) => (),
            None => break,
        }
    }
    let mut text = vec![0; length];
    output.read_exact(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[track_caller]
fn program() -> PathBuf {
    let folder = "node_modules/yaml-language-server/bin/yaml-language-server";
    test_tools().join(folder)
}
