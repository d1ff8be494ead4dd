//! A host with somebody between it and the C library: calls on its files fail, its clock lies, its machine boots anew.

pub use bulkhead_checker::{Call, Failure, Saboteur};

use crate::Bulkhead;

/// Puts a saboteur before everything that is started there from now on. It does nothing by itself.
#[must_use]
pub fn sabotaged(host: Bulkhead) -> (Bulkhead, Saboteur) {
    let saboteur = Saboteur::build(&host.path(""), &host.data()).expect("there is a C compiler");
    let variables =
        saboteur.variables().map(|(name, path)| (name, path.to_str().expect("temporary paths are text").to_owned()));
    let host = variables.into_iter().fold(host, |host, (name, value)| host.variable(name, &value));
    (host, saboteur)
}
