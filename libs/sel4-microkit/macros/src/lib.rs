// SPDX-License-Identifier: BSD-2-Clause
//! The attribute `#[protection_domain]`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as TokenStream2;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Ident, ItemFn, Token, parse_macro_input};

/// Attributes that may follow, in this order.
const KEYS: [&str; 2] = ["stack_size", "heap_size"];

/// `stack_size = EXPR, heap_size = EXPR`, each optional, in this order.
struct Attributes(Vec<(Ident, Expr)>);

impl Parse for Attributes {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut pairs = Vec::new();
        let mut next = 0;
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            match KEYS.iter().position(|known| key == known) {
                Some(position) if position >= next => next = position + 1,
                Some(_) => {
                    let message = "`stack_size` comes before `heap_size`, each at most once";
                    return Err(syn::Error::new(key.span(), message));
                }
                None => {
                    let message = "expected `stack_size` or `heap_size`";
                    return Err(syn::Error::new(key.span(), message));
                }
            }
            input.parse::<Token![=]>()?;
            pairs.push((key, input.parse()?));
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(Attributes(pairs))
    }
}

/// Makes `fn init() -> impl Handler` the start of a protection domain.
///
/// `#[protection_domain(stack_size = EXPR, heap_size = EXPR)]`: a stack of its own instead of the
/// one that the image tool maps, and a heap (`#[global_allocator]`). Both may be left out; the order
/// is fixed.
#[proc_macro_attribute]
pub fn protection_domain(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let attributes = parse_macro_input!(attributes as Attributes);
    let item = parse_macro_input!(item as ItemFn);
    expand(&attributes, &item).into()
}

fn expand(Attributes(pairs): &Attributes, item: &ItemFn) -> TokenStream2 {
    let init = &item.sig.ident;
    let (keys, values): (Vec<_>, Vec<_>) = pairs.iter().map(|(k, v)| (k, v)).unzip();
    quote! {
        ::sel4_microkit::declare_protection_domain!(init = #init #(, #keys = #values)*);
        #item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let attributes: Attributes = syn::parse_str(text).map_err(|e| e.to_string())?;
        let item: ItemFn = syn::parse_str("fn init() -> H { H }").map_err(|e| e.to_string())?;
        Ok(expand(&attributes, &item).to_string().replace(' ', ""))
    }

    #[test]
    fn attributes_pass_through_in_order() {
        assert!(
            parse("")
                .unwrap()
                .contains("declare_protection_domain!(init=init);")
        );
        assert!(
            parse("stack_size = 4 * 1024, heap_size = N")
                .unwrap()
                .contains("(init=init,stack_size=4*1024,heap_size=N)")
        );
    }

    #[test]
    fn other_orders_and_keys_are_errors() {
        assert!(
            parse("heap_size = 1, stack_size = 2")
                .unwrap_err()
                .contains("before")
        );
        assert!(
            parse("heap_size = 1, heap_size = 2")
                .unwrap_err()
                .contains("at most once")
        );
        assert!(parse("stack = 1").unwrap_err().contains("expected"));
    }
}
