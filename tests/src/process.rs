//! A child process whose log is read while it runs, so that a test waits for a line instead of for a while.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A process of which standard error is the log.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
}

/// A process that another one has started, as the system shows it.
#[derive(Clone, Debug)]
pub struct Spawned {
    /// Its words, with spaces between them.
    pub command: String,
    /// Its table of limits.
    pub limits: String,
    /// What environment it was started with.
    pub environment: String,
}

/// Lines so far, and whether there will be more.
#[derive(Debug, Default)]
struct Log {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Process {
    /// Starts `command` with its standard error as the log.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary can be started");
        let errors = child.stderr.take().expect("standard error is piped");
        let log = Arc::new(Log::default());
        let filled = log.clone();
        let read = move || {
            for line in BufReader::new(errors).split(b'\n').map_while(Result::ok) {
                filled.change(|state| state.0.push(String::from_utf8_lossy(&line).into_owned()));
            }
            filled.change(|state| state.1 = true);
        };
        let reader = thread::Builder::new().name("log".to_owned()).spawn(read).expect("a thread can be started");
        Self { child, log, reader: Some(reader) }
    }

    /// Starts `command` with standard error going into a pipe that nobody reads any more.
    pub(crate) fn start_unread(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary can be started");
        drop(child.stderr.take());
        let log = Arc::new(Log::default());
        log.change(|state| state.1 = true);
        Self { child, log, reader: None }
    }

    /// Writes all of standard input and closes it.
    pub(crate) fn write(&mut self, input: &[u8]) {
        let mut stdin = self.child.stdin.take().expect("standard input is piped");
        // A process that has enough, or refuses, closes its end: its exit code says which.
        let _ = stdin.write_all(input);
    }

    /// Writes to standard input and leaves it open.
    pub(crate) fn feed(&mut self, input: &[u8]) {
        self.child.stdin.as_mut().expect("standard input is piped").write_all(input).expect("it is read");
    }

    /// Everything on standard output, when it ends.
    pub(crate) fn output(&mut self) -> String {
        std::io::read_to_string(self.child.stdout.take().expect("standard output is piped")).expect("it is UTF-8")
    }

    /// The first line of the log for which `look` finds something.
    pub(crate) fn wait_for<T>(&self, what: &str, within: Duration, look: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + within;
        let mut seen = 0;
        let mut state = self.log.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = state.0[seen..].iter().find_map(|line| look(line)) {
                return found;
            }
            seen = state.0.len();
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!state.1, "the process ended without {what}:\n{}", state.0.join("\n"));
            assert!(!left.is_zero(), "no {what} within {within:?}:\n{}", state.0.join("\n"));
            state = self.log.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until it has ended, at most so long: for those who look for something that nothing tells, and look again.
    pub(crate) fn rest(&self, at_most: Duration) {
        let state = self.log.state.lock().unwrap_or_else(PoisonError::into_inner);
        // What is said meanwhile wakes nobody up: one who looks at each line again keeps the host from its work.
        let _ = self.log.changed.wait_timeout_while(state, at_most, |state| !state.1);
    }

    /// The lines so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.state.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Those that it has started and that have not ended.
    pub(crate) fn children(&self) -> Vec<Spawned> {
        let parent = format!("PPid:\t{}", self.id());
        let all = fs::read_dir("/proc").expect("the system shows its processes");
        let paths = all.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter_map(|path| Spawned::of(&path, &parent)).collect()
    }

    /// Sends a signal; a process that has ended does not mind.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for the end; the exit code, or `None` after a signal that killed it.
    pub(crate) fn wait(&mut self, within: Duration) -> Option<i32> {
        let deadline = Instant::now() + within;
        let mut state = self.log.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the process has not ended within {within:?}:\n{}", state.0.join("\n"));
            state = self.log.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of the log does not panic");
        }
        self.child.wait().expect("a child can be waited for").code()
    }
}

impl Spawned {
    /// `None` where it is another's, or has gone meanwhile.
    fn of(path: &Path, parent: &str) -> Option<Self> {
        let status = fs::read_to_string(path.join("status")).ok()?;
        if !status.lines().any(|line| line == parent) {
            return None;
        }
        let words = |name: &str| Some(String::from_utf8_lossy(&fs::read(path.join(name)).ok()?).replace('\0', " "));
        let limits = fs::read_to_string(path.join("limits")).ok()?;
        Some(Self { command: words("cmdline")?.trim_end().to_owned(), limits, environment: words("environ")? })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn change(&self, change: impl FnOnce(&mut (Vec<String>, bool))) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}
