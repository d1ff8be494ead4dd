//! WASI 0.2 for guests: own clocks and randomness, an empty environment, standard streams as log lines; and everything
//! else of it linked with nothing behind it.
//!
//! Toolchains import sockets and files whether a plugin uses them or not. So they are there, and refuse: a socket or a
//! lookup answers access-denied, there are no directories, and each try is counted. Invariant: nothing here opens
//! anything of the machine.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::p2::pipe::ClosedInputStream;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Pollable, SocketError, SocketResult, subscribe};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::IoView;

use super::log::Channel;
use super::{OverLimit, Session};
use crate::limit::Limit;
use crate::metrics::Effect;

/// Random bytes that one call may ask for at once.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;

/// One sandbox's side of WASI.
#[derive(Default)]
pub(super) struct State {
    /// Stands behind interfaces that nothing can be reached through; made when a guest calls one all the same.
    unused: Option<Box<WasiCtx>>,
}

/// What time it is, for guests.
#[derive(Clone, Copy, Debug)]
struct Time;

/// Where guests' randomness comes from.
#[derive(Clone, Copy, Debug)]
struct Entropy;

/// The guest asked to end the process.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the plugin called exit({0})")]
struct Exited(u8);

pub(super) fn link(linker: &mut Linker<Session>) -> wasmtime::Result<()> {
    wasmtime_wasi_io::add_to_linker_async(linker)?;
    link_working(linker)?;
    link_refusing(linker)
}

fn link_working(linker: &mut Linker<Session>) -> wasmtime::Result<()> {
    clocks::wall_clock::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    clocks::monotonic_clock::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    random::random::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    random::insecure::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    random::insecure_seed::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    cli::exit::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    cli::environment::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    cli::stdin::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    cli::stdout::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    cli::stderr::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    cli::terminal_input::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    cli::terminal_output::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    cli::terminal_stdin::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    cli::terminal_stdout::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    cli::terminal_stderr::add_to_linker::<_, HasSelf<Session>>(linker, own)
}

/// Descriptors and sockets cannot come into being, so the library's own methods on them are never reached.
fn link_refusing(linker: &mut Linker<Session>) -> wasmtime::Result<()> {
    filesystem::preopens::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, Session::filesystem)?;
    sockets::ip_name_lookup::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    sockets::tcp_create_socket::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    sockets::udp_create_socket::add_to_linker::<_, HasSelf<Session>>(linker, own)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(linker, Session::sockets)?;
    sockets::network::add_to_linker::<_, HasSelf<Session>>(linker, &sockets::network::LinkOptions::default(), own)?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(linker, Session::sockets)?;
    sockets::udp::add_to_linker::<_, WasiSockets>(linker, Session::sockets)
}

fn own(session: &mut Session) -> &mut Session {
    session
}

impl IoView for Session {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiView for Session {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let unused = self.wasi.unused.get_or_insert_with(|| Box::new(WasiCtx::builder().build()));
        WasiCtxView { ctx: unused, table: &mut self.table }
    }
}

impl Time {
    #[expect(clippy::disallowed_methods, reason = "a guest asks what the wall clock shows, jumps included")]
    fn wall(self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Since the process's first reading: a guest need not know how long the machine has been up.
    fn monotonic_ns(self) -> u64 {
        static BASE: OnceLock<Instant> = OnceLock::new();
        u64::try_from(BASE.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl clocks::wall_clock::Host for Session {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        let now = Time.wall();
        Ok(clocks::wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime { seconds: 0, nanoseconds: 1 })
    }
}

impl clocks::monotonic_clock::Host for Session {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(Time.monotonic_ns())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.alarm(when.saturating_sub(Time.monotonic_ns()))
    }

    fn subscribe_duration(&mut self, nanos: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.alarm(nanos)
    }
}

/// A guest's sleep. However long: the call's wall deadline ends it.
enum Alarm {
    At(tokio::time::Instant),
    /// Further ahead than can be told.
    Never,
}

#[wasmtime_wasi_io::async_trait]
impl Pollable for Alarm {
    async fn ready(&mut self) {
        match self {
            // Past ones too go through the scheduler once: a guest that polls in a loop must not starve its thread.
            Self::At(at) if *at <= tokio::time::Instant::now() => tokio::task::yield_now().await,
            Self::At(at) => tokio::time::sleep_until(*at).await,
            Self::Never => std::future::pending().await,
        }
    }
}

impl Session {
    fn alarm(&mut self, nanos: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let at = tokio::time::Instant::now().checked_add(Duration::from_nanos(nanos));
        let alarm = self.table.push(at.map_or(Alarm::Never, Alarm::At))?;
        subscribe(&mut self.table, alarm)
    }
}

impl Entropy {
    fn fill(self, bytes: &mut [u8]) -> wasmtime::Result<()> {
        getrandom::fill(bytes).map_err(|error| wasmtime::Error::msg(format!("no randomness: {error}")))
    }

    fn bytes(self, count: u64) -> wasmtime::Result<Vec<u8>> {
        if count > RANDOM_BYTES_MAX {
            let what = "a plugin may draw 64 KiB of random bytes at once";
            return Err(OverLimit { limit: Limit::Hostcall, what, is_fixed: true }.into());
        }
        let mut bytes = vec![0; usize::try_from(count)?];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn number(self) -> wasmtime::Result<u64> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl random::random::Host for Session {
    fn get_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        Entropy.bytes(count)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Entropy.number()
    }
}

impl random::insecure::Host for Session {
    fn get_insecure_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        Entropy.bytes(count)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Entropy.number()
    }
}

impl random::insecure_seed::Host for Session {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((Entropy.number()?, Entropy.number()?))
    }
}

impl cli::environment::Host for Session {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl cli::exit::Host for Session {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(Exited(u8::from(status.is_err())).into())
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(Exited(code).into())
    }
}

impl cli::stdin::Host for Session {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let closed: DynInputStream = Box::new(ClosedInputStream);
        Ok(self.table.push(closed)?)
    }
}

