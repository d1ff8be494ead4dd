//! What `wit-bindgen` generates: the imports once, and each interface that a connector may export on its own.
//!
//! The custom section that makes a component export an interface is emitted where its `export_…!` macro is used, so a
//! plugin exports what it lists in [`export!`](crate::export) and nothing else.
#![allow(missing_docs, unsafe_code, unreachable_pub, unused_qualifications, clippy::all)]

pub mod imports {
    wit_bindgen::generate!({
        path: "wit",
        world: "bulkhead:sdk/imports",
        generate_all,
    });
}

macro_rules! export_module {
    ($name:ident, $world:literal, $macro:literal) => {
        pub mod $name {
            wit_bindgen::generate!({
                path: "wit",
                world: $world,
                with: { "bulkhead:connector/types@0.1.0": crate::bindings::imports::bulkhead::connector::types },
                generate_all,
                pub_export_macro: true,
                export_macro_name: $macro,
            });
        }
    };
}

pub mod about {
    wit_bindgen::generate!({
        path: "wit",
        world: "bulkhead:sdk/about-export",
        pub_export_macro: true,
        export_macro_name: "export_about",
    });
}
export_module!(consumer, "bulkhead:sdk/consumer-export", "export_consumer");
export_module!(batch_consumer, "bulkhead:sdk/batch-consumer-export", "export_batch_consumer");
export_module!(scheduled, "bulkhead:sdk/scheduled-export", "export_scheduled");
export_module!(webhook, "bulkhead:sdk/webhook-export", "export_webhook");
