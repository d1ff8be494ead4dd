//! The architecture as a test: imports only point to the right, connections and files are opened by those who own them,
//! and a file stays a file that one can read.
//!
//! Reads the sources with `syn`, so paths in expressions, types, macros, attributes and re-exports count like imports.
//! It does not expand macros: a path that a macro of another crate makes up is not seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// From left to right; a module may import from its own layer and from those to its right.
const LAYERS: [(&str, &[&str]); 8] = [
    ("entry", &["main", "cli", "host", "admin"]),
    ("config", &["config"]),
    ("trigger", &["trigger"]),
    ("delivery", &["delivery"]),
    ("runtime", &["runtime"]),
    ("capability", &["capability"]),
    (
        "outside",
        &[
            "broker",
            "ledger",
            "egress",
            "listener",
            "secret_store",
            "plugin_store",
            "audit",
            "telemetry",
            "backup",
            "page",
        ],
    ),
    (
        "vocabulary",
        &["message", "settlement", "limit", "mask", "metrics", "feed", "bindings", "clock", "id", "planted"],
    ),
];
const OUTSIDE: usize = 6;

/// What opens connections and files. Types that only name an address, such as `std::net::IpAddr`, are not here.
const OPENERS: [&str; 11] = [
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os::unix::net",
    "tokio::fs",
    "tokio::net",
    "rustix::fs",
    "rustix::net",
    "reqwest",
    "rusqlite",
];

