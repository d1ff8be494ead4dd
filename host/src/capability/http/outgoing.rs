//! A request of `wasi:http` while a plugin writes it down: how long its method, its authority and its path may be.
//!
//! The library keeps these texts outside of the sandbox, however long they are, and a plugin may hold as many requests as
//! handles without sending one: no limit would count them. So the functions that set them are replaced by ones that first
//! look at the length; its fields have a bound of their own. Invariant: what is refused here, the gate would refuse too.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpCtxView;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest as _, Method};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;

use super::session::METHOD_BYTES_MAX;
use super::target::URL_BYTES_MAX;

/// As the library names it: plugins that were built for another 0.2 are linked to it as well.
const INTERFACE: &str = "wasi:http/types@0.2.12";

const SET_METHOD: &str = "[method]outgoing-request.set-method";
const SET_AUTHORITY: &str = "[method]outgoing-request.set-authority";
const SET_PATH: &str = "[method]outgoing-request.set-path-with-query";

type Request = Resource<HostOutgoingRequest>;
/// As the interface has it, where there is nothing to say about why.
type Set = Result<(), ()>;

/// Puts a bound before the functions that the linker has already.
///
/// # Errors
/// The library offers another version of the interface, and the bound would stand before nothing.
pub(super) fn bound<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> WasiHttpCtxView<'_>,
) -> wasmtime::Result<()> {
    let is_offered = linker.instance(INTERFACE)?.func_wrap(SET_METHOD, |_, _: (Request, Method)| Ok((Set::Ok(()),)));
    wasmtime::ensure!(is_offered.is_err(), "`{INTERFACE}` is not what the library offers");
    linker.allow_shadowing(true);
    let replaced = replace(linker, get);
    linker.allow_shadowing(false);
    replaced
}

fn replace<T: Send + 'static>(linker: &mut Linker<T>, get: fn(&mut T) -> WasiHttpCtxView<'_>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(INTERFACE)?;
    interface.func_wrap(SET_METHOD, move |mut store, (request, method): (Request, Method)| {
        let bytes = if let Method::Other(name) = &method { name.len() } else { 0 };
        unless(bytes > METHOD_BYTES_MAX, || get(store.data_mut()).set_method(request, method))
    })?;
    interface.func_wrap(SET_AUTHORITY, move |mut store, (request, authority): (Request, Option<String>)| {
        let bytes = authority.as_ref().map_or(0, String::len);
        unless(bytes > URL_BYTES_MAX, || get(store.data_mut()).set_authority(request, authority))
    })?;
    interface.func_wrap(SET_PATH, move |mut store, (request, path): (Request, Option<String>)| {
        let bytes = path.as_ref().map_or(0, String::len);
        unless(bytes > URL_BYTES_MAX, || get(store.data_mut()).set_path_with_query(request, path))
    })
}

fn unless(is_too_long: bool, set: impl FnOnce() -> wasmtime::Result<Set>) -> wasmtime::Result<(Set,)> {
    Ok((if is_too_long { Err(()) } else { set()? },))
}