impl cli::stdout::Host for Session {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(self.log.stream(Channel::Out));
        Ok(self.table.push(stream)?)
    }
}

impl cli::stderr::Host for Session {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(self.log.stream(Channel::Error));
        Ok(self.table.push(stream)?)
    }
}

impl cli::terminal_input::Host for Session {}

impl cli::terminal_input::HostTerminalInput for Session {
    fn drop(&mut self, terminal: Resource<cli::terminal_input::TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_output::Host for Session {}

impl cli::terminal_output::HostTerminalOutput for Session {
    fn drop(&mut self, terminal: Resource<cli::terminal_output::TerminalOutput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_stdin::Host for Session {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_input::TerminalInput>>> {
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for Session {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for Session {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl filesystem::preopens::Host for Session {
    /// Called by libraries when a plugin first touches a path.
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<filesystem::types::Descriptor>, String)>> {
        self.refuse(Effect::Filesystem, "not_offered", "", "the plugin looks for files: a sandbox has none");
        Ok(Vec::new())
    }
}

impl Session {
    fn no_socket<T>(&mut self) -> SocketResult<T> {
        let text = "the plugin wants a socket: a sandbox has none, requests go through `allow.http`";
        self.refuse(Effect::Socket, "not_offered", "", text);
        Err(sockets::network::ErrorCode::AccessDenied.into())
    }
}

impl sockets::network::Host for Session {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<sockets::network::ErrorCode> {
        error.downcast()
    }

    fn network_error_code(
        &mut self,
        _error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<sockets::network::ErrorCode>> {
        Ok(None)
    }
}

impl sockets::network::HostNetwork for Session {
    fn drop(&mut self, network: Resource<sockets::network::Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl sockets::tcp_create_socket::Host for Session {
    fn create_tcp_socket(
        &mut self,
        _family: sockets::network::IpAddressFamily,
    ) -> SocketResult<Resource<sockets::tcp::TcpSocket>> {
        self.no_socket()
    }
}

impl sockets::udp_create_socket::Host for Session {
    async fn create_udp_socket(
        &mut self,
        _family: sockets::network::IpAddressFamily,
    ) -> SocketResult<Resource<sockets::udp::UdpSocket>> {
        self.no_socket()
    }
}

impl sockets::ip_name_lookup::Host for Session {
    fn resolve_addresses(
        &mut self,
        _network: Resource<sockets::network::Network>,
        _name: String,
    ) -> SocketResult<Resource<sockets::ip_name_lookup::ResolveAddressStream>> {
        let text = "the plugin looks up a name: a sandbox cannot, requests go through `allow.http`";
        self.refuse(Effect::Lookup, "not_offered", "", text);
        Err(sockets::network::ErrorCode::AccessDenied.into())
    }
}

impl sockets::ip_name_lookup::HostResolveAddressStream for Session {
    fn resolve_next_address(
        &mut self,
        _stream: Resource<sockets::ip_name_lookup::ResolveAddressStream>,
    ) -> SocketResult<Option<sockets::network::IpAddress>> {
        Err(sockets::network::ErrorCode::AccessDenied.into())
    }

    fn subscribe(
        &mut self,
        stream: Resource<sockets::ip_name_lookup::ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, stream)
    }

    fn drop(&mut self, stream: Resource<sockets::ip_name_lookup::ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
