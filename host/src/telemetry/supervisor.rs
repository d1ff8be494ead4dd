//! What the service manager that started this process is told: ready, reading its configuration again, stopping, still well (`sd_notify(3)`).
//!
//! A datagram to the socket that `NOTIFY_SOCKET` names, and nothing where it names none. Whether the host is well is
//! decided elsewhere. Invariant: whoever does not listen costs nothing and keeps nobody waiting.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// The service manager, if there is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Supervisor(Option<Arc<Told>>);

#[derive(Debug)]
struct Told {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the process's environment names.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "what the service manager hands to a process is in its environment")]
    pub fn of_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        // Meant for another process, as where a shell stands in between.
        let is_ours = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| is_ours && *micros > 0).map(Duration::from_micros);
        std::env::var_os("NOTIFY_SOCKET").map_or_else(Self::default, |name| Self::at(&name, watchdog))
    }

    /// The one that listens at a path, or at an abstract name that `@` stands before.
    fn at(name: &OsString, watchdog: Option<Duration>) -> Self {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let opened = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok(Told { socket, address, watchdog })
        });
        match opened {
            Ok(told) => Self(Some(Arc::new(told))),
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told anything: see NOTIFY_SOCKET");
                Self(None)
            }
        }
    }

    /// How long it waits for the next [`Supervisor::is_well`] before it ends the process.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref()?.watchdog
    }

    /// Everything runs; `status` is for people.
    pub fn is_ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again, as the service manager asked; [`Supervisor::is_ready`] says that it was.
    pub fn is_reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        // By this it knows which of its demands is meant.
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=the configuration is read again"));
    }

    /// The stop has begun.
    pub fn is_stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: runs under way settle");
    }

    /// The process works.
    pub fn is_well(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, what: &str) {
        let Some(told) = &self.0 else { return };
        if let Err(error) = told.socket.send_to_addr(what.as_bytes(), &told.address) {
            tracing::warn!(%error, "the service manager was not told `{}`", what.lines().next().unwrap_or_default());
        }
    }
}
