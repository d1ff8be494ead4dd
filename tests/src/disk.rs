//! A disk of a few MiB that can be filled to its last byte: a tmpfs in a mount namespace of its own.
//!
//! A process holds the namespace, and the disk goes with it. A host enters it; tests look into it through `/proc`.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Root needs no user namespace.
const PRIVILEGED: &str = "-m";
/// Set by the services that check every change: there nothing is left out.
const CI: &str = "CI";

/// A mounted disk; gone when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
    /// How the namespace was made, as an argument of `unshare`.
    how: &'static str,
    holder: Child,
}

impl SmallDisk {
    /// Mounts one, as root or in a user namespace. Where the machine permits neither there is none, and loudly so; in CI
    /// that is a failure.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "how a test is run is no setting of the host")]
    pub fn mount(mib: u32) -> Option<Self> {
        let disk = Self::try_mount(mib);
        if disk.is_none() {
            assert!(std::env::var_os(CI).is_none(), "this machine permits no mount (see `unshare` and `mount`)");
            // Not through `println`, whose output is shown of failed tests only.
            let _ = writeln!(std::io::stderr(), "SKIPPED: this machine permits no mount, so no disk was filled");
        }
        disk
    }

    fn try_mount(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let script = format!("mount -t tmpfs -o size={mib}m,mode=0700 none \"$0\" && echo mounted && exec cat");
        [PRIVILEGED, "-Urm"]
            .into_iter()
            .find_map(|how| {
                let mut unshare = Command::new("unshare");
                unshare.args([how, "sh", "-c", &script]).arg(folder.path());
                unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
                let mut holder = unshare.spawn().ok()?;
                let mut line = String::new();
                // An answer that does not come is no answer.
                let _ = BufReader::new(holder.stdout.take()?).read_line(&mut line);
                if line == "mounted\n" {
                    return Some((how, holder));
                }
                holder.wait().expect("it was started");
                None
            })
            .map(|(how, holder)| Self { folder, how, holder })
    }

    /// A path on the disk, for those within.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same path from outside.
    #[must_use]
    pub fn outside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").expect("temporary folders have whole paths"))
    }

    /// A command that runs a program within.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("-t").arg(self.holder.id().to_string()).arg("-m");
        if self.how != PRIVILEGED {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// Mounts it for reading alone from now on.
    pub fn make_read_only(&self) {
        let mut mount = self.command(Path::new("mount"));
        let mounted = mount.args(["-o", "remount,ro"]).arg(self.folder.path()).status().expect("`mount` is there");
        assert!(mounted.success(), "whoever mounts it may mount it otherwise");
    }

    /// Fills what room is left.
    pub fn fill(&self) {
        let path = self.outside(&self.path("ballast"));
        let mut ballast = File::options().append(true).create(true).open(path).expect("the disk takes one more file");
        for bytes in [1 << 16, 1 << 12, 1] {
            // Ends with the disk.
            while ballast.write(&vec![0; bytes]).is_ok_and(|written| written > 0) {}
        }
    }

    /// Takes away what filled it.
    pub fn make_room(&self) {
        fs::remove_file(self.outside(&self.path("ballast"))).expect("it was filled before");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It ends with its standard input; if it has ended already, there is nothing to do.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
