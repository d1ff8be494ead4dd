//! The process in which foreign plugins are compiled: both ends of its pipes, and its bounds.
//!
//! A component of a few kilobytes can make a compiler need hours and all memory of a machine. So the host starts its own
//! binary once more, with none of its environment: the plugin goes in, code or a reason comes out, and whatever it does
//! costs that process alone. It bounds resources, nothing else: what comes out is machine code that the host will run.
//! Knows neither plugins nor code. Invariant: a process that was started has ended when [`Compiler::compile`] answers.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::CODE_PER_PLUGIN_MAX;
use crate::limit::CompileLimits;

/// The verb under which the host's binary is a compiler.
pub const VERB: &str = "compile-plugin";
/// However busy the machine is, a start does not wait longer than this for one plugin, beside its processor time.
const WALL_SPARE: Duration = Duration::from_secs(120);
/// Threads of the process: the host's other work goes on beside it, and each thread reserves address space.
const THREADS_MAX: u32 = 4;
/// Files that the process may have open: its pipes, and what its runtime needs.
const FILES_MAX: u64 = 16;
/// The shortest wait until the processor time is looked at again, when little of it is left.
const LOOK_MIN: Duration = Duration::from_millis(1);
/// Bytes of a reason; a longer one is cut.
const REASON_BYTES_MAX: usize = 4096;
/// What the host's binary is called in a list of processes.
const NAME: &str = "bulkhead";
/// The allocator reserves so many KiB of address space at once: its own gigabyte would count against the process's bound,
/// used or not.
const ALLOCATOR: (&str, &str) = ("MIMALLOC_ARENA_RESERVE", "32768");
/// The first byte of an answer.
const CODE: u8 = b'C';
const REASON: u8 = b'R';

/// How to start the process.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    limits: CompileLimits,
    wall_max: Duration,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are no component.
    #[error("{0}")]
    Broken(String),
    /// Over this processor time, or far too long altogether.
    #[error("it takes more than {0:?} to compile")]
    Time(Duration),
    /// Over so many bytes of address space.
    #[error("it takes more than {0} bytes of memory to compile")]
    Memory(u64),
    /// The process cannot be started.
    #[error("the process that compiles it does not start: {0}")]
    Start(io::Error),
    /// It ended in another way than by answering.
    #[error("the compiler broke on it ({0})")]
    Ended(ExitStatus),
}

impl Compiler {
    /// This very binary, also when another one has taken its place meanwhile.
    #[must_use]
    pub fn new(limits: CompileLimits) -> Self {
        let running = PathBuf::from("/proc/self/exe");
        let program = if running.exists() { running } else { std::env::current_exe().unwrap_or(running) };
        Self { program, limits, wall_max: limits.time.saturating_add(WALL_SPARE) }
    }

    /// Starts the process, and waits for its code. Blocks: not for a thread of a runtime.
    ///
    /// # Errors
    /// The plugin is no component, or over a bound of the process.
    pub fn compile(&self, plugin: &[u8]) -> Result<Vec<u8>, CompileError> {
        let mut command = Command::new(&self.program);
        command.arg0(NAME).arg(VERB).env_clear().env(ALLOCATOR.0, ALLOCATOR.1).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().map_err(CompileError::Start)?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(CompileError::Start(io::ErrorKind::BrokenPipe.into()));
        };
        self.attend(&mut process, input, output, plugin)
    }

    /// Pipes are read and written beside each other, so that neither side waits for the other; ending the process ends
    /// both.
    fn attend(
        &self,
        process: &mut Child,
        mut input: ChildStdin,
        output: ChildStdout,
        plugin: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let (answered, ended) = thread::scope(|scope| {
            // A process that has ended takes no more: its status says why.
            scope.spawn(move || drop(write_task(&mut input, &self.limits, plugin)));
            scope.spawn(move || drop(sender.send(read_answer(output, self.code_bytes_max()))));
            let answered = receiver.recv_timeout(self.wall_max);
            // Whatever it has answered. One that is ending by itself keeps the status that says why.
            let ended = process.kill().and_then(|()| process.wait());
            (answered, ended)
        });
        match (answered, ended) {
            (Ok(Ok(answer)), _) => answer.map_err(CompileError::Broken),
            (Err(_), _) => Err(CompileError::Time(self.limits.time)),
            (Ok(Err(_)), Ok(status)) => Err(self.refusal(status)),
            (Ok(Err(_)), Err(error)) => Err(CompileError::Start(error)),
        }
    }

    /// What an end without an answer means.
    fn refusal(&self, status: ExitStatus) -> CompileError {
        match status.signal().and_then(Signal::from_named_raw) {
            // An allocation that fails aborts the process; the kernel kills it where the machine has less than the bound.
            Some(Signal::ABORT | Signal::KILL) => CompileError::Memory(self.limits.memory_bytes),
            Some(Signal::XCPU) => CompileError::Time(self.limits.time),
            _ => CompileError::Ended(status),
        }
    }

    fn code_bytes_max(&self) -> u64 {
        self.limits.size_bytes.saturating_mul(CODE_PER_PLUGIN_MAX)
    }
}

