//! What the host offers to components, and what to change in one that asks for something else.
//!
//! The linker knows what is offered; this table says it in words that a person can act on. A test keeps the two equal.

use serde::Serialize;
use wasmtime::component::{Component, InstancePre};

use super::compile::LoadError;
use super::engine::Engine;
use crate::capability::Session;

/// Whether an import is there for a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Offered {
    /// It works, within the connector's grants.
    Yes,
    /// It is linked and always refuses.
    Refused,
    /// It is not there: the component cannot run.
    No,
}

/// Interfaces of one package that are offered in the same versions, and alike.
struct Package {
    name: &'static str,
    interfaces: &'static [&'static str],
    versions: Versions,
    offered: Offered,
}

enum Versions {
    /// Every release with this beginning.
    Series(&'static str),
    /// These alone: pre-releases match only themselves.
    Exactly(&'static [&'static str]),
}

const WASI: Versions = Versions::Series("0.2.");

const PACKAGES: [Package; 12] = [
    Package {
        name: "bulkhead:connector",
        interfaces: &["types", "http", "queue", "secrets", "reveal", "metrics", "trace"],
        versions: Versions::Series("0.1."),
        offered: Offered::Yes,
    },
    Package { name: "wasi:io", interfaces: &["error", "poll", "streams"], versions: WASI, offered: Offered::Yes },
    Package {
        name: "wasi:clocks",
        interfaces: &["wall-clock", "monotonic-clock"],
        versions: WASI,
        offered: Offered::Yes,
    },
    Package {
        name: "wasi:random",
        interfaces: &["random", "insecure", "insecure-seed"],
        versions: WASI,
        offered: Offered::Yes,
    },
    Package { name: "wasi:cli", interfaces: &["stdout", "stderr"], versions: WASI, offered: Offered::Yes },
    // No variables, no arguments, no input, no terminal; and no way to end the process: it fails the call.
    Package {
        name: "wasi:cli",
        interfaces: &[
            "environment",
            "exit",
            "stdin",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
        versions: WASI,
        offered: Offered::Refused,
    },
    Package { name: "wasi:filesystem", interfaces: &["preopens", "types"], versions: WASI, offered: Offered::Refused },
    Package {
        name: "wasi:sockets",
        interfaces: &[
            "network",
            "instance-network",
            "ip-name-lookup",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
        versions: WASI,
        offered: Offered::Refused,
    },
    Package { name: "wasi:http", interfaces: &["types", "outgoing-handler"], versions: WASI, offered: Offered::Yes },
    Package {
        name: "wasi:config",
        interfaces: &["store"],
        versions: Versions::Exactly(&["0.2.0-rc.1", "0.2.0-draft", "0.2.0-draft-2024-09-27"]),
        offered: Offered::Yes,
    },
    Package {
        name: "wasi:keyvalue",
        interfaces: &["store", "atomics", "batch"],
        versions: Versions::Exactly(&["0.2.0-draft", "0.2.0-draft2"]),
        offered: Offered::Yes,
    },
    Package {
        name: "wasi:logging",
        interfaces: &["logging"],
        versions: Versions::Exactly(&["0.1.0-draft"]),
        offered: Offered::Yes,
    },
];

/// The parts of `namespace:package/interface@version`.
struct Name<'a> {
    package: &'a str,
    interface: &'a str,
    version: &'a str,
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Self {
        let (path, version) = text.split_once('@').unwrap_or((text, ""));
        let (package, interface) = path.split_once('/').unwrap_or((path, ""));
        Self { package, interface, version }
    }
}

impl Versions {
    fn hold(&self, version: &str) -> bool {
        match self {
            Self::Series(series) => {
                version.strip_prefix(series).is_some_and(|patch| patch.bytes().all(|byte| byte.is_ascii_digit()))
            }
            Self::Exactly(versions) => versions.contains(&version),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Series(series) => format!("{series}x"),
            Self::Exactly(versions) => versions.join(", "),
        }
    }
}

/// Whether an import of this name is offered.
pub(super) fn offered(import: &str) -> Offered {
    let name = Name::parse(import);
    let mut packages = PACKAGES.iter().filter(|package| package.name == name.package);
    packages
        .find(|package| package.interfaces.contains(&name.interface) && package.versions.hold(name.version))
        .map_or(Offered::No, |package| package.offered)
}

/// The names of what a component imports, in its order.
pub(super) fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().imports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect()
}

