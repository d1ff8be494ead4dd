//! The world outside of the demo: a shop with a real HTTP API, and a warehouse that fails now and then.
//!
//! Knows nothing of Bulkhead. Listens on two loopback ports that the system picks, prints them as one JSON line, and
//! answers `GET /stats` on the warehouse's port with what has happened; ends when its standard input closes, so that it
//! never outlives who started it.

mod order;
mod shop;
mod warehouse;

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use shop::{Question, Shop};
use warehouse::{Verdict, Warehouse};

/// Both servers' state.
#[derive(Debug)]
struct World {
    shop: Shop,
    shop_token: String,
    shop_base: String,
    warehouse: Warehouse,
    warehouse_token: String,
}

#[derive(Deserialize)]
struct OrdersQuery {
    #[serde(default)]
    updated_since: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let orders: u32 = std::env::args().nth(1).context("usage: bulkhead-demo-server ORDERS")?.parse()?;
    let shop_listener = TcpListener::bind("127.0.0.1:0").await?;
    let warehouse_listener = TcpListener::bind("127.0.0.1:0").await?;
    let shop_base = format!("http://{}", shop_listener.local_addr()?);
    let warehouse_base = format!("http://{}", warehouse_listener.local_addr()?);
    let world = Arc::new(World {
        shop: Shop::open(orders),
        shop_token: token("DEMO_SHOP_TOKEN")?,
        shop_base: shop_base.clone(),
        warehouse: Warehouse::open(orders),
        warehouse_token: token("DEMO_WAREHOUSE_TOKEN")?,
    });
    announce(&json!({ "shop": shop_base, "warehouse": warehouse_base }));
    let mut servers = JoinSet::new();
    let shop = Router::new().route("/v1/orders", get(list_orders)).with_state(world.clone());
    servers.spawn(async move { axum::serve(shop_listener, shop).await });
    let warehouse = Router::new().route("/shipments", post(receive)).route("/stats", get(stats)).with_state(world);
    servers.spawn(async move { axum::serve(warehouse_listener, warehouse).await });
    tokio::select! {
        ended = servers.join_next() => ended.context("a server always runs")??.context("a server has ended"),
        ended = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())) => Ok(ended?.map(drop)?),
    }
}

#[expect(clippy::print_stdout, reason = "the one line that whoever started the server reads")]
fn announce(addresses: &serde_json::Value) {
    println!("{addresses}");
}

#[expect(clippy::disallowed_methods, reason = "this is the entry: a token has no place among the arguments")]
fn token(variable: &str) -> anyhow::Result<String> {
    std::env::var(variable).with_context(|| format!("{variable} is not set"))
}

async fn list_orders(
    State(world): State<Arc<World>>,
    Query(query): Query<OrdersQuery>,
    headers: HeaderMap,
) -> Result<Response<Body>, StatusCode> {
    let question = Question {
        authorized: is_authorized(&headers, &world.shop_token),
        base: &world.shop_base,
        since: &query.updated_since,
        etag: headers.get("if-none-match").and_then(|value| value.to_str().ok()),
    };
    let answer = world.shop.answer(&question, Instant::now());
    let mut response = Response::builder().status(answer.status).header("content-type", "application/json");
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body.into()).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn receive(
    State(world): State<Arc<World>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, StatusCode> {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    let verdict = world.warehouse.receive(is_authorized(&headers, &world.warehouse_token), key, &body);
    if let Verdict::Taken(version) | Verdict::AnswerLost(version) = verdict {
        world.shop.taken(version);
    }
    let mut response = Response::builder().status(verdict.status()).header("content-type", "application/json");
    if verdict == (Verdict::Busy { after: true }) {
        response = response.header("retry-after", "1");
    }
    let text = match verdict {
        Verdict::Rejected => json!({ "error": "the warehouse does not know this currency" }),
        other => json!({ "status": other.status().as_u16() }),
    };
    response.body(text.to_string().into()).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn stats(State(world): State<Arc<World>>) -> axum::Json<serde_json::Value> {
    axum::Json(json!({ "shop": world.shop.answers(), "warehouse": world.warehouse.stock() }))
}

fn is_authorized(headers: &HeaderMap, token: &str) -> bool {
    headers.get("authorization").is_some_and(|value| value.as_bytes() == format!("Bearer {token}").as_bytes())
}
