//! Somebody else's server while it takes its turn: it ends when this is dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bulkhead_tests::Signal;
use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

use crate::flood::{Connection, flood, http, post};
use crate::receiver::receiver;
use crate::webhooks::ROUNDTRIPS;

/// How long it may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to end before it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// A place for a server to be started in.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) address: SocketAddr,
}

/// A server that runs. What it writes goes to the file `log` of its place.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    /// What makes it end at once, and whoever it has started.
    end: Signal,
}

impl Place {
    /// An empty folder and a port that nobody listens on.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Self { folder: tempfile::tempdir()?, address: listener.local_addr()? })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts it there. `end` is what makes it end at once.
    pub(crate) fn start(&self, command: &mut Command, end: Signal) -> anyhow::Result<Server> {
        let log = self.path().join("log");
        let file = File::create(&log)?;
        command.current_dir(self.path()).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Server { child, log, end })
    }
}

impl Server {
    /// Waits until `ready` says so; an error with what it has written, if it ends before or takes more than a minute.
    pub(crate) async fn wait(&mut self, ready: impl AsyncFn() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !ready().await {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("it has {}:\n{log}", if ended.is_some() { "ended" } else { "not answered within a minute" });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until it takes connections.
    pub(crate) async fn listens(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        self.wait(async || Connection::open(address, http).await.is_ok()).await
    }

    /// Waits until it answers this request, sent again and again, with 2xx.
    pub(crate) async fn answers(&mut self, address: SocketAddr, request: &[u8]) -> anyhow::Result<()> {
        let answers = async || match Connection::open(address, http).await {
            Ok(mut connection) => connection.ask(request).await.is_ok(),
            Err(_) => false,
        };
        self.wait(answers).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = kill_process(Pid::from_child(&self.child), self.end);
        let deadline = Instant::now() + ENDS_WITHIN;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            #[expect(clippy::disallowed_methods, reason = "the standard library waits for a child without a limit")]
            std::thread::sleep(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program calls itself, without what it adds about its making; an error if it is not there.
pub(crate) fn version(program: &Path, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "`{} {argument}` has failed", program.display());
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

/// What comes out of a command; an error with what it says otherwise, if it fails.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("starting {}", command.get_program().display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} has failed:\n{errors}", command.get_program().display());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The round trip through a server that asks the given address about each request to `/ask`; how many in a second.
pub(crate) fn roundtrip(start: impl Fn(&Place, SocketAddr) -> anyhow::Result<Server>) -> anyhow::Result<f64> {
    let (outside, answered) = receiver()?;
    let count = || answered.load(std::sync::atomic::Ordering::Relaxed);
    let place = Place::new()?;
    let ask = |name: &str, count| -> Vec<Vec<u8>> {
        let body = format!("fetch http://{outside}/");
        let one = |n| post(place.address, "/ask", &format!("x-event: {name}-{n}\r\n"), body.as_bytes());
        (0..count).map(one).collect()
    };
    let mut server = start(&place, outside)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(server.answers(place.address, &ask("first", 1)[0]))?;
    let before = count();
    let (warm, full) = (ask("warm", ROUNDTRIPS / 10), ask("full", ROUNDTRIPS));
    let _ = runtime.block_on(flood(place.address, &warm, http))?;
    let took = runtime.block_on(flood(place.address, &full, http))?;
    let (came, sent) = (count() - before, warm.len() + full.len());
    ensure!(came == sent, "{came} requests came out, where {sent} went in");
    Ok(full.len() as f64 / took.as_secs_f64())
}
