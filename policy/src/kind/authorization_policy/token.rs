//! How a rule looks at the end user's token: `requestPrincipals` and `request.auth.*`.

use serde_json::Value;
use smallvec::{SmallVec, smallvec};

use super::clause::Values;
use super::text::{Case, TextMatch};
use crate::request::token::Token;

/// Claims whose text is a list delimited by spaces: the two that Envoy splits for Istio, and `scp`, which some
/// identity providers write instead of `scope`.
const SPACE_DELIMITED: &[&str] = &["scope", "scp", "permission"];

/// What of a token is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TokenAttribute {
    /// `iss/sub`.
    Principal,
    /// Any of `aud`.
    Audiences,
    /// `azp`.
    Presenter,
    /// `claims[a][b]` is the member `b` of the claim `a`. Never empty.
    Claim(Box<[Box<str>]>),
}

impl TokenAttribute {
    /// The path of `request.auth.claims[a][b]`; `None` for any other key.
    pub(super) fn claim(key: &str) -> Option<Self> {
        let names = key.strip_prefix("request.auth.claims[")?.strip_suffix(']')?;
        let well_formed = names.split("][").all(|name| !name.is_empty() && !name.contains(['[', ']']));
        well_formed.then(|| Self::Claim(names.split("][").map(Box::from).collect()))
    }

    /// The condition key that it is asked for by.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Principal => "request.auth.principal".into(),
            Self::Audiences => "request.auth.audiences".into(),
            Self::Presenter => "request.auth.presenter".into(),
            Self::Claim(path) => format!("request.auth.claims[{}]", path.join("][")),
        }
    }

    /// Only a verified token comes here. What it does not say is absent, and so is a number, a truth value or an
    /// object: Istio compares texts and lists of texts alone.
    pub(super) fn fits(&self, token: Option<&Token>, values: &Values<TextMatch>) -> bool {
        let Some(token) = token else { return values.fit_absent() };
        let texts = self.texts(token);
        if texts.is_empty() {
            return values.fit_absent();
        }
        values.fit(|pattern| texts.iter().any(|text| pattern.matches(text.as_bytes(), Case::Exact)))
    }

    /// Nothing where the token does not say it.
    pub(super) fn each_text(&self, token: &Token, each: impl FnMut(&str)) {
        self.texts(token).into_iter().for_each(each);
    }

    pub(super) fn texts<'t>(&self, token: &'t Token) -> SmallVec<[&'t str; 4]> {
        match self {
            Self::Principal => token.principal.as_deref().into_iter().collect(),
            Self::Audiences => token.audiences.iter().map(String::as_str).collect(),
            Self::Presenter => token.presenter.as_deref().into_iter().collect(),
            Self::Claim(path) => match token.claim(path) {
                Some(Value::String(list)) if is_space_delimited(path, token) => {
                    list.split(' ').filter(|word| !word.is_empty()).collect()
                }
                Some(Value::String(text)) => smallvec![text.as_str()],
                Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
                _ => SmallVec::new(),
            },
        }
    }
}

fn is_space_delimited(path: &[Box<str>], token: &Token) -> bool {
    let [name] = path else { return false };
    SPACE_DELIMITED.contains(&&**name) || token.space_delimited.iter().any(|listed| **listed == **name)
}
