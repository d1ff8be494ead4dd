//! The plugins in `tests/guests`, built once for each process of tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

const TARGET: &str = "wasm32-wasip2";

/// The folder with the built components, or why there is none.
static BUILT: LazyLock<Result<PathBuf, String>> = LazyLock::new(build);

/// The component of `tests/guests/NAME`. Cargo sees itself whether something has to be built.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    let folder = BUILT.as_ref().unwrap_or_else(|error| panic!("{error}"));
    let path = folder.join(format!("guest_{}.wasm", name.replace('-', "_")));
    assert!(path.is_file(), "there is no guest `{name}`: {} is missing", path.display());
    path
}

/// The guests are a workspace with a target folder of their own, whose lock no outer cargo holds.
fn build() -> Result<PathBuf, String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (workspace, target) = (tests.join("guests"), tests.join("../target/guests"));
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--release", "--target", TARGET, "--target-dir"]).arg(&target);
    // What the outer cargo sets is meant for its own target.
    for variable in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(variable);
    }
    let output = cargo.current_dir(&workspace).output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(target.join(TARGET).join("release"));
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("the guests do not build (is the target there? rustup target add {TARGET}):\n{errors}"))
}
