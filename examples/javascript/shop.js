// A plugin for two connectors: `scheduled` fetches new orders from a shop, `consumer` adds up each order.

import { State, config, decode, getJson, publish, reject } from "./bulkhead.js";

const CONFIG_SCHEMA = {
  type: "object",
  properties: {
    url: { type: "string", description: "Where the orders are; for the connector with a schedule." },
    publish: { type: "string", description: "The queue that messages go to." },
  },
  required: ["publish"],
};

export const about = {
  describe: () => ({
    name: "shop-javascript",
    version: "0.1.0",
    summary: "Fetches orders and adds each of them up.",
    configSchema: JSON.stringify(CONFIG_SCHEMA),
    wants: ['publish = ["QUEUE"]', 'http = [{ url = "URL", methods = ["GET"] }]'],
  }),
};

export const scheduled = {
  run(_tick) {
    const settings = config();
    const state = new State();
    const newest = state.get("newest", 0);
    const orders = getJson(settings.url).filter((order) => order.id > newest);
    for (const order of orders) publish(settings.publish, order, String(order.id));
    if (orders.length > 0) state.set("newest", Math.max(...orders.map((order) => order.id)));
    console.log(`${orders.length} new orders`);
  },
};

export const consumer = {
  handle(message) {
    const order = parsed(message.body);
    const total = order.items.reduce((sum, item) => sum + item.quantity * item.price_cents, 0);
    publish(config().publish, { id: order.id, total_cents: total }, message.key);
    const state = new State();
    state.set("added_up", state.get("added_up", 0) + 1);
  },
};

function parsed(body) {
  try {
    return decode(body);
  } catch (error) {
    throw reject(`an order is JSON: ${error.message}`);
  }
}
