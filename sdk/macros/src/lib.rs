//! Macros of `bulkhead-sdk`. Use them through that crate, which documents them.

mod export;

use proc_macro::TokenStream;

/// Exports a connector from the plugin; documented where `bulkhead_sdk` re-exports it.
#[proc_macro]
pub fn export(input: TokenStream) -> TokenStream {
    syn::parse_macro_input!(input as export::Export).expand().into()
}
