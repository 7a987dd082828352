//! A web service that takes what is posted to it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{free_listener, lines::Lines, until};

/// Listens at a port and answers `200`. Each body becomes a line, each header another, and so does what is asked for.
pub struct WebServer {
    pub port: u16,
    pub bodies: Lines,
    /// `name: value`, the name in small letters.
    pub headers: Lines,
    /// `GET /path`.
    pub asked: Lines,
    /// While it is shut, requests are read and not answered.
    open: Arc<AtomicBool>,
}

impl WebServer {
    pub fn start() -> WebServer {
        WebServer::serve(free_listener(), "")
    }

    /// Answers with JSON.
    pub fn answering(json: &'static str) -> WebServer {
        WebServer::serve(free_listener(), json)
    }

    #[track_caller]
    pub fn start_at(port: u16) -> WebServer {
        WebServer::serve(TcpListener::bind(("127.0.0.1", port)).expect("the port was free"), "")
    }

    fn serve(listener: TcpListener, json: &'static str) -> WebServer {
        let server = WebServer {
            port: listener.local_addr().expect("it listens").port(),
            bodies: Lines::default(),
            headers: Lines::default(),
            asked: Lines::default(),
            open: Arc::new(AtomicBool::new(true)),
        };
        let (bodies, headers) = (server.bodies.clone(), server.headers.clone());
        let asked = server.asked.clone();
        let open = Arc::clone(&server.open);
        // Ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (bodies, headers, asked) = (bodies.clone(), headers.clone(), asked.clone());
                let open = Arc::clone(&open);
                thread::spawn(move || serve(stream, json, &bodies, &headers, &asked, &open));
            }
        });
        server
    }

    /// From now on requests wait for their answer.
    pub fn shut(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// Answers those that wait, and all that come.
    pub fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/ingest", self.port)
    }
}

/// Serves one connection. The service took a body once it answers, so the body counts only then.
fn serve(
    stream: TcpStream,
    json: &str,
    bodies: &Lines,
    headers: &Lines,
    asked: &Lines,
    open: &AtomicBool,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ") {
                let name = name.to_ascii_lowercase();
                if name == "content-length" {
                    length = value.parse().ok()?;
                }
                headers.add(format!("{name}: {value}"));
            } else if let Some(request) = line.strip_suffix(" HTTP/1.1") {
                asked.add(request.to_owned());
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if !open.load(Ordering::SeqCst) {
            until("the service is open again", || open.load(Ordering::SeqCst));
        }
        bodies.add(String::from_utf8_lossy(&body).into_owned());
        let kind = if json.is_empty() { "" } else { "content-type: application/json\r\n" };
        let answer =
            format!("HTTP/1.1 200 OK\r\n{kind}content-length: {}\r\n\r\n{json}", json.len());
        stream.write_all(answer.as_bytes()).ok()?;
    }
}
