//! The host under attack: a binary, a folder and signals.
//!
//! Known only from outside. Its log goes to a file of the folder, all lives one after another.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::preload::Preload;
use crate::verdict::Violation;

/// Until a host has ended that was asked to; its grace time is half a minute.
const ENDED_WITHIN: Duration = Duration::from_secs(60);
/// Until nothing is left to do.
const IDLE_WITHIN: Duration = Duration::from_secs(180);
/// Between two looks whether it has ended.
const LOOK_EACH: Duration = Duration::from_millis(2);
/// Lines of the log that a failure repeats.
const LAST_WORDS: usize = 8;
/// Below the ports that systems hand out by themselves, so that none of them is taken while the host is dead.
const PORTS: std::ops::Range<u32> = 30_000..32_700;

/// How a host is started.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) binary: PathBuf,
    pub(crate) folder: PathBuf,
    /// A planted bug that it is to have.
    pub(crate) fault: Option<String>,
    /// What stands between it and the C library in all of its lives.
    pub(crate) preload: Option<Preload>,
}

/// One that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Life(Child);

impl Host {
    /// Starts it.
    pub(crate) fn start(&self) -> anyhow::Result<Life> {
        self.spawn(&["run"])
    }

    /// Lets it work off what is there.
    ///
    /// # Errors
    /// It does not end, or not with success.
    pub(crate) fn run_until_idle(&self) -> anyhow::Result<()> {
        let status = self.start_until_idle()?.wait(IDLE_WITHIN)?;
        anyhow::ensure!(status.success(), "`run --until-idle` ended with {status}: see {}", self.log().display());
        Ok(())
    }

    /// Runs a verb to its end.
    ///
    /// # Errors
    /// It does not end with success.
    pub(crate) fn verb(&self, verb: &[&str]) -> anyhow::Result<()> {
        let status = self.spawn(verb)?.wait(ENDED_WITHIN)?;
        anyhow::ensure!(status.success(), "`{}` ended with {status}: see {}", verb.join(" "), self.log().display());
        Ok(())
    }

    /// Starts it to work off what is there.
    pub(crate) fn start_until_idle(&self) -> anyhow::Result<Life> {
        self.spawn(&["run", "--until-idle"])
    }

    /// Where its log lies.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("host.log")
    }

    /// A failure beside the host, with what the host said last: it may be read where the folder is gone.
    pub(crate) fn failed(&self, error: &anyhow::Error) -> Violation {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let mut lines: Vec<&str> = log.lines().rev().take(LAST_WORDS).collect();
        lines.reverse();
        Violation::Failed { text: format!("{error:#}; the host said last:\n{}", lines.join("\n")) }
    }

    fn spawn(&self, verb: &[&str]) -> anyhow::Result<Life> {
        let log: File = OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.binary);
        command.args(["--config", "bulkhead.toml", "--log-format", "json"]).args(verb).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.envs(self.fault.iter().map(|fault| ("BULKHEAD_FAULT", fault)));
        command.envs(self.preload.iter().flat_map(Preload::variables));
        let child = command.spawn().with_context(|| format!("{} cannot be started", self.binary.display()))?;
        Ok(Life(child))
    }
}

impl Life {
    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }

    /// Dies at once.
    ///
    /// # Errors
    /// It had ended by itself before.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.0.try_wait()? {
            bail!("the host has ended by itself: {status}");
        }
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Is asked to stop, and ends.
    ///
    /// # Errors
    /// It does not end in time, or not with 0.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait(ENDED_WITHIN)?;
        anyhow::ensure!(status.success(), "the host ended with {status} when it was asked to stop");
        Ok(())
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It takes longer.
    pub(crate) fn wait(mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            anyhow::ensure!(Instant::now() < deadline, "the host has not ended within {within:?}");
            pause(LOOK_EACH);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets time pass where nothing tells that something has happened.
#[expect(
    clippy::disallowed_methods,
    reason = "the end of a child with a bound has no event in the standard library, nor has a pace"
)]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Where a host listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) admin: SocketAddr,
    pub(crate) hooks: SocketAddr,
}

/// Addresses for so many hosts, that nobody listens at: others for each process, and never the same again in one, for
/// the host of another attack may just be dead.
pub(crate) fn free_addresses(hosts: usize) -> anyhow::Result<Vec<Addresses>> {
    static HANDED_OUT: AtomicU32 = AtomicU32::new(0);
    let span = PORTS.end - PORTS.start;
    let first = u32::try_from(crate::chance::number(u64::from(std::process::id()), &["ports"]) % u64::from(span))?;
    let free = (0..span)
        .map(|_| PORTS.start + (first + HANDED_OUT.fetch_add(1, Ordering::Relaxed)) % span)
        .filter_map(|port| format!("127.0.0.1:{port}").parse().ok())
        .filter(|address: &SocketAddr| TcpListener::bind(address).is_ok());
    let free: Vec<SocketAddr> = free.take(2 * hosts).collect();
    anyhow::ensure!(free.len() == 2 * hosts, "there are no free ports");
    Ok(free.chunks_exact(2).map(|pair| Addresses { admin: pair[0], hooks: pair[1] }).collect())
}
