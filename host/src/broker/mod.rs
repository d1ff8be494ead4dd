//! What keeps a queue: the embedded ledger today; outside brokers are variants to come.
