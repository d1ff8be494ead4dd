//! The real binary in a folder of its own.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::admin::{self, Reply, Request};
use crate::compiled;
use crate::disk::SmallDisk;
use crate::events::Events;
use crate::inflight::{self, Run};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::process::{Process, Spawned};

/// Until a started host is ready: a first start compiles its plugins.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Until a verb, a batch run or a stop has ended.
const ENDED_WITHIN: Duration = Duration::from_secs(120);
/// Much shorter than what tests wait for, and much longer than a look takes.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);
/// Below the ports that systems hand out by themselves, so that none of them is taken in between.
const PORTS: std::ops::Range<u32> = 12_000..30_000;

/// A folder with a `bulkhead.toml`.
#[derive(Debug)]
pub struct Bulkhead {
    folder: TempDir,
    /// A port of its own for the admin listener; verbs have to find it in the TOML.
    port: u32,
    /// Another for webhooks.
    hook_port: u32,
    data: PathBuf,
    /// Further keys of the `[host]` table.
    host_keys: String,
    /// A small disk that its data lie on.
    disk: Option<Arc<SmallDisk>>,
    variables: Vec<(OsString, OsString)>,
    /// What a shell limits before it becomes the binary.
    ulimit: Option<&'static str>,
    /// Whether it compiles its plugins itself.
    is_cold: bool,
}

/// A host that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    process: Process,
    admin: SocketAddr,
    /// Lies in the data directory.
    token: String,
}

