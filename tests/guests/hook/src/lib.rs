//! Takes webhook requests. A body is a verb and its argument: `tell` answers what the request looks like, as JSON;
//! `publish TEXT` publishes it to `out`; `count` counts in state and answers the number; `fetch URL` answers the status
//! that it gets there; `status N` answers N; `odd` answers headers that are the connection's; `retry MS`, `reject`, `trap` and
//! `spin` do what they say.

use bulkhead_sdk::prelude::*;
use bulkhead_sdk::webhook::{Request, Response};
use serde_json::json;

struct Hook;

impl Webhook for Hook {
    fn receive(request: Request) -> Result<Response, Failure> {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let (verb, argument) = text.split_once(' ').unwrap_or((&text, ""));
        let number = || argument.parse().map_err(|_| Failure::reject("no number"));
        match verb {
            "tell" => Ok(Response::new(200).body(tell(&request).to_string())),
            "publish" => {
                queue::publish("out", Draft::new(argument))?;
                Ok(Response::new(201).body(argument))
            }
            "count" => {
                let count: u32 = state::get("count")?.unwrap_or(0) + 1;
                state::set("count", &count)?;
                Ok(Response::new(200).body(count.to_string()))
            }
            "fetch" => {
                let answer = http::post(argument).send()?;
                Ok(Response::new(200).body(answer.status().to_string()))
            }
            "status" => Ok(Response::new(number()?)),
            "odd" => Ok(Response::new(200)
                .header("transfer-encoding", "chunked")
                .header("content-length", "7")
                .header("connection", "upgrade")
                .header("x-kept", "yes")
                .body("as it is")),
            "retry" => Err(Failure::retry("later").after(std::time::Duration::from_millis(u64::from(number()?)))),
            "reject" => Err(Failure::reject("a word for the operator")),
            "trap" => std::process::abort(),
            "spin" => loop {
                std::hint::black_box(&request);
            },
            other => Err(Failure::reject(format!("no such verb: {other}"))),
        }
    }
}

export!(Hook: Webhook);

fn tell(request: &Request) -> serde_json::Value {
    json!({
        "id": request.id,
        "method": request.method,
        "target": request.target,
        "remote_address": request.remote_address,
        "parameters": request.parameters,
        "headers": request.headers,
        "verified_by": request.verified_by,
        "attempt": request.attempt,
    })
}
