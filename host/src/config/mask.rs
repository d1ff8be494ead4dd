//! `[host.mask]`.

use super::problem::Report;
use super::view::View;
use crate::mask::{HEADERS_MAX, Masks, POINTERS_MAX, Pointer};

/// Reads the table; what is wrong in it is reported, and masks nothing.
pub(super) fn masks(view: &View<'_>, report: &mut Report<'_>) -> Masks {
    let headers = headers(view, report);
    let pointers = pointers(view, report);
    Masks::new(headers, pointers)
}

fn headers<'v>(view: &View<'v>, report: &mut Report<'_>) -> Vec<&'v str> {
    let mut names = Vec::new();
    let written = view.texts("headers");
    check_count(view, "headers", written.len(), HEADERS_MAX, report);
    for (index, (name, node)) in written.into_iter().enumerate() {
        let path = format!("{}[{index}]", view.path_of("headers"));
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_of_name) {
            let help = "write the whole name of one header, as in \"x-api-key\": letters, digits and `-`";
            report.problem(node.place, &path, "not the name of a header", help);
        } else {
            names.push(name);
        }
    }
    names
}

fn pointers(view: &View<'_>, report: &mut Report<'_>) -> Vec<Pointer> {
    let mut read: Vec<(Pointer, &str)> = Vec::new();
    let written = view.texts("pointers");
    check_count(view, "pointers", written.len(), POINTERS_MAX, report);
    for (index, (text, node)) in written.into_iter().enumerate() {
        let path = format!("{}[{index}]", view.path_of("pointers"));
        let pointer = match Pointer::parse(text) {
            Ok(pointer) => pointer,
            Err(help) => {
                report.problem(node.place, &path, "not a JSON pointer", help);
                continue;
            }
        };
        if pointer.has_dash() {
            let help = "write `*` where every element is meant";
            report.warning(node.place, &path, "`-` is the member of this name, and no element", help);
        }
        let around = read.iter().find(|(known, _)| known.covers(&pointer)).map(|(_, around)| *around);
        if let Some(around) = around {
            report.warning(node.place, &path, format!("`{around}` masks it already"), "take one of them out");
        }
        read.push((pointer, text));
    }
    read.into_iter().map(|(pointer, _)| pointer).collect()
}

fn check_count(view: &View<'_>, key: &str, count: usize, max: usize, report: &mut Report<'_>) {
    if count > max {
        let help = format!("list {max} at most: mask what is around them");
        report.problem(view.place_of(key), &view.path_of(key), "too many", help);
    }
}
