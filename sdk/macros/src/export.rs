//! `export!`: parses the list of traits and options, and writes what makes a component of the crate.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Ident, Lit, LitStr, Meta, Path, Token, Type, bracketed};

/// A checked `export!(…)`.
pub(crate) struct Export {
    connector: Type,
    traits: Vec<Trait>,
    name: Option<LitStr>,
    summary: Option<String>,
    config: Option<Type>,
    wants: Vec<LitStr>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Consumer,
    BatchConsumer,
    Scheduled,
    Webhook,
}

struct Trait {
    kind: Kind,
    path: Path,
}

impl Parse for Export {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let summary = doc_text(&input.call(Attribute::parse_outer)?)?;
        let connector = input.parse()?;
        input.parse::<Token![:]>()?;
        let mut export = Self { connector, traits: Vec::new(), name: None, summary, config: None, wants: Vec::new() };
        loop {
            if input.peek(Ident) && input.peek2(Token![=]) {
                export.parse_option(input)?;
            } else {
                export.parse_trait(input)?;
            }
            if input.is_empty() {
                break;
            }
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
        }
        if export.traits.is_empty() {
            return Err(syn::Error::new(input.span(), NO_TRAIT));
        }
        Ok(export)
    }
}

const NO_TRAIT: &str = "name what it implements: `Consumer`, `BatchConsumer`, `Scheduled` or `Webhook`";
const NO_OPTION: &str = "no such option: use `name`, `summary`, `config` or `wants`";

impl Export {
    fn parse_trait(&mut self, input: ParseStream) -> syn::Result<()> {
        let path: Path = input.parse()?;
        let name = path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| syn::Error::new_spanned(&path, NO_TRAIT))?;
        if self.traits.iter().any(|known| known.kind == kind) {
            return Err(syn::Error::new_spanned(&path, format!("`{name}` is listed already")));
        }
        self.traits.push(Trait { kind, path });
        Ok(())
    }

    fn parse_option(&mut self, input: ParseStream) -> syn::Result<()> {
        let option: Ident = input.parse()?;
        input.parse::<Token![=]>()?;
        match option.to_string().as_str() {
            "name" => self.name = Some(input.parse()?),
            "summary" => self.summary = Some(input.parse::<LitStr>()?.value()),
            "config" => self.config = Some(input.parse()?),
            "wants" => {
                let list;
                bracketed!(list in input);
                self.wants = Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?.into_iter().collect();
            }
            _ => return Err(syn::Error::new_spanned(&option, NO_OPTION)),
        }
        Ok(())
    }

    /// Everywhere: that the traits are implemented. In a component: the exports.
    pub(crate) fn expand(&self) -> TokenStream {
        let connector = &self.connector;
        let paths = self.traits.iter().map(|listed| &listed.path);
        let describe = self.describe();
        let exports = self.traits.iter().map(|listed| listed.kind.export());
        let about = Kind::export_macro("about");
        quote! {
            const _: () = {
                #( const _: fn() = { fn implemented<T: #paths>() {} implemented::<#connector> }; )*
                fn describe() -> ::bulkhead_sdk::about::Description { #describe }
                const _: fn() -> ::bulkhead_sdk::about::Description = describe;

                #[cfg(target_arch = "wasm32")]
                impl ::bulkhead_sdk::__private::Describe for #connector {
                    fn describe() -> ::bulkhead_sdk::about::Description { describe() }
                }
                #[cfg(target_arch = "wasm32")]
                type BulkheadExport = ::bulkhead_sdk::__private::Adapter<#connector>;
                #[cfg(target_arch = "wasm32")]
                const _: () = {
                    #about
                    #( #exports )*
                };
            };
        }
    }

    fn describe(&self) -> TokenStream {
        let name = match &self.name {
            Some(name) => quote!(#name),
            None => quote!(env!("CARGO_PKG_NAME")),
        };
        let summary = match &self.summary {
            Some(summary) => quote!(#summary),
            None => quote!(env!("CARGO_PKG_DESCRIPTION")),
        };
        let schema = match &self.config {
            Some(config) => quote!(::core::option::Option::Some(::bulkhead_sdk::about::schema_of::<#config>())),
            None => quote!(::core::option::Option::None),
        };
        let wants = &self.wants;
        quote! {
            ::bulkhead_sdk::about::Description {
                name: #name.into(),
                version: env!("CARGO_PKG_VERSION").into(),
                summary: #summary.into(),
                config_schema: #schema,
                wants: ::std::vec![#( #wants.into() ),*],
            }
        }
    }
}

impl Kind {
    const ALL: [Self; 4] = [Self::Consumer, Self::BatchConsumer, Self::Scheduled, Self::Webhook];

    fn name(self) -> &'static str {
        match self {
            Self::Consumer => "Consumer",
            Self::BatchConsumer => "BatchConsumer",
            Self::Scheduled => "Scheduled",
            Self::Webhook => "Webhook",
        }
    }

    fn export(self) -> TokenStream {
        Self::export_macro(match self {
            Self::Consumer => "consumer",
            Self::BatchConsumer => "batch_consumer",
            Self::Scheduled => "scheduled",
            Self::Webhook => "webhook",
        })
    }

    /// The generated macro that exports one interface, applied to the adapter.
    fn export_macro(interface: &str) -> TokenStream {
        let module = Ident::new(interface, Span::call_site());
        let export = Ident::new(&format!("export_{interface}"), Span::call_site());
        quote! {
            ::bulkhead_sdk::__private::bindings::#module::#export!(
                BulkheadExport with_types_in ::bulkhead_sdk::__private::bindings::#module
            );
        }
    }
}

/// The text of doc comments, one paragraph; other attributes mean nothing here.
fn doc_text(attributes: &[Attribute]) -> syn::Result<Option<String>> {
    let mut lines = Vec::new();
    for attribute in attributes {
        match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => lines.push(line.value().trim().to_owned()),
                other => return Err(syn::Error::new_spanned(other, "a doc comment is text")),
            },
            other => {
                return Err(syn::Error::new_spanned(other, "only a doc comment may stand here: it is the summary"));
            }
        }
    }
    Ok((!lines.is_empty()).then(|| lines.join(" ").trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(input: &str, expected: &str) {
        let problem = syn::parse_str::<Export>(input).err().map(|error| error.to_string());
        assert_eq!(problem.as_deref(), Some(expected), "{input}");
    }

    #[test]
    fn traits_and_options_may_be_mixed() {
        let export: Export = syn::parse_str(
            "/// One\n/// paragraph.\nmy::Type: bulkhead_sdk::Consumer, Scheduled, name = \"x\", wants = [\"a\", \"b\"], config = Config,",
        )
        .unwrap();
        assert!(export.traits.iter().map(|listed| listed.kind).eq([Kind::Consumer, Kind::Scheduled]));
        assert_eq!(export.summary.as_deref(), Some("One paragraph."));
        assert_eq!((export.wants.len(), export.config.is_some()), (2, true));
    }

    #[test]
    fn mistakes_are_explained() {
        check_refused("A: Consume", NO_TRAIT);
        check_refused("A: config = B", NO_TRAIT);
        check_refused("A: Consumer, Consumer", "`Consumer` is listed already");
        check_refused("A: Consumer, schema = B", NO_OPTION);
        check_refused("#[doc(hidden)] A: Consumer", "only a doc comment may stand here: it is the summary");
    }
}
