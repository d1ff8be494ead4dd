//! The demo's processes: started with a log file, watched, stopped, and never left behind.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// For one request to a process of ours.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks whether a process has ended.
const LOOK_EACH: Duration = Duration::from_millis(20);
/// Lines of a log that say why a process ended.
const TAIL: usize = 20;

/// A running process; killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose whole output goes to its log.
    pub(crate) fn start(
        program: &Path,
        arguments: &[&str],
        variables: &[(&'static str, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::create(log)?;
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().cloned()).stdin(Stdio::piped());
        command.stdout(file.try_clone()?).stderr(file);
        Self::spawn(command, program, log)
    }

    /// Starts a program that prints one line when it is ready; returns the line too.
    pub(crate) fn start_talking(
        program: &Path,
        arguments: &[&str],
        variables: &[(&'static str, String)],
        log: &Path,
    ) -> anyhow::Result<(Self, String)> {
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().cloned()).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(File::create(log)?);
        let mut process = Self::spawn(command, program, log)?;
        let mut line = String::new();
        BufReader::new(process.child.stdout.take().context("standard output is piped")?).read_line(&mut line)?;
        process.must_run()?;
        Ok((process, line))
    }

    fn spawn(mut command: Command, program: &Path, log: &Path) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// Where its output goes.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// An error with the end of the log when the process is gone.
    pub(crate) fn must_run(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        bail!("{} has ended ({status}):\n{}", self.name, self.log_tail())
    }

    /// Sends SIGTERM and waits; whether the process ended with success.
    pub(crate) fn terminate(&mut self, within: Duration) -> anyhow::Result<bool> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.wait(within)
    }

    /// Waits for the end; whether it was a success.
    #[expect(
        clippy::disallowed_methods,
        reason = "waiting for a child with a bound has no event in the standard library"
    )]
    pub(crate) fn wait(&mut self, within: Duration) -> anyhow::Result<bool> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            ensure!(start.elapsed() < within, "{} has not ended {} s after SIGTERM", self.name, within.as_secs());
            std::thread::sleep(LOOK_EACH);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program that ends by itself prints.
pub(crate) fn answer(
    program: &Path,
    arguments: &[&str],
    variables: &[(&'static str, String)],
) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).envs(variables.iter().cloned()).stdin(Stdio::null()).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`bulkhead {}`: {}\n{complaint}", arguments.join(" "), output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// The body that a process of ours answers with status 200.
#[expect(clippy::disallowed_methods, reason = "the demo looks at its own processes on loopback")]
pub(crate) fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(ANSWER_WITHIN))?;
    // HTTP/1.0: no chunks, and the end of the answer is the end of the connection.
    write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer has a head")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "GET {path}: {status}");
    Ok(body.to_owned())
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