/// What modules left of the outside layer may name all the same, and why.
const ALLOWED: [(&str, &[&str], &str); 2] = [
    ("config", &["std::fs"], "it reads its own files"),
    (
        "capability::http",
        &["reqwest::Body", "reqwest::Request", "reqwest::Response"],
        "values; what opens connections is the client, and egress makes it",
    ),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn the_host_keeps_its_layers() {
    let root = workspace().join("host/src");
    report(sources(&root).iter().flat_map(|file| imports(&module_of(&root, file), &shown(file), &read(file))));
}

#[test]
fn every_source_file_can_be_read() {
    let folders =
        ["checker", "host", "sdk", "plugins", "tests", "xtask", "demo"].map(|folder| workspace().join(folder));
    report(folders.iter().flat_map(|folder| sources(folder)).flat_map(|file| shape(&shown(&file), &read(&file))));
}

/// What is checked must not check itself.
#[test]
fn the_checker_shares_no_code_with_the_host() {
    let checker = workspace().join("checker");
    assert_eq!(own_dependencies(&read(&checker.join("Cargo.toml"))), Vec::<String>::new());
    let borrows = |file: &PathBuf| ["host/src", "tests/src", "bulkhead_host"].iter().any(|it| read(file).contains(it));
    assert_eq!(sources(&checker).into_iter().find(borrows), None);
}

/// Dependencies of any kind on crates of this workspace.
fn own_dependencies(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = toml::from_str(manifest).expect("a manifest is TOML, for cargo reads it");
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let names = tables.iter().filter_map(|table| manifest.get(*table)?.as_table()).flat_map(toml::Table::keys);
    names.filter(|name| name.starts_with("bulkhead")).cloned().collect()
}

fn report(findings: impl Iterator<Item = String>) {
    let findings: Vec<String> = findings.collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

// What a source names.

/// A path as it is written, with the braces of `use` opened out.
#[derive(Clone, Debug)]
struct Named {
    segments: Vec<String>,
    line: usize,
    /// The module in which it stands, from the crate's root.
    module: Vec<String>,
    is_use: bool,
    in_tests: bool,
}

struct Reader {
    module: Vec<String>,
    in_tests: bool,
    named: Vec<Named>,
}

impl Reader {
    fn read(module: &[String], text: &str) -> Vec<Named> {
        let file = syn::parse_file(text).expect("the sources parse, for they compile");
        let mut reader = Self { module: module.to_vec(), in_tests: false, named: Vec::new() };
        reader.visit_file(&file);
        reader.named
    }

    fn add(&mut self, segments: Vec<String>, line: usize, is_use: bool) {
        if !segments.is_empty() {
            self.named.push(Named { segments, line, module: self.module.clone(), is_use, in_tests: self.in_tests });
        }
    }

    fn add_use(&mut self, before: &[String], tree: &syn::UseTree) {
        let line = tree.span().start().line;
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Vec<String>>();
        match tree {
            syn::UseTree::Path(path) => self.add_use(&with(path.ident.to_string()), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.add_use(before, item)),
            syn::UseTree::Name(name) if name.ident == "self" && !before.is_empty() => {
                self.add(before.to_vec(), line, true)
            }
            syn::UseTree::Name(name) => self.add(with(name.ident.to_string()), line, true),
            syn::UseTree::Rename(rename) if rename.ident == "self" && !before.is_empty() => {
                self.add(before.to_vec(), line, true);
            }
            syn::UseTree::Rename(rename) => self.add(with(rename.ident.to_string()), line, true),
            syn::UseTree::Glob(_) => self.add(with("*".to_owned()), line, true),
        }
    }

    /// Paths among a macro's or an attribute's tokens; `a::{b, c}` is `a::b` and `a::c`.
    fn add_tokens(&mut self, before: &[String], tokens: TokenStream) {
        let mut path = before.to_vec();
        let (mut line, mut joined) = (0, true);
        for tree in tokens {
            match &tree {
                TokenTree::Ident(ident) => {
                    if !joined {
                        self.end_path(&mut path, before, line);
                    }
                    (line, joined) = (ident.span().start().line, false);
                    path.push(ident.to_string());
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => joined = path.len() > before.len(),
                TokenTree::Group(group)
                    if joined && group.delimiter() == Delimiter::Brace && path.len() > before.len() =>
                {
                    let prefix = std::mem::replace(&mut path, before.to_vec());
                    self.add_tokens(&prefix, group.stream());
                }
                TokenTree::Group(group) => {
                    self.end_path(&mut path, before, line);
                    joined = true;
                    self.add_tokens(&[], group.stream());
                }
                TokenTree::Literal(literal) => self.add_text(&literal.to_string(), literal.span().start().line),
                TokenTree::Punct(_) => {
                    self.end_path(&mut path, before, line);
                    joined = true;
                }
            }
        }
        self.end_path(&mut path, before, line);
    }

    fn end_path(&mut self, path: &mut Vec<String>, before: &[String], line: usize) {
        if path.len() > before.len().max(1) {
            self.add(path.clone(), line, false);
        }
        path.truncate(before.len());
    }

    /// A path as text, as in `#[serde(with = "crate::a")]`.
    fn add_text(&mut self, text: &str, line: usize) {
        let Some(text) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return };
        if let Ok(path) = syn::parse_str::<syn::Path>(text)
            && path.segments.len() > 1
        {
            self.add(segments(&path), line, false);
        }
    }
}

impl Visit<'_> for Reader {
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        let was_in_tests = self.in_tests;
        self.in_tests |= item.attrs.iter().any(is_test_only);
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
        self.in_tests = was_in_tests;
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.add_use(&[], &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &syn::ItemExternCrate) {
        let name = if item.ident == "self" { "crate".to_owned() } else { item.ident.to_string() };
        self.add(vec![name], item.span().start().line, true);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        if path.segments.len() > 1 {
            self.add(segments(path), path.span().start().line, false);
        }
        visit::visit_path(self, path);
    }

    /// `pub(in crate::a)` names who may see, not what is used.
    fn visit_vis_restricted(&mut self, _: &syn::VisRestricted) {}

    fn visit_macro(&mut self, item: &syn::Macro) {
        self.visit_path(&item.path);
        self.add_tokens(&[], item.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &syn::Attribute) {
        match &attribute.meta {
            syn::Meta::List(list) => self.add_tokens(&[], list.tokens.clone()),
            // A doc comment may speak of everything.
            syn::Meta::NameValue(_) | syn::Meta::Path(_) => {}
        }
    }
}

fn segments(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

fn is_test_only(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test")
}

// What of it is against the order.

/// Findings of one file of the host.
fn imports(module: &[String], file: &str, text: &str) -> Vec<String> {
    let Some(layer) = (if module.is_empty() { Some(0) } else { layer_of(module) }) else {
        return vec![format!(
            "{file}:1: the module `{}` has no layer: give it one in tests/tests/layers.rs",
            module.join("::")
        )];
    };
    let findings = Reader::read(module, text).into_iter().filter_map(|named| {
        let line = named.line;
        let says = match resolve(&named) {
            Some(target) => against_the_order(layer, module, &target),
            None => opens_without_owning(layer, &named),
        };
        says.map(|says| format!("{file}:{line}: {says}"))
    });
    let by_line: BTreeMap<String, ()> = findings.map(|finding| (finding, ())).collect();
    by_line.into_keys().collect()
}

/// The path from the crate's root; `None` for what other crates own, and for names that an import brought here.
fn resolve(named: &Named) -> Option<Vec<String>> {
    let mut rest = named.segments.as_slice();
    let mut from = match rest.first()?.as_str() {
        "crate" | "bulkhead_host" => Vec::new(),
        "self" => named.module.clone(),
        "super" => named.module[..named.module.len().saturating_sub(1)].to_vec(),
        _ => return None,
    };
    rest = &rest[1..];
    while rest.first().is_some_and(|segment| segment == "super") {
        from.pop();
        rest = &rest[1..];
    }
    from.extend_from_slice(rest);
    Some(from)
}

fn against_the_order(layer: usize, module: &[String], target: &[String]) -> Option<String> {
    let (layer_name, module) = (LAYERS[layer].0, module.join("::"));
    if layer == 0 {
        return None;
    }
    let Some(to) = layer_of(target) else {
        return Some(format!(
            "`{module}` ({layer_name}) names `{}` through the crate's root, which has no layer: name the module that owns it",
            target.join("::")
        ));
    };
    (to < layer).then(|| {
        format!(
            "`{module}` ({layer_name}) imports `{}` ({}): imports go {}, only to the right",
            target.join("::"),
            LAYERS[to].0,
            LAYERS.map(|(name, _)| name).join(" → ")
        )
    })
}

fn opens_without_owning(layer: usize, named: &Named) -> Option<String> {
    if layer == OUTSIDE || named.in_tests {
        return None;
    }
    let path = named.segments.join("::");
    let module = named.module.join("::");
    let covers = |opener: &str| is_inside(&path, opener) || path == parent_glob(opener);
    let hides = |opener: &str| named.is_use && is_inside(opener, &path);
    let opener = OPENERS.into_iter().find(|opener| covers(opener) || hides(opener))?;
    if ALLOWED
        .iter()
        .any(|(owner, what, _)| is_inside(&module, owner) && what.iter().any(|what| is_inside(&path, what)))
    {
        return None;
    }
    Some(if covers(opener) {
        format!("`{module}` ({}) uses `{path}`: only the outside layer opens connections and files", LAYERS[layer].0)
    } else {
        format!(
            "`{module}` ({}) imports `{path}`, which hides whether `{opener}` is used: import what you use",
            LAYERS[layer].0
        )
    })
}

fn is_inside(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn parent_glob(path: &str) -> String {
    path.rsplit_once("::").map_or_else(String::new, |(parent, _)| format!("{parent}::*"))
}

fn layer_of(module: &[String]) -> Option<usize> {
    let first = module.first()?.as_str();
    LAYERS.iter().position(|(_, modules)| modules.contains(&first))
}

// What makes a file hard to read.

fn shape(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(format!("{file}:1: opens without `//!`: say what it owns and what it does not do"));
    }
    let lines: Vec<&str> = text.lines().collect();
    let syntax = syn::parse_file(text).expect("the sources parse, for they compile");
    let tests = syntax.items.iter().find_map(|item| match item {
        syn::Item::Mod(item) if item.attrs.iter().any(is_test_only) => Some(item.span().start().line),
        _ => None,
    });
    let code = code_lines(&lines[..tests.map_or(lines.len(), |line| line - 1)]);
    let is_tests = file.contains("/tests/");
    if code > FILE_LINES_MAX && !is_tests {
        findings.push(format!("{file}:1: {code} lines of code before its tests: split it below {FILE_LINES_MAX}"));
    }
    let mut functions = Functions { file, lines: &lines, findings };
    functions.visit_file(&syntax);
    functions.findings
}

struct Functions<'a> {
    file: &'a str,
    lines: &'a [&'a str],
    findings: Vec<String>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        let code = code_lines(&self.lines[first - 1..last]);
        if code > FUNCTION_LINES_MAX {
            let (file, name) = (self.file, &signature.ident);
            self.findings
                .push(format!("{file}:{first}: `{name}` has {code} lines: split it below {FUNCTION_LINES_MAX}"));
        }
    }
}