/// What became of messages that were posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// The host says that they are on disk.
    Accepted,
    /// It died before it answered: all of them are there, or none.
    Unanswered,
    /// Nobody listened.
    NotSent,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` when a signal killed it.
    pub code: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error, line by line.
    pub log: Vec<String>,
}

impl Bulkhead {
    /// A folder with this TOML. Without a `[host]` table it gets one with a free port and open metrics.
    #[must_use]
    pub fn new(toml: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let data = folder.path().join("data");
        let (port, host_keys) = (free_port(), String::new());
        let (disk, variables, hook_port) = (None, Vec::new(), free_port());
        let bulkhead = Self { folder, port, hook_port, data, host_keys, disk, variables, ulimit: None, is_cold: false };
        bulkhead.configure(toml);
        bulkhead
    }

    /// The same with its data in another place, and further keys in its `[host]` table.
    #[must_use]
    pub fn on(data: PathBuf, host_keys: &str, toml: &str) -> Self {
        let mut bulkhead = Self::new("");
        (bulkhead.data, bulkhead.host_keys) = (data, host_keys.to_owned());
        bulkhead.configure(toml);
        bulkhead
    }

    /// Replaces the TOML; a host that runs keeps what it has read.
    pub fn configure(&self, toml: &str) {
        let Self { port, hook_port, data, host_keys, .. } = self;
        let takes_webhooks = toml.contains("webhook");
        let listen = if takes_webhooks { format!("listen = '127.0.0.1:{hook_port}'\n") } else { String::new() };
        let host = format!(
            "[host]\ndata_dir = '{}'\nadmin = \"127.0.0.1:{port}\"\nmetrics_open = true\n{listen}{host_keys}\n",
            data.display()
        );
        let head = if toml.contains("[host]") { "" } else { &host };
        fs::write(self.path("bulkhead.toml"), format!("{head}{toml}")).expect("the TOML can be written");
    }

    /// Sets a variable of the environment for everything that is started from now on.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The same without what other hosts have compiled.
    #[must_use]
    pub fn cold(mut self) -> Self {
        self.is_cold = true;
        self
    }

    /// The same under limits of the system, as the shell's `ulimit` takes them.
    #[must_use]
    pub fn under(mut self, ulimit: &'static str) -> Self {
        self.ulimit = Some(ulimit);
        self
    }

    /// The same with its data on a small disk.
    #[must_use]
    pub fn on_disk(disk: &Arc<SmallDisk>, host_keys: &str, toml: &str) -> Self {
        let mut bulkhead = Self::on(disk.path("data"), host_keys, toml);
        bulkhead.disk = Some(disk.clone());
        bulkhead
    }

    /// Where its data lie.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.disk.as_ref().map_or_else(|| self.data.clone(), |disk| disk.outside(&self.data))
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a verb to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, b"")
    }

    /// Runs a verb to its end, with something on standard input.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Finished {
        let mut process = Process::start(self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()));
        process.write(input);
        let output = process.output();
        let code = process.wait(ENDED_WITHIN);
        Finished { code, output, log: process.log() }
    }

    /// Runs a verb with something on standard input, which stays open until `meanwhile` has returned; then to its end.
    #[must_use]
    pub fn run_slowly(&self, arguments: &[&str], input: &[u8], meanwhile: impl FnOnce()) -> Finished {
        let mut process = Process::start(self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()));
        process.feed(input);
        meanwhile();
        process.write(b"");
        let output = process.output();
        let code = process.wait(ENDED_WITHIN);
        Finished { code, output, log: process.log() }
    }

    /// `bulkhead run --until-idle`, which must succeed.
    pub fn run_until_idle(&self) -> Finished {
        self.warm();
        self.run(&["run", "--until-idle"]).ok()
    }

    /// Starts the host and waits until it runs.
    #[must_use]
    pub fn start(&self) -> Running {
        self.start_as(&["run"])
    }

    /// The same with further arguments of `bulkhead run`.
    #[must_use]
    pub fn start_as(&self, arguments: &[&str]) -> Running {
        let mut running = self.launch_as(arguments);
        running.process.wait_for("line that says `running`", READY_WITHIN, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "running").then_some(())
        });
        running.token = self.token();
        running
    }

    /// Starts the host and waits for nothing.
    #[must_use]
    pub fn launch(&self) -> Running {
        self.launch_as(&["run"])
    }

    fn launch_as(&self, arguments: &[&str]) -> Running {
        self.warm();
        let process = Process::start(self.command(arguments).stdin(Stdio::null()).stdout(Stdio::null()));
        Running { process, admin: self.admin(), token: self.token() }
    }

    /// Starts the host with a log that nobody reads any more, and waits until it answers.
    #[must_use]
    pub fn start_unread(&self) -> Running {
        self.warm();
        let process = Process::start_unread(self.command(&["run"]).stdin(Stdio::null()).stdout(Stdio::null()));
        let deadline = Instant::now() + READY_WITHIN;
        while admin::exchange(self.admin(), "GET /readyz HTTP/1.0\r\n\r\n").is_err() {
            assert!(Instant::now() < deadline, "the host does not answer within {READY_WITHIN:?}");
        }
        Running { process, admin: self.admin(), token: self.token() }
    }

    /// Where the admin listener of a host listens that runs here.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        format!("127.0.0.1:{}", self.port).parse().expect("an address and a port")
    }

    /// Where webhooks of a host come in that runs here.
    #[must_use]
    pub fn webhooks(&self) -> SocketAddr {
        format!("127.0.0.1:{}", self.hook_port).parse().expect("an address and a port")
    }

    /// The token of the API; empty until a host has made it.
    fn token(&self) -> String {
        fs::read_to_string(self.data().join("admin.token")).unwrap_or_default()
    }

    /// Posts lines of JSON to a queue of the host that runs here, which may die meanwhile.
    #[must_use]
    pub fn post(&self, queue: &str, lines: &str) -> Posted {
        let path = format!("/api/v1/queues/{queue}/messages");
        let request = Request { method: "POST", path: &path, content_type: "application/x-ndjson", body: lines };
        match admin::try_ask(self.admin(), &self.token(), &request) {
            Ok(Reply { status: 200, .. }) => Posted::Accepted,
            // Killed while it makes its token: it does not know the caller yet.
            Ok(Reply { status: 401, .. }) => Posted::NotSent,
            Ok(reply) => panic!("{}: {}", reply.status, reply.body),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Posted::NotSent,
            Err(_) => Posted::Unanswered,
        }
    }

    /// What the in-flight file names: what runs now, or was running when the host was killed.
    #[must_use]
    pub fn in_flight(&self) -> Vec<Run> {
        inflight::runs(&inflight::bytes(&self.data()))
    }

    /// Changes with every run that begins or ends and with every commit.
    #[must_use]
    pub fn progress(&self) -> impl PartialEq + use<> {
        let log = fs::metadata(self.data().join("ledger.db-wal"));
        let log = log.map(|log| (log.len(), log.modified().ok())).ok();
        (inflight::bytes(&self.data()), log)
    }

    /// `bulkhead send QUEUE --lines`, which must succeed; the ids of the messages.
    pub fn send(&self, queue: &str, lines: &[impl AsRef<str>]) -> Vec<String> {
        let input: String = lines.iter().flat_map(|line| [line.as_ref(), "\n"]).collect();
        let sent = self.run_with(&["send", queue, "--lines", "--json"], input.as_bytes()).ok();
        let ids = sent.json()["ids"].as_array().expect("`send --json` prints ids").clone();
        ids.iter().map(|id| id.as_str().expect("an id is text").to_owned()).collect()
    }

    /// `bulkhead queues --json`.
    #[must_use]
    pub fn queues(&self) -> Value {
        self.run(&["queues", "--json"]).ok().json()
    }

    /// `bulkhead schedules --json` with further arguments.
    #[must_use]
    pub fn schedules(&self, arguments: &[&str]) -> Value {
        self.run(&[&["schedules", "--json"], arguments].concat()).ok().json()
    }

    /// `bulkhead dead list --json`.
    #[must_use]
    pub fn dead(&self) -> Vec<Value> {
        let letters = self.run(&["dead", "list", "--json"]).ok().json();
        letters.as_array().expect("`dead list --json` prints an array").clone()
    }

    /// What the audit record holds, the oldest first.
    #[must_use]
    #[track_caller]
    pub fn audit(&self) -> Vec<Value> {
        let folder = fs::read_dir(self.data().join("audit")).expect("the host keeps a record");
        let mut files: Vec<PathBuf> = folder.map(|file| file.expect("the folder can be read").path()).collect();
        files.sort();
        let text: String = files.iter().map(|file| fs::read_to_string(file).expect("the record is text")).collect();
        text.lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect()
    }

    /// The ledger's file, read from outside. Only while no host runs here.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        if self.disk.is_none() {
            return Ledger::open(&self.data);
        }
        // SQLite resolves links, and would look for a path through `/proc` out here.
        let copy = self.path("copy");
        fs::create_dir_all(&copy).expect("the folder takes another");
        for name in ["ledger.db", "ledger.db-wal"] {
            let _ = fs::remove_file(copy.join(name));
            let copied = fs::copy(self.data().join(name), copy.join(name));
            assert!(copied.is_ok() || name != "ledger.db", "{copied:?}");
        }
        Ledger::open(&copy)
    }

    /// Lends it what other hosts have compiled, as a start does.
    pub fn warm(&self) {
        if !self.is_cold && self.disk.is_none() {
            compiled::lend(&self.data());
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match (&self.disk, self.ulimit) {
            (Some(disk), _) => disk.command(&binary()),
            (None, Some(ulimit)) => limited(ulimit),
            (None, None) => Command::new(binary()),
        };
        command.arg("--config").arg(self.path("bulkhead.toml")).args(["--log-format", "json"]).args(arguments);
        command.current_dir(self.folder.path()).envs(self.variables.iter().cloned());
        command
    }
}

impl Drop for Bulkhead {
    fn drop(&mut self) {
        if !self.is_cold {
            compiled::take_back(&self.data());
        }
    }
}

impl Running {
    /// Where the admin listener listens.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The most memory that the process has had at once, in bytes.
    #[must_use]
    pub fn memory_peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the system counts it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Its threads and its open files.
    #[must_use]
    pub fn threads_and_files(&self) -> (usize, usize) {
        let count = |what: &str| fs::read_dir(format!("/proc/{}/{what}", self.process.id())).map_or(0, Iterator::count);
        (count("task"), count("fd"))
    }

    /// Looks at the processes that it has started, again and again, until one `is_so`.
    #[track_caller]
    pub fn wait_for_child(&self, what: &str, within: Duration, is_so: impl Fn(&Spawned) -> bool) -> Spawned {
        let deadline = Instant::now() + within;
        loop {
            if let Some(child) = self.process.children().into_iter().find(&is_so) {
                return child;
            }
            assert!(Instant::now() < deadline, "no {what} within {within:?}:\n{}", self.log().join("\n"));
            self.rest();
        }
    }

    /// The status of `/readyz`.
    #[must_use]
    pub fn readyz(&self) -> u16 {
        admin::ask(self.admin, "GET", "/readyz", "", "").status
    }

    /// What `/metrics` says now.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::read(&self.scrape())
    }

    /// The same, as it is said.
    #[must_use]
    pub fn scrape(&self) -> String {
        let scrape = admin::ask(self.admin, "GET", "/metrics", "", "");
        assert_eq!(scrape.status, 200, "{}", scrape.body);
        scrape.body
    }

    /// Asks for something below `/api/v1/`, with the token and a JSON body.
    #[must_use]
    pub fn api(&self, method: &str, path: &str, body: &str) -> Reply {
        admin::ask(self.admin, method, &format!("/api/v1/{path}"), &self.token, body)
    }

    /// Follows the events, with this query.
    ///
    /// # Errors
    /// The status, where there are none to follow.
    pub fn events(&self, query: &str) -> Result<Events, u16> {
        Events::follow(self.admin, &format!("/api/v1/events?{query}"), &self.token)
    }

    /// Asks for the figures again and again until `is_so`; what it waited for is named when it takes too long.
    #[track_caller]
    pub fn wait_until(&self, what: &str, within: Duration, is_so: impl Fn(&Metrics) -> bool) {
        let deadline = Instant::now() + within;
        while !is_so(&self.metrics()) {
            assert!(Instant::now() < deadline, "no {what} within {within:?}:\n{}", self.log().join("\n"));
            self.rest();
        }
    }

    /// Leaves the machine to the host for a moment, between two looks at what it does not tell by itself.
    pub fn rest(&self) {
        self.process.rest(LOOK_AGAIN_AFTER);
    }

    /// Waits for a line of the log that contains `text`, in one of its JSON fields or names.
    pub fn wait_for_log(&self, text: &str, within: Duration) -> String {
        self.process
            .wait_for(&format!("line with {text:?}"), within, |line| line.contains(text).then(|| line.to_owned()))
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.process.log()
    }

    /// Dies at once, as by `kill -9`.
    pub fn kill9(mut self) {
        self.process.signal(Signal::KILL);
        let _ = self.process.wait(ENDED_WITHIN);
    }

    /// Sends SIGTERM and waits for the end.
    #[must_use]
    pub fn terminate(self) -> Finished {
        self.process.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end.
    #[must_use]
    pub fn wait(mut self) -> Finished {
        let code = self.process.wait(ENDED_WITHIN);
        Finished { code, output: String::new(), log: self.process.log() }
    }

    /// Sends a signal and goes on.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }
}

impl Finished {
    /// The same, when it ended with 0; panics with its log otherwise.
    #[must_use]
    #[track_caller]
    pub fn ok(self) -> Self {
        self.ended_with(0)
    }

    /// The same, when it ended with this code; panics with its log otherwise.
    #[must_use]
    #[track_caller]
    pub fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.output, self.log.join("\n"));
        self
    }

    /// Standard output as JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error} in: {}", self.output))
    }

    /// Standard error in one piece.
    #[must_use]
    pub fn errors(&self) -> String {
        self.log.join("\n")
    }
}

fn limited(ulimit: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit {ulimit} && exec \"$0\" \"$@\"")).arg(binary());
    command
}

/// A port that nobody listens on, another one with each call.
fn free_port() -> u32 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let nth = std::process::id().wrapping_mul(97).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + nth % (PORTS.end - PORTS.start);
        if TcpListener::bind(format!("127.0.0.1:{port}")).is_ok() {
            return port;
        }
    }
}

/// The binary lies beside the tests' own folder; cargo builds it together with them.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it lies");
    let built = test.ancestors().nth(2).unwrap_or(Path::new(".")).join("bulkhead-under-test");
    assert!(built.is_file(), "{} is missing: run the tests with `cargo test`", built.display());
    built
}
