"""A plugin for two connectors: `Scheduled` fetches new orders from a shop, `Consumer` adds up each order."""

import json

import bulkhead
from wit_world import exports
from wit_world.exports.about import Description

CONFIG_SCHEMA = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "description": "Where the orders are; for the connector with a schedule."},
        "publish": {"type": "string", "description": "The queue that messages go to."},
    },
    "required": ["publish"],
}


class About(exports.About):
    def describe(self):
        return Description(
            name="shop-python",
            version="0.1.0",
            summary="Fetches orders and adds each of them up.",
            config_schema=json.dumps(CONFIG_SCHEMA),
            wants=['publish = ["QUEUE"]', 'http = [{ url = "URL", methods = ["GET"] }]'],
        )


class Scheduled(exports.Scheduled):
    def run(self, tick):
        config, state = bulkhead.config(), bulkhead.State()
        newest = state.get("newest", 0)
        orders = [order for order in bulkhead.get_json(config["url"]) if order["id"] > newest]
        for order in orders:
            bulkhead.publish(config["publish"], order, key=str(order["id"]))
        if orders:
            state.set("newest", max(order["id"] for order in orders))
        print(f"{len(orders)} new orders")


class Consumer(exports.Consumer):
    def handle(self, message):
        try:
            order = json.loads(message.body)
        except ValueError as error:
            raise bulkhead.reject(f"an order is JSON: {error}") from None
        total = sum(item["quantity"] * item["price_cents"] for item in order["items"])
        bulkhead.publish(bulkhead.config()["publish"], {"id": order["id"], "total_cents": total}, key=message.key)
        state = bulkhead.State()
        state.set("added_up", state.get("added_up", 0) + 1)
