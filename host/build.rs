//! Builds the built-in plugins once, as components, and writes the table that embeds them.
//!
//! In the repository they are built from `plugins/` into a target folder of their own, beside this build's: its lock is
//! not ours, so the inner cargo never waits for the outer one, and every profile of the host shares it. A packaged crate
//! has no `plugins/`; it carries them as `prebuilt/NAME.wasm`.
#![allow(clippy::disallowed_methods, reason = "cargo configures a build script by its environment")]

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "plugin";

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let host = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let plugins = host.join("../plugins");
    let components = if env::var_os("DOCS_RS").is_some() {
        Vec::new()
    } else if plugins.is_dir() {
        build(&fs::canonicalize(plugins)?, &out)?
    } else {
        prebuilt(&host.join("prebuilt"))?
    };
    write_table(&out, &components)
}

/// A built-in plugin's name and its component.
type Component = (String, PathBuf);

fn build(plugins: &Path, out: &Path) -> Result<Vec<Component>, Failure> {
    let workspace = plugins.parent().ok_or("plugins/ lies in the workspace")?;
    for source in ["plugins", "sdk", "wit", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    require_target()?;
    let names = names_in(plugins, |path| path.join("Cargo.toml").is_file())?;
    let target_folder = target_folder(out);
    let mut cargo = clean_cargo()?;
    cargo.current_dir(workspace).args(["build", "--locked", "--profile", PROFILE, "--target", TARGET]);
    cargo.arg("--target-dir").arg(&target_folder);
    for name in &names {
        cargo.args(["--package", &format!("bulkhead-plugin-{name}")]);
    }
    let result = cargo.output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !result.status.success() {
        return Err(format!("the built-in plugins do not build:\n{}", String::from_utf8_lossy(&result.stderr)).into());
    }
    let built = target_folder.join(TARGET).join(PROFILE);
    let file = |name: &String| built.join(format!("bulkhead_plugin_{}.wasm", name.replace('-', "_")));
    Ok(names.iter().map(|name| (name.clone(), file(name))).collect())
}

fn prebuilt(folder: &Path) -> Result<Vec<Component>, Failure> {
    println!("cargo::rerun-if-changed={}", folder.display());
    if !folder.is_dir() {
        return Err(
            "neither ../plugins nor prebuilt/ is here: build in the repository, or from a crate that `cargo xtask package` made".into()
        );
    }
    let files = names_in(folder, |path| path.extension().is_some_and(|extension| extension == "wasm"))?;
    let component = |file: String| (file.trim_end_matches(".wasm").to_owned(), folder.join(&file));
    Ok(files.into_iter().map(component).collect())
}

fn write_table(out: &Path, components: &[Component]) -> Result<(), Failure> {
    let mut table = String::from("&[\n");
    for (name, file) in components {
        writeln!(table, "    ({name:?}, include_bytes!({:?})),", fs::canonicalize(file)?)?;
    }
    table.push_str("]\n");
    fs::write(out.join("builtin.rs"), table)?;
    Ok(())
}

/// Without the target cargo's own message is a page long and names `core`, not what to do.
fn require_target() -> Result<(), Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let answer = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output()?;
    if Path::new(String::from_utf8(answer.stdout)?.trim()).is_dir() {
        return Ok(());
    }
    Err(format!("the built-in plugins need the target {TARGET}: rustup target add {TARGET}").into())
}

/// Cargo without what this build was given for itself: flags of another target, clippy as compiler, features, folders.
/// What is the user's stays: the home folder, the network's settings and the job server.
fn clean_cargo() -> Result<Command, Failure> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let name = name.into_string().map_err(|name| format!("the environment has {name:?}"))?;
        if leaks(&name) {
            cargo.env_remove(name);
        }
    }
    Ok(cargo)
}

fn leaks(name: &str) -> bool {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_TERM_"];
    const DROPPED: [&str; 9] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        "PROFILE",
        "TARGET",
        "DEBUG",
        "OPT_LEVEL",
        "OUT_DIR",
    ];
    DROPPED.contains(&name) || (name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept)))
}

/// `target/builtin`, from `target/PROFILE/build/PACKAGE/out`.
fn target_folder(out: &Path) -> PathBuf {
    out.ancestors().nth(4).unwrap_or(out).join("builtin")
}

/// The names of what lies in a folder, sorted, so that the table is the same on every machine.
fn names_in(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if wanted(&entry.path()) {
            names.push(entry.file_name().into_string().map_err(|name| format!("{name:?} is no plugin's name"))?);
        }
    }
    names.sort();
    Ok(names)
}
