//! Plugins that only the tests use, built once for each run of the tests.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// The component of `tests/guests/NAME`.
pub fn guest(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<()> = OnceLock::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // With the built-in plugins: the tools that generate their bindings are built once.
    let target = root.join("target/builtin");
    BUILT.get_or_init(|| build(&root.join("tests/guests/Cargo.toml"), &target));
    let file = target.join(format!("wasm32-wasip2/plugin/guest_{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn build(manifest: &Path, target: &Path) {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "plugin", "--target", "wasm32-wasip2", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        // The flags of the host's own build are not for guests.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the guests do not build: is the target wasm32-wasip2 installed?");
}
