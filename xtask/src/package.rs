//! `cargo xtask package`: the crates as they are published, each checked where nothing of the repository is around it.
//!
//! A package of the host carries the built-in plugins prebuilt and the interfaces beside its sources; both are put there
//! first, and stay, so that `cargo publish` takes the same. Every package is unpacked into a folder of its own and goes
//! through `cargo check` there. What is checked is what lies in the archive, never the workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::{cargo, toolchain};

/// In the order in which they are published.
const CRATES: [&str; 3] = ["bulkhead-sdk-macros", "bulkhead-sdk", "bulkhead-host"];
/// The profile of plugins.
const PROFILE: &str = "plugin";

/// What `cargo xtask package` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also with changes that are not committed
    #[arg(long)]
    allow_dirty: bool,
}

/// Makes and checks the packages; whether all of them build.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    toolchain::require_plugin_target()?;
    let target = cargo::target_folder()?;
    let plugins = build_plugins(&target)?;
    carry(&plugins)?;
    package(options)?;
    let unpacked = unpack(&target)?;
    for plugin in plugins.iter().map(|plugin| plugin.name.as_str()) {
        let carried = unpacked.join(folder("bulkhead-host")).join(format!("prebuilt/{plugin}.wasm"));
        ensure!(carried.is_file(), "the package of the host lacks the built-in plugin {plugin}");
    }
    let checks = [("bulkhead-sdk", None), ("bulkhead-sdk", Some(toolchain::PLUGIN_TARGET)), ("bulkhead-host", None)];
    for (name, platform) in checks {
        println!("\n== {name} alone{}", platform.map(|platform| format!(", for {platform}")).unwrap_or_default());
        if !cargo::succeeds(&mut check(&unpacked, &target, name, platform))? {
            return Ok(false);
        }
    }
    fs::remove_dir_all(&unpacked)?;
    println!("\nthe packages are in {}", target.join("package").display());
    println!("to publish: cargo publish --allow-dirty -p {}", CRATES.join(" -p "));
    Ok(true)
}

/// A built-in plugin and its component.
struct Plugin {
    name: String,
    component: PathBuf,
}

/// Where the host's build script builds them too: nothing is built twice.
fn build_plugins(target: &Path) -> anyhow::Result<Vec<Plugin>> {
    let folder = target.join("builtin");
    let mut build = cargo::command(&["build", "--locked", "--profile", PROFILE, "--target", toolchain::PLUGIN_TARGET]);
    build.arg("--target-dir").arg(&folder);
    let mut plugins = Vec::new();
    for entry in fs::read_dir(cargo::root().join("plugins"))? {
        let name = entry?.file_name().into_string().ok().context("a plugin's name is text")?;
        let file = format!("bulkhead_plugin_{}.wasm", name.replace('-', "_"));
        build.args(["--package", &format!("bulkhead-plugin-{name}")]);
        plugins.push(Plugin { name, component: folder.join(toolchain::PLUGIN_TARGET).join(PROFILE).join(file) });
    }
    cargo::must(&mut build)?;
    Ok(plugins)
}

/// Puts them where a package of the host looks for them, and nothing else beside them.
fn carry(plugins: &[Plugin]) -> anyhow::Result<()> {
    let prebuilt = cargo::root().join("host/prebuilt");
    if prebuilt.is_dir() {
        fs::remove_dir_all(&prebuilt)?;
    }
    fs::create_dir(&prebuilt)?;
    for plugin in plugins {
        fs::copy(&plugin.component, prebuilt.join(format!("{}.wasm", plugin.name)))
            .with_context(|| format!("cannot copy {}", plugin.component.display()))?;
    }
    Ok(())
}

/// Cargo would take the prebuilt plugins, which git does not know, for changes: what is committed is checked here.
fn package(options: &Options) -> anyhow::Result<()> {
    if !options.allow_dirty {
        let status = Command::new("git").args(["status", "--porcelain"]).current_dir(cargo::root()).output();
        let changes = status.context("git cannot be started")?.stdout;
        let changes = String::from_utf8_lossy(&changes);
        ensure!(changes.is_empty(), "commit this first, or say --allow-dirty:\n{changes}");
    }
    let mut package = cargo::command(&["package", "--locked", "--no-verify", "--allow-dirty"]);
    package.args(CRATES.iter().flat_map(|name| ["--package", *name]));
    cargo::must(&mut package)
}

/// Unpacks all of them, outside of the workspace, where cargo would find it.
fn unpack(target: &Path) -> anyhow::Result<PathBuf> {
    let unpacked = std::env::temp_dir().join(format!("bulkhead-package-{}", std::process::id()));
    fs::create_dir_all(&unpacked)?;
    for name in CRATES {
        let archive = target.join("package").join(folder(name)).with_added_extension("crate");
        cargo::must(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&unpacked))?;
    }
    Ok(unpacked)
}

/// `cargo check` of one package, with the workspace's own profile and target folder, so that dependencies are shared.
fn check(unpacked: &Path, target: &Path, name: &str, platform: Option<&str>) -> Command {
    let mut check = cargo::command(&["check"]);
    check.current_dir(unpacked.join(folder(name))).arg("--target-dir").arg(target);
    if name == "bulkhead-sdk" {
        // Not published yet when the SDK is checked.
        let macros = unpacked.join(folder("bulkhead-sdk-macros"));
        check.arg("--config").arg(format!("patch.crates-io.bulkhead-sdk-macros.path={macros:?}"));
    } else {
        check.arg("--locked");
    }
    for setting in
        ["debug='line-tables-only'", "package.'*'.opt-level=2", "package.'*'.debug=false", "build-override.opt-level=1"]
    {
        check.arg("--config").arg(format!("profile.dev.{setting}"));
    }
    if let Some(platform) = platform {
        check.args(["--target", platform]);
    }
    check
}

fn folder(name: &str) -> String {
    format!("{name}-{}", env!("CARGO_PKG_VERSION"))
}
