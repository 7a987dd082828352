//! The output of a process, line by line, as it comes.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{longest_wait, now};

/// Lines that a process has printed so far. Clones show the same.
#[derive(Clone, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    lines: Mutex<Vec<String>>,
    more: Condvar,
    /// Streams that are being read.
    open: AtomicUsize,
    /// Whether there were any, and all have ended.
    ended: AtomicBool,
}

impl Lines {
    /// Reads until the other end is closed. Several streams may come together.
    pub fn collect(&self, stream: impl Read + Send + 'static) {
        let lines = self.clone();
        self.0.open.fetch_add(1, Ordering::SeqCst);
        self.0.ended.store(false, Ordering::SeqCst);
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                lines.add(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            lines.end_of_one();
        });
    }

    fn end_of_one(&self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _lines = self.lock();
            self.0.ended.store(true, Ordering::SeqCst);
            self.0.more.notify_all();
        }
    }

    pub fn add(&self, line: String) {
        self.lock().push(line);
        self.0.more.notify_all();
    }

    pub fn all(&self) -> Vec<String> {
        self.lock().clone()
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// How many lines contain the text.
    pub fn count_of(&self, text: &str) -> usize {
        self.lock().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line, at most until the streams end, from the one numbered `from` on. Returns its number and itself.
    #[track_caller]
    pub fn wait_for(
        &self,
        what: &str,
        from: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> (usize, String) {
        let deadline = now() + longest_wait();
        let mut lines = self.lock();
        let mut seen = from;
        loop {
            while seen < lines.len() {
                if wanted(&lines[seen]) {
                    return (seen, lines[seen].clone());
                }
                seen += 1;
            }
            let left = deadline.saturating_duration_since(now());
            let ended = self.0.ended.load(Ordering::SeqCst);
            if ended || left.is_zero() {
                let why = if ended { "until its end" } else { "in time" };
                let all = lines.join("\n");
                // The test that fails must not spoil the lock for whoever cleans up.
                drop(lines);
                panic!("no {what} {why}, only:\n{all}");
            }
            lines = self.0.more.wait_timeout(lines, left).expect("no reader panics").0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        // A test that failed while it looked is reported by itself.
        self.0.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