/// Links a component, or says what to change.
pub(super) fn link(engine: &Engine, component: &Component) -> Result<InstancePre<Session>, LoadError> {
    let missing: Vec<_> = imports(engine, component)
        .into_iter()
        .filter(|name| offered(name) == Offered::No)
        .map(|name| advice(&name))
        .collect();
    if !missing.is_empty() {
        return Err(LoadError::Unlinkable(missing.join("; ")));
    }
    engine.linker().instantiate_pre(component).map_err(|error| LoadError::Misfit(format!("{error:#}")))
}

/// What to do about an import that is not offered.
fn advice(import: &str) -> String {
    let name = Name::parse(import);
    let same: Vec<_> = PACKAGES.iter().filter(|package| package.name == name.package).collect();
    let Some(package) = same.first() else {
        let mut offered: Vec<_> = PACKAGES.iter().map(|package| package.name).collect();
        offered.dedup();
        return format!(
            "it imports `{import}`, and nothing of `{}` is offered: remove the import, or compose the component with one that provides it (offered are {})",
            name.package,
            offered.join(", ")
        );
    };
    let versions = package.versions.text();
    let interfaces: Vec<_> = same.iter().flat_map(|package| package.interfaces).copied().collect();
    if !interfaces.contains(&name.interface) {
        return format!(
            "it imports `{import}`, which is not offered: of `{}` there are {} in {versions}; remove the import",
            package.name,
            interfaces.join(", ")
        );
    }
    let change = if name.version.starts_with("0.3") && package.name.starts_with("wasi:") {
        "build it for WASI 0.2 (target `wasm32-wasip2`)"
    } else {
        "build it against one of these"
    };
    format!(
        "it imports `{import}`; the versions of `{}/{}` that are offered: {versions}; {change}",
        package.name, name.interface
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::engine::Settings;

    #[test]
    fn released_versions_match_their_series_and_drafts_only_themselves() {
        assert_eq!(offered("wasi:io/streams@0.2.11"), Offered::Yes);
        assert_eq!(offered("wasi:io/streams@0.2.0-rc-2023"), Offered::No);
        assert_eq!(offered("wasi:sockets/tcp@0.2.3"), Offered::Refused);
        assert_eq!(offered("wasi:cli/stdout@0.2.3"), Offered::Yes);
        assert_eq!(offered("wasi:cli/environment@0.2.3"), Offered::Refused);
        assert_eq!(offered("wasi:cli/run@0.2.3"), Offered::No);
        assert_eq!(offered("wasi:keyvalue/store@0.2.0-draft2"), Offered::Yes);
        assert_eq!(offered("wasi:keyvalue/store@0.2.0-draft3"), Offered::No);
        assert_eq!(offered("bulkhead:connector/queue@0.1.7"), Offered::Yes);
        assert_eq!(offered("bulkhead:connector/queue@0.2.0"), Offered::No);
    }

    /// One function or resource of each interface; `types` has neither.
    const ITEMS: [(&str, &str); 40] = [
        ("bulkhead:connector/http", "send"),
        ("bulkhead:connector/queue", "publish"),
        ("bulkhead:connector/secrets", "secret"),
        ("bulkhead:connector/reveal", "reveal"),
        ("bulkhead:connector/metrics", "count"),
        ("bulkhead:connector/trace", "set-attribute"),
        ("wasi:io/error", "error"),
        ("wasi:io/poll", "pollable"),
        ("wasi:io/streams", "input-stream"),
        ("wasi:clocks/wall-clock", "now"),
        ("wasi:clocks/monotonic-clock", "now"),
        ("wasi:random/random", "get-random-bytes"),
        ("wasi:random/insecure", "get-insecure-random-bytes"),
        ("wasi:random/insecure-seed", "insecure-seed"),
        ("wasi:cli/environment", "get-environment"),
        ("wasi:cli/exit", "exit"),
        ("wasi:cli/stdin", "get-stdin"),
        ("wasi:cli/stdout", "get-stdout"),
        ("wasi:cli/stderr", "get-stderr"),
        ("wasi:cli/terminal-input", "terminal-input"),
        ("wasi:cli/terminal-output", "terminal-output"),
        ("wasi:cli/terminal-stdin", "get-terminal-stdin"),
        ("wasi:cli/terminal-stdout", "get-terminal-stdout"),
        ("wasi:cli/terminal-stderr", "get-terminal-stderr"),
        ("wasi:filesystem/preopens", "get-directories"),
        ("wasi:filesystem/types", "descriptor"),
        ("wasi:sockets/network", "network"),
        ("wasi:sockets/instance-network", "instance-network"),
        ("wasi:sockets/ip-name-lookup", "resolve-addresses"),
        ("wasi:sockets/tcp", "tcp-socket"),
        ("wasi:sockets/tcp-create-socket", "create-tcp-socket"),
        ("wasi:sockets/udp", "udp-socket"),
        ("wasi:sockets/udp-create-socket", "create-udp-socket"),
        ("wasi:http/types", "fields"),
        ("wasi:http/outgoing-handler", "handle"),
        ("wasi:config/store", "get"),
        ("wasi:keyvalue/store", "bucket"),
        ("wasi:keyvalue/atomics", "increment"),
        ("wasi:keyvalue/batch", "get-many"),
        ("wasi:logging/logging", "log"),
    ];

    /// Something of this name is there, whatever its type.
    fn is_linked(engine: &Engine, interface: &str, item: &str) -> bool {
        ["func", "type (sub resource)"].iter().any(|kind| {
            let text = format!(r#"(component (import "{interface}" (instance (export "{item}" ({kind})))))"#);
            let component = Component::new(engine.wasmtime(), wat::parse_str(text).expect("a component"));
            let linked = engine.linker().instantiate_pre(&component.expect("a component"));
            linked.err().is_none_or(|error| !format!("{error:#}").contains("implementation is missing"))
        })
    }

    #[test]
    fn everything_in_the_table_is_linked() {
        let engine = Engine::start(Settings::default()).expect("an engine");
        for (interface, item) in ITEMS {
            let name = Name::parse(interface);
            let mut packages = PACKAGES.iter().filter(|package| package.name == name.package);
            let package = packages.find(|package| package.interfaces.contains(&name.interface));
            let package = package.expect("it is in the table");
            let versions = match &package.versions {
                Versions::Series(series) => vec![format!("{series}0")],
                Versions::Exactly(versions) => versions.iter().map(|&version| version.to_owned()).collect(),
            };
            for version in versions {
                assert!(is_linked(&engine, &format!("{interface}@{version}"), item), "{interface}@{version}");
            }
        }
        assert!(!is_linked(&engine, "wasi:cli/run@0.2.0", "run"));
    }

    #[test]
    fn the_test_knows_every_interface_of_the_table() {
        let names = PACKAGES.iter().flat_map(|package| package.interfaces.iter().map(move |it| (package.name, it)));
        let unknown: Vec<_> = names
            .map(|(package, interface)| format!("{package}/{interface}"))
            .filter(|name| ITEMS.iter().all(|(interface, _)| interface != name))
            .collect();
        assert_eq!(unknown, ["bulkhead:connector/types"]);
    }
}
