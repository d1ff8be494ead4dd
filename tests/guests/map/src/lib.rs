//! Maps an order to an invoice and publishes it to `out`; a body that is no JSON object is published as it is.

use std::borrow::Cow;

use bulkhead_sdk::prelude::*;

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

struct Map;

impl Consumer for Map {
    fn handle(message: Message) -> Result<(), Failure> {
        let body = if message.body.first() == Some(&b'{') { invoice(&message)? } else { message.body };
        let mut draft = Draft::new(body);
        draft.key = message.key;
        Ok(queue::publish("out", draft).map(drop)?)
    }
}

fn invoice(message: &Message) -> Result<Vec<u8>, Failure> {
    let order: Order = message.json()?;
    let invoice = Invoice {
        id: &order.id,
        email: order.customer.email.to_lowercase(),
        total: order.items.iter().map(|item| item.price * f64::from(item.qty)).sum(),
        items: order.items.len(),
        note: &order.note,
    };
    Ok(Draft::json(&invoice)?.body)
}

export!(Map: Consumer);
