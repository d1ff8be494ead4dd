//! A small world of a test's own: a network that leads nowhere, in which any address may be this machine's, and a name
//! server of the test's own as the system's.
//!
//! The test's process starts itself once more in name spaces of its own, so that everything in it, the host included,
//! finds the system as it is for everybody: its resolver, its routes. Nothing can leave it.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;

/// Set within.
const WITHIN: &str = "BULKHEAD_TEST_SECLUDED";
/// Set by the services that check every change: there nothing is left out.
const CI: &str = "CI";
/// Root needs no user namespace.
const WAYS: [&str; 2] = ["-mn", "-Urmn"];
/// An address that a machine's own interfaces do not have is added to the loopback interface.
const ENTER: &str = "ip link set lo up || exit 1\n\
    for address in $ADDRESSES; do case $address in *:*) nodad=nodad;; *) nodad=;; esac\n\
    ip address add $address dev lo $nodad 2>/dev/null || ip address show dev lo | grep -q \" $address\" || exit 1; done\n\
    mount --bind \"$FILES/resolv.conf\" /etc/resolv.conf && mount --bind \"$FILES/nsswitch.conf\" /etc/nsswitch.conf || exit 1\n\
    [ $# -eq 0 ] || exec \"$@\"";

/// The address of the name server within.
pub const NAME_SERVER: &str = "127.0.0.53:53";

/// Runs `work` in a world in which the machine has these addresses beside its loopback ones. `test` is the name of the
/// test that calls, in `module` (what `module_path!()` says there); it must do nothing else. Where the machine permits no name spaces, nothing is run, and loudly so; in
/// CI that is a failure.
#[expect(clippy::disallowed_methods, reason = "how a test is run is no setting of the host")]
pub fn secluded(module: &str, test: &str, addresses: &[IpAddr], work: impl FnOnce()) {
    if std::env::var_os(WITHIN).is_some() {
        return work();
    }
    let Some(way) = WAYS.into_iter().find(|way| enter(way, addresses, &[]).is_ok()) else {
        assert!(std::env::var_os(CI).is_none(), "this machine permits no name spaces (see `unshare` and `ip`)");
        // Not through `println`, whose output is shown of failed tests only.
        let _ = writeln!(std::io::stderr(), "SKIPPED: this machine permits no name spaces, so `{test}` did not run");
        return;
    };
    // The harness leaves the crate's name out.
    let test = &module.split_once("::").map_or_else(|| test.to_owned(), |(_, module)| format!("{module}::{test}"));
    let program = std::env::current_exe().expect("a test knows where it lies");
    let program = program.to_str().expect("its path is UTF-8");
    let said = enter(way, addresses, &[program, "--exact", test, "--nocapture"]);
    let said = said.unwrap_or_else(|output| panic!("`{test}` failed within:\n{output}"));
    assert!(said.contains("1 passed"), "there is no test called `{test}`:\n{said}");
}

/// Runs `command` within, which may be none: then it is known that there is a within. Answers what it said, and
/// shows it to nobody else: who counts tests by what they say must not count this one twice.
fn enter(way: &str, addresses: &[IpAddr], command: &[&str]) -> Result<String, String> {
    let files = tempfile::tempdir().expect("a temporary folder can be made");
    let address: SocketAddr = NAME_SERVER.parse().expect("an address and a port");
    // A name that nobody answers for is waited for longer than any test takes.
    let resolver = format!("nameserver {}\noptions timeout:30 attempts:5\n", address.ip());
    fs::write(files.path().join("resolv.conf"), resolver).expect("the folder can be written");
    fs::write(files.path().join("nsswitch.conf"), "hosts: files dns\n").expect("the folder can be written");
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut unshare = Command::new("unshare");
    unshare.args([way, "sh", "-c", ENTER, "sh"]).args(command);
    unshare.env(WITHIN, "1").env("FILES", files.path()).env("ADDRESSES", addresses.join(" "));
    let output = unshare.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// Listeners where nobody may come.
#[derive(Debug)]
pub struct Canaries(Vec<TcpListener>);

impl Canaries {
    /// One at each of the addresses, on this port.
    #[must_use]
    pub fn at(addresses: &[IpAddr], port: u16) -> Self {
        let listen = |address: &IpAddr| {
            let listener = TcpListener::bind((*address, port)).unwrap_or_else(|error| panic!("{address}: {error}"));
            listener.set_nonblocking(true).expect("a listener of ours");
            listener
        };
        Self(addresses.iter().map(listen).collect())
    }

    /// Where somebody has been since the last time; the system keeps even those who have gone again.
    #[must_use]
    pub fn visited(&self) -> Vec<SocketAddr> {
        let is_visited = |listener: &&TcpListener| match listener.accept() {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        };
        self.0.iter().filter(is_visited).map(|listener| listener.local_addr().expect("it is bound")).collect()
    }
}
