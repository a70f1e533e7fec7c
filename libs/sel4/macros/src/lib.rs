// SPDX-License-Identifier: BSD-2-Clause
//! The attribute `#[sel4_cfg(..)]`. It knows no configuration: it nests `sel4::sel4_cfg_if!`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as TokenStream2;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, Token, parenthesized, parse_macro_input};

/// A condition on the kernel's configuration.
enum Condition {
    Key(Ident),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

impl Parse for Condition {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name: Ident = input.parse()?;
        if !input.peek(syn::token::Paren) {
            return Ok(Condition::Key(name));
        }
        let inner;
        parenthesized!(inner in input);
        let list = |inner: ParseStream<'_>| {
            Punctuated::<Condition, Token![,]>::parse_terminated(inner)
                .map(|list| list.into_iter().collect())
        };
        match name.to_string().as_str() {
            "not" => Ok(Condition::Not(Box::new(inner.parse()?))),
            "all" => Ok(Condition::All(list(&inner)?)),
            "any" => Ok(Condition::Any(list(&inner)?)),
            _ => Err(syn::Error::new(
                name.span(),
                "expected `not`, `all` or `any`",
            )),
        }
    }
}

/// `then` if the condition holds, else `other`.
fn choose(condition: &Condition, then: TokenStream2, other: TokenStream2) -> TokenStream2 {
    match condition {
        Condition::Key(key) => quote! {
            ::sel4::sel4_cfg_if! { if #[sel4_cfg(#key)] { #then } else { #other } }
        },
        Condition::Not(inner) => choose(inner, other, then),
        Condition::All(list) => list.iter().rfold(then, |then, condition| {
            choose(condition, then, other.clone())
        }),
        Condition::Any(list) => list.iter().rfold(other, |other, condition| {
            choose(condition, then.clone(), other)
        }),
    }
}

/// Keeps an item only if a condition on the kernel's configuration holds: a boolean key, or `not`,
/// `all` and `any` of conditions.
#[proc_macro_attribute]
pub fn sel4_cfg(condition: TokenStream, item: TokenStream) -> TokenStream {
    let condition = parse_macro_input!(condition as Condition);
    choose(&condition, item.into(), TokenStream2::new()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(condition: &str) -> Result<String, String> {
        let condition: Condition = syn::parse_str(condition).map_err(|e| e.to_string())?;
        let text = choose(&condition, quote!(T), quote!(F)).to_string();
        let prefix = ":: sel4 :: sel4_cfg_if ! { if # [sel4_cfg";
        Ok(text.replace(prefix, "if").replace("]", "").replace(" ", ""))
    }

    #[test]
    fn conditions_nest() {
        assert_eq!(expand("A").unwrap(), "if(A){T}else{F}}");
        assert_eq!(expand("not(A)").unwrap(), "if(A){F}else{T}}");
        assert_eq!(
            expand("all(A, B)").unwrap(),
            "if(A){if(B){T}else{F}}}else{F}}"
        );
        assert_eq!(
            expand("any(A, B)").unwrap(),
            "if(A){T}else{if(B){T}else{F}}}}"
        );
        assert_eq!(expand("all()").unwrap(), "T");
        assert_eq!(expand("any()").unwrap(), "F");
        assert!(expand("some(A)").unwrap_err().contains("expected `not`"));
    }
}
