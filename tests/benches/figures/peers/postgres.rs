//! PostgreSQL as a durable queue: one row of 1 KB with an id in each transaction, by as many clients as there are senders.
//!
//! Its own `pgbench` sends them, with prepared statements. Nobody verifies a signature, and no HTTP is spoken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use bulkhead_tests::Signal;

use super::Peer;
use super::server::{Place, Server, output, version};
use crate::flood::CONNECTIONS;
use crate::webhooks::{BODY_BYTES, REQUESTS};

/// Where Debian keeps versions beside each other.
const VERSIONS: &str = "/usr/lib/postgresql";
/// It refuses to run as root; its package makes this user.
const OWNER: &str = "postgres";
const SETTINGS: [&str; 4] = ["fsync=on", "synchronous_commit=on", "full_page_writes=on", "unix_socket_directories="];
const USER: &str = "bulkhead";
const TABLE: &str = "CREATE TABLE message (id text PRIMARY KEY, body text NOT NULL)";
const INSERT: &str = "\\set n :n + 1\n\
    INSERT INTO message VALUES ((:round)::text || '-' || (:client_id)::text || '-' || (:n)::text, :body) \
    ON CONFLICT DO NOTHING;\n";
const COUNT: &str = "SELECT count(*), current_setting('fsync'), current_setting('synchronous_commit') FROM message";

/// Its programs.
struct Programs {
    folder: PathBuf,
}

/// A cluster that runs.
struct Cluster<'a> {
    programs: &'a Programs,
    /// It ends before its folder goes.
    server: Option<Server>,
    place: Place,
    password: String,
}

pub(crate) fn find() -> anyhow::Result<Peer> {
    let programs = Programs::find();
    let missing = "PostgreSQL is not here: apt-get install postgresql";
    let version = version(&programs.path("postgres"), "--version").context(missing)?;
    let how = format!(
        "{version}: INSERT … ON CONFLICT DO NOTHING, prepared, fsync and synchronous_commit on; 1 KB, pgbench -c 64"
    );
    Ok(Peer::new("postgres_insert_per_second", "rows/s", how, move || round(&programs)))
}

fn round(programs: &Programs) -> anyhow::Result<f64> {
    let cluster = Cluster::start(programs)?;
    let _ = output(cluster.client("psql").args(["-c", TABLE]))?;
    let script = cluster.place.write("insert.sql", INSERT)?;
    let insert = |round: &str, each: usize| {
        let mut pgbench = cluster.client("pgbench");
        pgbench.args(["-n", "-c", &CONNECTIONS.to_string(), "-j", "2", "-M", "prepared", "-t", &each.to_string()]);
        pgbench.args(["-D", "n=0", "-D", &format!("round={round}"), "-D", &format!("body={}", "x".repeat(BODY_BYTES))]);
        output(pgbench.arg("-f").arg(&script))
    };
    let each = REQUESTS / CONNECTIONS;
    let _ = insert("warm", each / 10)?;
    let said = insert("full", each)?;
    let kept = output(cluster.client("psql").args(["-A", "-t", "-c", COUNT]))?;
    let sent = (each / 10 + each) * CONNECTIONS;
    ensure!(kept == format!("{sent}|on|on"), "PostgreSQL has {kept}, where {sent} rows were inserted");
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.with_context(|| format!("pgbench says no rate:\n{said}"))
}

impl Programs {
    /// Those of the newest version, or what is on the PATH.
    fn find() -> Self {
        let folders = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
        let versions = folders.filter_map(|folder| {
            let number: u32 = folder.file_name().to_str()?.parse().ok()?;
            let programs = folder.path().join("bin");
            programs.join("initdb").exists().then_some((number, programs))
        });
        Self { folder: versions.max().map_or_else(PathBuf::new, |(_, programs)| programs) }
    }

    fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }
}

impl<'a> Cluster<'a> {
    /// A fresh one. It has a password, because whoever is its superuser runs programs as its owner.
    fn start(programs: &'a Programs) -> anyhow::Result<Self> {
        let mut key = [0; 16];
        aws_lc_rs::rand::fill(&mut key).context("drawing a password")?;
        let password = data_encoding::HEXLOWER.encode(&key);
        let mut cluster = Self { programs, server: None, place: Place::new()?, password };
        let place = &cluster.place;
        let password = place.write("password", &cluster.password)?;
        give_away(place.path())?;
        let mut initdb = as_owner(&programs.path("initdb"));
        initdb.args(["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "-U", USER, "-D", "data", "--pwfile"]);
        let _ = output(initdb.arg(password).current_dir(place.path()))?;
        let mut postgres = as_owner(&programs.path("postgres"));
        let address = place.address;
        postgres.args(["-D", "data", "-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        postgres.args(SETTINGS.into_iter().flat_map(|setting| ["-c", setting]));
        // It ends its processes with it, and makes no checkpoint.
        let mut server = place.start(&mut postgres, Signal::QUIT)?;
        let is_ready = async || cluster.client("pg_isready").output().is_ok_and(|output| output.status.success());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(server.wait(is_ready)).context("PostgreSQL")?;
        cluster.server = Some(server);
        Ok(cluster)
    }

    /// One of its clients, told whom to ask.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.path(program));
        let address = self.place.address;
        command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-U", USER]);
        command.env("PGDATABASE", "postgres").env("PGPASSWORD", &self.password).current_dir(self.place.path());
        command
    }
}

/// Runs a program as its own user where this one is root.
fn as_owner(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={OWNER}"), &format!("--regid={OWNER}"), "--init-groups"]).arg(program);
    command
}

/// Gives its folder to that user.
fn give_away(folder: &Path) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        let _ = output(Command::new("chown").arg(OWNER).arg(folder))?;
    }
    Ok(())
}