impl Visit<'_> for Functions<'_> {
    /// A test that is a table of cases may be long.
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        if !item.attrs.iter().any(is_test_only) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &syn::ItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

fn code_lines(lines: &[&str]) -> usize {
    lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

// The files.

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace").to_owned()
}

/// Every Rust source below a folder, in a fixed order, without what builds leave behind.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("it can be read").path()).collect();
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        if entry.is_dir() && !entry.ends_with("target") {
            files.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
    files
}

/// `host/src/a/b.rs` and `host/src/a/b/mod.rs` are `a::b`; `lib.rs` is the root.
fn module_of(root: &Path, file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(root).expect("it lies in the root").with_extension("");
    let mut module: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

fn shown(file: &Path) -> String {
    file.strip_prefix(workspace()).unwrap_or(file).display().to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("a source can be read")
}

mod on_snippets {
    //! The test is tested: each way around the order must be found.

    use super::{imports, shape};

    fn check(module: &str, text: &str, expected: &[&str]) {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        let found = imports(&module, "x.rs", text);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (finding, part) in found.iter().zip(expected) {
            assert!(finding.contains(part), "{finding:?} does not say {part:?}");
        }
    }

    #[test]
    fn an_arrow_to_the_left_is_found_with_its_line_and_the_order() {
        check("ledger::settle", "\nuse crate::delivery::Lane;", &["x.rs:2: `ledger::settle` (outside) imports"]);
        check(
            "ledger",
            "use crate::delivery::Lane;",
            &["config → trigger → delivery → runtime → capability → outside → vocabulary"],
        );
    }

    #[test]
    fn arrows_to_the_right_and_within_a_layer_are_fine() {
        check(
            "delivery",
            "use crate::{ledger::Ledger, runtime::{self, Engine}};\nuse super::trigger_free as x;",
            &["crate's root"],
        );
        check("broker", "use crate::ledger::Ledger; fn f() -> crate::id::Name { todo!() }", &[]);
        check("cli::run", "use crate::host; use crate::config::Config;", &[]);
    }

    #[test]
    fn a_dependency_on_the_host_is_found_in_every_table() {
        let manifest = "[dependencies]\nserde = '1'\nbulkhead-host.workspace = true\n[dev-dependencies]\n\
            bulkhead-tests = { path = '../tests' }\n";
        assert_eq!(super::own_dependencies(manifest), ["bulkhead-host", "bulkhead-tests"]);
    }

    #[test]
    fn groups_renames_globs_and_re_exports_count() {
        check("message", "use crate::{id, ledger::{self as l}};", &["`ledger`"]);
        check("message", "use crate::config::*;", &["config::*"]);
        check("message", "pub use crate::config::Config as Settings;", &["config::Config"]);
    }

    #[test]
    fn paths_in_expressions_types_patterns_and_bounds_count() {
        check("id", "fn f() { crate::config::load(); }", &["config::load"]);
        check("id", "struct A(Vec<crate::ledger::Ledger>);", &["ledger::Ledger"]);
        check("id", "fn f(x: u8) { match x { crate::limit::A => {} crate::ledger::B => {} _ => {} } }", &["ledger::B"]);
        check("id", "impl<T: crate::runtime::Guest> X for T {}", &["runtime::Guest"]);
    }

    #[test]
    fn paths_in_macros_and_attributes_count() {
        check("id", "fn f() { println!(\"{}\", crate::config::NAME); }", &["config::NAME"]);
        check("id", "make! { use crate::{id::Name, ledger::{Ledger, From}}; }", &["ledger::From", "ledger::Ledger"]);
        check("id", "#[serde(with = \"crate::config::duration\")] struct A;", &["config::duration"]);
        check("id", "#[derive(crate::ledger::Row)] struct A;", &["ledger::Row"]);
    }

    #[test]
    fn super_and_self_lead_where_they_lead() {
        check("ledger::settle", "use super::super::config::Config;", &["config::Config"]);
        check("ledger::settle", "use super::Ledger; use self::inner::X;", &[]);
        check("ledger", "mod tests { use super::*; use super::super::delivery; }", &["`delivery`"]);
        check("ledger", "fn f() { super::delivery::go(); }", &["delivery::go"]);
    }

    #[test]
    fn the_crates_root_is_no_way_around() {
        check("ledger", "use crate::Ledger;", &["name the module that owns it"]);
        check("ledger", "use crate::*;", &["name the module that owns it"]);
        check("ledger", "use crate as root;", &["name the module that owns it"]);
        check("ledger", "extern crate self as root;", &["name the module that owns it"]);
        check("ledger", "use bulkhead_host::config::Config;", &["config::Config"]);
    }

    #[test]
    fn a_module_without_a_layer_is_found() {
        check("helpers", "", &["has no layer"]);
    }

    #[test]
    fn visibility_and_doc_comments_are_no_imports() {
        check(
            "ledger",
            "/// See [`crate::config::Config`].\npub(in crate::config) struct A; pub(crate) struct B;",
            &[],
        );
    }

    #[test]
    fn opening_without_owning_is_found() {
        check("delivery", "use std::fs::File;", &["only the outside layer opens"]);
        check("delivery", "fn f() { std::fs::read(\"x\"); }", &["std::fs::read"]);
        check("capability::http", "use std::{fs, net::{IpAddr, TcpStream}};", &["std::fs", "std::net::TcpStream"]);
        check("runtime", "fn f() { log!(tokio::net::TcpStream::connect(x)); }", &["tokio::net::TcpStream::connect"]);
        check("trigger", "use rusqlite::Connection;", &["rusqlite::Connection"]);
        check("message", "use reqwest;", &["reqwest"]);
    }

    #[test]
    fn an_import_that_hides_an_opener_is_found() {
        check("delivery", "use std::net;", &["import what you use"]);
        check("delivery", "use std::net::*;", &["only the outside layer opens"]);
        check("delivery", "use tokio as t;", &["import what you use"]);
    }

    #[test]
    fn owners_tests_and_addresses_are_fine() {
        check("egress::client", "use reqwest::Client; use std::fs::File;", &[]);
        check("config::document", "use std::fs;", &[]);
        check("capability::http::exchange", "use reqwest::{Body, Request, Client};", &["reqwest::Client"]);
        check("config", "use std::net::{IpAddr, SocketAddr};", &[]);
        check("delivery", "#[cfg(test)] mod tests { use std::fs; }", &[]);
    }

    #[test]
    fn a_file_needs_its_first_lines_and_an_end() {
        let long = |lines: usize| format!("//! A.\n{}", "const A: u8 = 0;\n\n// why\n".repeat(lines));
        assert_eq!(
            shape("x.rs", "fn f() {}"),
            ["x.rs:1: opens without `//!`: say what it owns and what it does not do"]
        );
        assert_eq!(shape("x.rs", &long(500)), [""; 0]);
        assert_eq!((shape("x.rs", &long(501)).len(), shape("host/tests/x.rs", &long(501)).len()), (1, 0));
        assert_eq!(
            shape("x.rs", &format!("{}#[cfg(test)]\nmod tests {{\n{}}}", long(500), "const A: u8 = 0;\n".repeat(9))),
            [""; 0]
        );
    }

    #[test]
    fn a_function_ends_within_a_screen() {
        let function = |lines: usize| format!("//! A.\nimpl A {{\n/// B.\nfn f() {{\n{}}}\n}}", "g();\n".repeat(lines));
        assert_eq!(shape("x.rs", &function(68)), [""; 0]);
        assert_eq!(shape("x.rs", &function(69)), ["x.rs:4: `f` has 71 lines: split it below 70"]);
    }
}
