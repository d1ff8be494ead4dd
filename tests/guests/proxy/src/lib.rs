//! Answers a request with the status that it gets at `http://$OUTSIDE/`: what the plugin `hook` does at `fetch`, as a proxy
//! of `wasi:http` that `wasmtime serve` runs.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};

struct Proxy;

impl Guest for Proxy {
    fn handle(_: IncomingRequest, answer: ResponseOutparam) {
        match ask() {
            Ok(status) => respond(answer, status.to_string().as_bytes()),
            Err(error) => ResponseOutparam::set(answer, Err(error)),
        }
    }
}

wasip2::http::proxy::export!(Proxy);

/// The status, when the whole answer has come.
fn ask() -> Result<u16, ErrorCode> {
    let wrong = |what: &str| ErrorCode::InternalError(Some(what.to_owned()));
    let outside = std::env::var("OUTSIDE").map_err(|_| wrong("nobody to ask"))?;
    let request = OutgoingRequest::new(length(0));
    let is_set = request.set_method(&Method::Post).is_ok()
        && request.set_scheme(Some(&Scheme::Http)).is_ok()
        && request.set_authority(Some(&outside)).is_ok()
        && request.set_path_with_query(Some("/")).is_ok();
    if !is_set {
        return Err(wrong("not a request"));
    }
    let body = request.body().map_err(|()| wrong("no body"))?;
    let pending = outgoing_handler::handle(request, None)?;
    OutgoingBody::finish(body, None)?;
    pending.subscribe().block();
    let response = pending.get().and_then(Result::ok).ok_or_else(|| wrong("no answer"))??;
    let body = response.consume().map_err(|()| wrong("no body"))?;
    let stream = body.stream().map_err(|()| wrong("no stream"))?;
    while stream.blocking_read(4096).is_ok() {}
    Ok(response.status())
}

fn respond(answer: ResponseOutparam, text: &[u8]) {
    let response = OutgoingResponse::new(length(text.len()));
    let body = response.body().expect("it is taken once");
    ResponseOutparam::set(answer, Ok(response));
    let stream = body.write().expect("it is taken once");
    // Whoever asked may be gone; nobody else would hear of it.
    let _ = stream.blocking_write_and_flush(text);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Without it a body is sent in chunks.
fn length(bytes: usize) -> Fields {
    Fields::from_list(&[("content-length".to_owned(), bytes.to_string().into_bytes())]).expect("a plain field")
}
