//! What the host's build script says and does where it cannot build the built-in plugins from their sources: it needs
//! nothing but the standard library, so it is built and run here as cargo would, in a folder of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A crate of the host, or what is left of it.
struct Package(TempDir);

impl Package {
    /// With these files, whose paths begin at the folder around it.
    fn new(files: &[&str]) -> Self {
        let package = Self(tempfile::tempdir().unwrap());
        for file in files {
            let path = package.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::create_dir_all(package.out()).unwrap();
        package
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.path("target/debug/build/host/out")
    }

    /// Runs the script with a compiler that knows no other target.
    fn build(&self, variables: &[(&str, &str)]) -> Output {
        let (script, compiler) = (self.path("script"), self.path("rustc"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/build.rs");
        let built = Command::new("rustc").args(["--edition", "2024", "-o"]).arg(&script).arg(source).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        fs::write(&compiler, "#!/bin/sh\necho /nowhere/lib\n").unwrap();
        fs::set_permissions(&compiler, fs::Permissions::from_mode(0o700)).unwrap();
        let mut command = Command::new(script);
        command.env("CARGO_MANIFEST_DIR", self.path("host")).env("OUT_DIR", self.out()).env("RUSTC", compiler);
        command.env_remove("DOCS_RS").envs(variables.iter().copied()).output().unwrap()
    }
}

fn check_refused(files: &[&str], fix: &str) {
    let package = Package::new(files);
    let refused = package.build(&[]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && errors.contains(fix), "{errors}");
    assert!(!package.out().join("builtin.rs").exists());
}

/// The plugins that the script has found.
fn table(package: &Package, variables: &[(&str, &str)]) -> String {
    let built = package.build(variables);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    fs::read_to_string(package.out().join("builtin.rs")).unwrap()
}

#[test]
fn a_missing_target_is_named_with_the_command_that_adds_it() {
    let fix = "the built-in plugins need the target wasm32-wasip2: rustup target add wasm32-wasip2";
    check_refused(&["host/build.rs", "plugins/one/Cargo.toml"], fix);
}

#[test]
fn a_crate_with_neither_sources_nor_plugins_says_where_to_get_them() {
    check_refused(&["host/build.rs"], "from a crate that `cargo xtask package` made");
}

#[test]
fn a_packaged_crate_embeds_the_plugins_that_it_carries_and_needs_no_target() {
    let package = Package::new(&["host/prebuilt/two.wasm", "host/prebuilt/one.wasm", "host/prebuilt/README.md"]);
    let entry = |name: &str| {
        let file = package.path(&format!("host/prebuilt/{name}.wasm")).canonicalize().unwrap();
        format!("    ({name:?}, include_bytes!({file:?})),\n")
    };
    assert_eq!(table(&package, &[]), format!("&[\n{}{}]\n", entry("one"), entry("two")));
}

#[test]
fn the_documentation_is_built_without_plugins() {
    let package = Package::new(&["host/build.rs", "plugins/one/Cargo.toml"]);
    assert_eq!(table(&package, &[("DOCS_RS", "1")]), "&[\n]\n");
}
