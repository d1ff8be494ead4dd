//! The plugins in `tests/guests` and the Rust ones in `examples`, built once for each process of tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "plugin";

/// For components in text: the types of a message and of a failure, as `wit/types.wit` has them.
pub const MESSAGE_TYPES: &str = r#"
    (type $header (tuple string string))
    (type $message-type (record (field "id" string) (field "queue" string) (field "key" (option string))
        (field "headers" (list $header)) (field "body" (list u8)) (field "attempt" u32) (field "enqueued-at-ms" u64)
        (field "expires-at-ms" (option u64)) (field "parent" (option string)) (field "hops" u32)))
    (export $message "message" (type $message-type))
    (type $retry-type (record (field "reason" string) (field "after-ms" (option u64))))
    (export $retry "retry" (type $retry-type))
    (type $failure-type (variant (case "retry" $retry) (case "reject" string)))
    (export $failure "failure" (type $failure-type))
"#;

/// The folder with the built guests, or why there is none.
static GUESTS: LazyLock<Result<PathBuf, String>> = LazyLock::new(build_guests);
/// The same for the examples.
static EXAMPLES: LazyLock<Result<PathBuf, String>> = LazyLock::new(build_examples);

/// The component of `tests/guests/NAME`. Cargo sees itself whether something has to be built.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    component(&GUESTS, &format!("guest_{}", name.replace('-', "_")))
}

/// The component of `examples/NAME`, the same way.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    component(&EXAMPLES, name)
}

fn component(built: &Result<PathBuf, String>, library: &str) -> PathBuf {
    let folder = built.as_ref().unwrap_or_else(|error| panic!("{error}"));
    let path = folder.join(format!("{library}.wasm"));
    assert!(path.is_file(), "there is no plugin `{library}`: {} is missing", path.display());
    path
}

/// The guests are a workspace of their own.
fn build_guests() -> Result<PathBuf, String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    build(&tests.join("guests"), &[])
}

fn build_examples() -> Result<PathBuf, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let packages = ["--package", "bulkhead-example-saga", "--package", "bulkhead-example-outbox"];
    build(&workspace, &packages)
}

/// All plugins are built in the folder of the built-in ones, so that what generates their bindings is built once. No outer
/// cargo holds its lock.
fn build(workspace: &Path, packages: &[&str]) -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/builtin");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--profile", PROFILE, "--target", TARGET]).args(packages);
    cargo.arg("--target-dir").arg(&target);
    // What the outer cargo sets is meant for its own target.
    for variable in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(variable);
    }
    let output = cargo.current_dir(workspace).output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(target.join(TARGET).join(PROFILE));
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("the plugins do not build (is the target there? rustup target add {TARGET}):\n{errors}"))
}
