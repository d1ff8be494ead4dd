//! The messages of the benchmarks, and what the plugin `map` must make of them.
//!
//! An order of 1 KB as JSON; each differs from the others, so that a mix-up shows. [`invoice`] does in native code what
//! the plugin does in its sandbox.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Size of an order's text.
pub(crate) const ORDER_BYTES: usize = 1024;

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    customer: Customer<'a>,
    items: Vec<Item>,
    #[serde(borrow)]
    note: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Customer<'a> {
    #[serde(borrow)]
    email: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Item {
    qty: u32,
    price: f64,
}

#[derive(Serialize)]
struct Invoice<'a> {
    id: &'a str,
    email: String,
    total: f64,
    items: usize,
    note: &'a str,
}

/// The order with this number.
pub(crate) fn order(number: u64) -> String {
    let mut text = format!(
        r#"{{"id": "o-{number}", "customer": {{"name": "Ada Lovelace", "email": "ADA{number}@EXAMPLE.COM"}}, "items": [{{"sku": "a", "qty": {}, "price": 10.5}}, {{"sku": "b", "qty": 1, "price": 3.25}}], "note": ""#,
        number % 9 + 1
    );
    let padding = ORDER_BYTES.saturating_sub(text.len() + 2);
    text.extend(std::iter::repeat_n('x', padding));
    text.push_str("\"}");
    text
}

/// An order, mapped natively.
pub(crate) fn invoice(order: &[u8]) -> Vec<u8> {
    let order: Order<'_> = serde_json::from_slice(order).expect("it is an order");
    let invoice = Invoice {
        id: &order.id,
        email: order.customer.email.to_lowercase(),
        total: order.items.iter().map(|item| item.price * f64::from(item.qty)).sum(),
        items: order.items.len(),
        note: &order.note,
    };
    serde_json::to_vec(&invoice).expect("an invoice is JSON")
}