/// The bounds, and then the plugin up to the end of the pipe.
fn write_task(mut input: impl Write, limits: &CompileLimits, plugin: &[u8]) -> io::Result<()> {
    let time_ms = u64::try_from(limits.time.as_millis()).unwrap_or(u64::MAX);
    for number in [limits.memory_bytes, time_ms, limits.size_bytes] {
        input.write_all(&number.to_le_bytes())?;
    }
    input.write_all(plugin)
}

fn read_limits(mut input: impl Read) -> io::Result<CompileLimits> {
    let mut number = || -> io::Result<u64> {
        let mut bytes = [0; 8];
        input.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    };
    Ok(CompileLimits { memory_bytes: number()?, time: Duration::from_millis(number()?), size_bytes: number()? })
}

/// Code of at most `code_bytes_max`, or a reason; an error where there is neither.
fn read_answer(mut output: impl Read, code_bytes_max: u64) -> io::Result<Result<Vec<u8>, String>> {
    let mut head = [0; 9];
    output.read_exact(&mut head)?;
    let [kind, size @ ..] = head;
    let size = u64::from_le_bytes(size);
    let bytes_max = if kind == CODE { code_bytes_max } else { REASON_BYTES_MAX as u64 };
    if size > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    output.take(size).read_to_end(&mut bytes)?;
    match kind {
        _ if bytes.len() as u64 != size => Err(io::ErrorKind::UnexpectedEof.into()),
        CODE => Ok(Ok(bytes)),
        REASON => Ok(Err(String::from_utf8_lossy(&bytes).into_owned())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The other end: confines this process, reads a plugin from standard input, and answers on standard output.
#[must_use]
pub fn serve(compile: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>) -> ExitCode {
    let mut input = io::stdin().lock();
    let served = read_limits(&mut input).and_then(|limits| {
        confine(&limits)?;
        let mut plugin = Vec::new();
        input.take(limits.size_bytes).read_to_end(&mut plugin)?;
        write_answer(io::stdout().lock(), within(limits.time, || compile(&plugin))?)
    });
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does something, and ends this process when that takes more than so much processor time: the system's own bound, which
/// holds beside it whatever happens here, counts in whole seconds.
fn within<T>(time: Duration, act: impl FnOnce() -> T) -> io::Result<T> {
    let (acting, ended) = mpsc::sync_channel::<()>(0);
    thread::scope(|scope| {
        let watching = scope.spawn(move || watch(time, &ended));
        let done = act();
        drop(acting);
        watching.join().map_err(|_| io::Error::other("the clock broke")).flatten().map(|()| done)
    })
}

/// Looks at the processor time until the other end of the channel is gone, and once more then.
fn watch(time: Duration, ended: &mpsc::Receiver<()>) -> io::Result<()> {
    let mut has_ended = false;
    loop {
        let used = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or(Duration::MAX);
        let left = time.saturating_sub(used);
        if left.is_zero() {
            kill_process(getpid(), Signal::XCPU)?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        if has_ended {
            return Ok(());
        }
        let look = (left / THREADS_MAX).max(LOOK_MIN);
        has_ended = ended.recv_timeout(look) == Err(mpsc::RecvTimeoutError::Disconnected);
    }
}

/// Bounds that hold for whatever comes in; where whoever started the host has set a lower one, that one.
fn confine(limits: &CompileLimits) -> io::Result<()> {
    let cpu_secs = limits.time.as_secs() + u64::from(limits.time.subsec_nanos() > 0);
    for (resource, most) in [
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, cpu_secs),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nofile, FILES_MAX),
    ] {
        // The signal for too much processor time comes at the lower of the two, the end at the higher one.
        let maximum = getrlimit(resource).maximum.map_or(most + 1, |given| given.min(most + 1));
        let current = most.min(maximum.saturating_sub(1));
        setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })?;
    }
    // Where the machine has less memory than that, this process is the one to go. Not every system has it.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS_MAX as usize);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(io::Error::other)
}

fn write_answer(mut output: impl Write, answer: Result<Vec<u8>, String>) -> io::Result<()> {
    let (kind, bytes) = match answer {
        Ok(code) => (CODE, code),
        Err(mut reason) => {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
            (REASON, reason.into_bytes())
        }
    };
    output.write_all(&[kind])?;
    output.write_all(&(bytes.len() as u64).to_le_bytes())?;
    output.write_all(&bytes)?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE_BYTES_MAX: u64 = 1 << 10;
    const PATIENCE: Duration = Duration::from_secs(180);

    fn answer(bytes: &[u8]) -> Option<Result<Vec<u8>, String>> {
        read_answer(bytes, CODE_BYTES_MAX).ok()
    }

    fn written(answer: Result<Vec<u8>, String>) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_answer(&mut bytes, answer).expect("a vector takes all");
        bytes
    }

    #[test]
    fn what_is_answered_is_what_is_read() {
        assert_eq!(answer(&written(Ok(vec![7; 5]))), Some(Ok(vec![7; 5])));
        assert_eq!(answer(&written(Err("no".to_owned()))), Some(Err("no".to_owned())));
        let cut = answer(&written(Err("ä".repeat(REASON_BYTES_MAX))));
        assert_eq!(cut, Some(Err("ä".repeat(REASON_BYTES_MAX / 2))));
    }

    #[test]
    fn bounds_arrive_as_they_were_sent_and_the_plugin_behind_them() {
        let limits = CompileLimits { memory_bytes: u64::MAX, time: Duration::from_millis(1_001), size_bytes: 7 };
        let mut bytes = Vec::new();
        write_task(&mut bytes, &limits, b"plugin").expect("a vector takes all");
        let mut input = &bytes[..];
        assert_eq!(read_limits(&mut input).expect("they are all there"), limits);
        assert_eq!(input, b"plugin");
        read_limits(&bytes[..23]).expect_err("they are cut short");
    }

    #[test]
    fn an_answer_that_is_cut_short_or_too_long_is_none() {
        let whole = written(Ok(vec![7; 5]));
        for size in 0..whole.len() {
            assert_eq!(answer(&whole[..size]), None);
        }
        let head = |kind: u8, size: u64| [&[kind][..], &size.to_le_bytes()].concat();
        assert_eq!(answer(&head(CODE, CODE_BYTES_MAX + 1)), None);
        assert_eq!(answer(&head(REASON, u64::MAX)), None);
        assert_eq!(answer(&head(b'?', 0)), None);
    }

    /// With a script in place of the compiler, and a plugin that no pipe holds.
    fn outcome(script: &str, wall_max: Duration) -> Result<Vec<u8>, CompileError> {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("script");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("it is written");
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("it is ours");
        Compiler { program, limits: CompileLimits::default(), wall_max }.compile(&vec![0; 1 << 20])
    }

    #[test]
    fn a_process_that_does_not_come_to_an_end_is_ended() {
        let ended = outcome("while :; do :; done", Duration::from_millis(100));
        assert!(matches!(ended, Err(CompileError::Time(_))), "{ended:?}");
        // One that has closed its pipe, too.
        let ended = outcome("exec >&-; while :; do :; done", PATIENCE);
        assert!(ended.is_err(), "{ended:?}");
    }

    #[test]
    fn an_end_without_an_answer_says_which_bound_it_was() {
        let ended = ["kill -XCPU $$", "kill -ABRT $$", "exit 101"].map(|script| outcome(script, PATIENCE));
        assert!(
            matches!(ended, [Err(CompileError::Time(_)), Err(CompileError::Memory(_)), Err(CompileError::Ended(_))]),
            "{ended:?}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let compiler = Compiler { program: "/nowhere".into(), ..Compiler::new(CompileLimits::default()) };
        assert!(matches!(compiler.compile(b""), Err(CompileError::Start(_))));
    }
}
