//! One huge text in the place of every name and text that the host takes.

use self::wasi::keyvalue::batch;
use bulkhead_sdk::__private::bindings::imports::bulkhead::connector::{http, metrics, queue, secrets};
use bulkhead_sdk::__private::bindings::imports::wasi::config::store as settings;
use bulkhead_sdk::__private::bindings::imports::wasi::keyvalue::{atomics, store};
use bulkhead_sdk::__private::bindings::imports::wasi::logging::logging::{Level, log};
use bulkhead_sdk::prelude::Failure;
use wasip2::http::types::{Fields, Method, OutgoingRequest, Scheme};

wit_bindgen::generate!({
    path: "../../../sdk/wit/deps/wasi-keyvalue-0.2.0-draft2",
    inline: "package guest:vandal; world batches { import wasi:keyvalue/batch@0.2.0-draft2; }",
    with: {
        "wasi:keyvalue/batch@0.2.0-draft2": generate,
        "wasi:keyvalue/store@0.2.0-draft2": bulkhead_sdk::__private::bindings::imports::wasi::keyvalue::store,
    },
});

/// Nobody listens there, and no grant is for it.
const URL: &str = "http://127.0.0.1:9/";

/// Hands the host a text of so many MiB in a place. What the host answers is nothing to this guest, if it answers.
pub fn huge(place: &str, mib: usize) -> Result<(), Failure> {
    let text = "x".repeat(mib << 20);
    let (interface, place) = place.split_once('.').unwrap_or((place, ""));
    match interface {
        // As much memory, and nothing of it for the host.
        "nothing" => drop(std::hint::black_box(text)),
        "publish" => publish(place, text)?,
        "secrets" => drop(secrets::get(&text)),
        "config" => drop(settings::get(&text)),
        "log" if place == "context" => log(Level::Info, &text, "x"),
        "log" => log(Level::Info, "x", &text),
        "metrics" => figure(place, text)?,
        "http" => send(place, text)?,
        "state" => state(place, text)?,
        "batch" => many(place, text)?,
        "fields" => fields(place, &text)?,
        "request" => request(place, text)?,
        _ => return Err(no_such(place)),
    }
    Ok(())
}

fn no_such(place: &str) -> Failure {
    Failure::reject(format!("no such place: {place}"))
}

fn publish(place: &str, text: String) -> Result<(), Failure> {
    let draft = |id, key, headers| queue::Draft {
        id,
        key,
        headers,
        body: b"x".to_vec(),
        delay_ms: None,
        expires_ms: None,
        cause: None,
    };
    let x = || "x".to_owned();
    let (name, draft) = match place {
        "queue" => (&*text, draft(None, None, Vec::new())),
        "id" => ("out", draft(Some(text), None, Vec::new())),
        "key" => ("out", draft(None, Some(text), Vec::new())),
        "header-name" => ("out", draft(None, None, vec![(text, x())])),
        "header-value" => ("out", draft(None, None, vec![(x(), text)])),
        _ => return Err(no_such(place)),
    };
    drop(queue::publish(name, &[draft]));
    Ok(())
}

fn figure(place: &str, text: String) -> Result<(), Failure> {
    match place {
        "count" => metrics::count(&text, 1, &[]),
        "gauge" => metrics::gauge(&text, 1.0, &[]),
        "observe" => metrics::observe(&text, 1.0, &[]),
        "label-name" => metrics::count("figure_total", 1, &[(text, "x".to_owned())]),
        "label-value" => metrics::count("figure_total", 1, &[("x".to_owned(), text)]),
        _ => return Err(no_such(place)),
    }
    Ok(())
}

fn send(place: &str, text: String) -> Result<(), Failure> {
    let (mut method, mut url, mut headers) = ("GET".to_owned(), URL.to_owned(), Vec::new());
    match place {
        "method" => method = text,
        "url" => url = text,
        "header-name" => headers.push((text, "x".to_owned())),
        "header-value" => headers.push(("x".to_owned(), text)),
        _ => return Err(no_such(place)),
    }
    drop(http::send(&http::Request { method, url, headers, body: Vec::new(), timeout_ms: None }));
    Ok(())
}

fn state(place: &str, text: String) -> Result<(), Failure> {
    let bucket = super::bucket("")?;
    match place {
        "bucket" => drop(store::open(&text)),
        "set-key" => drop(bucket.set(&text, b"x")),
        "set-value" => drop(bucket.set("x", text.as_bytes())),
        "get" => drop(bucket.get(&text)),
        "delete" => drop(bucket.delete(&text)),
        "exists" => drop(bucket.exists(&text)),
        "cursor" => drop(bucket.list_keys(Some(&text))),
        "increment" => drop(atomics::increment(&bucket, &text, 1)),
        "compare" => drop(atomics::Cas::new(&bucket, &text)),
        "swap" => {
            let seen = atomics::Cas::new(&bucket, "x").map_err(|error| Failure::reject(format!("{error:?}")))?;
            drop(atomics::swap(seen, text.as_bytes()));
        }
        _ => return Err(no_such(place)),
    }
    Ok(())
}

fn many(place: &str, text: String) -> Result<(), Failure> {
    let bucket = super::bucket("")?;
    match place {
        "get" => drop(batch::get_many(&bucket, &[text])),
        "set-key" => drop(batch::set_many(&bucket, &[(text, b"x".to_vec())])),
        "set-value" => drop(batch::set_many(&bucket, &[("x".to_owned(), text.into_bytes())])),
        "delete" => drop(batch::delete_many(&bucket, &[text])),
        _ => return Err(no_such(place)),
    }
    Ok(())
}

fn fields(place: &str, text: &str) -> Result<(), Failure> {
    let fields = Fields::new();
    match place {
        "append-name" => drop(fields.append(text, b"x")),
        "append-value" => drop(fields.append("x", text.as_bytes())),
        "set-name" => drop(fields.set(text, &[b"x".to_vec()])),
        "set-value" => drop(fields.set("x", &[text.as_bytes().to_vec()])),
        "list-name" => drop(Fields::from_list(&[(text.to_owned(), b"x".to_vec())])),
        "list-value" => drop(Fields::from_list(&[("x".to_owned(), text.as_bytes().to_vec())])),
        "get" => drop(fields.get(text)),
        "has" => drop(fields.has(text)),
        "delete" => drop(fields.delete(text)),
        _ => return Err(no_such(place)),
    }
    Ok(())
}

/// Written down again and again, on requests that are all kept and never sent.
fn request(place: &str, text: String) -> Result<(), Failure> {
    let (scheme, method) = (Scheme::Other(text.clone()), Method::Other(text.clone()));
    for _ in 0..100 {
        let request = OutgoingRequest::new(Fields::new());
        match place {
            "method" => drop(request.set_method(&method)),
            "scheme" => drop(request.set_scheme(Some(&scheme))),
            "authority" => drop(request.set_authority(Some(&text))),
            "path" => drop(request.set_path_with_query(Some(&text))),
            _ => return Err(no_such(place)),
        }
        std::mem::forget(request);
    }
    Ok(())
}
