//! Kinds and names of documents as operators type them.

use anyhow::anyhow;
use palisade_policy::kind::Kind;

use crate::exit::Failure;

/// Any case. Only the whole name: an abbreviation could mean another kind in the next version.
pub(super) fn parse(text: &str) -> Result<Kind, String> {
    Kind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
        format!("no kind of this name; there are {}", known.join(", "))
    })
}

/// The namespace and name of a document: `NAMESPACE/NAME` as commands print it, or a name beside `--namespace`.
pub(super) fn object(name: &str, namespace: Option<&str>) -> Result<(Option<String>, String), Failure> {
    let Some((own, name)) = name.split_once('/') else {
        return Ok((namespace.map(str::to_owned), name.to_owned()));
    };
    match namespace {
        Some(other) if other != own => Err(Failure::input(anyhow!(
            "{own}/{name} is in the namespace {own}, and --namespace says {other}; leave one of them out"
        ))),
        _ => Ok((Some(own.to_owned()), name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_named_as_commands_print_it_or_with_its_namespace_apart() {
        let named = |namespace: Option<&str>, name: &str| (namespace.map(str::to_owned), name.to_owned());
        assert_eq!(object("web", None).ok(), Some(named(None, "web")));
        assert_eq!(object("web", Some("shop")).ok(), Some(named(Some("shop"), "web")));
        assert_eq!(object("shop/web", None).ok(), Some(named(Some("shop"), "web")));
        assert_eq!(object("shop/web", Some("shop")).ok(), Some(named(Some("shop"), "web")));
        assert!(object("shop/web", Some("bank")).is_err());
    }

    #[test]
    fn takes_any_case_and_nothing_else() {
        assert_eq!(parse("authorizationpolicy").unwrap(), Kind::AuthorizationPolicy);
        assert_eq!(parse("MeshConfig").unwrap(), Kind::MeshConfig);
        for text in ["", "authz", "AuthorizationPolicies", "Pod"] {
            assert!(parse(text).unwrap_err().contains("AuthorizationPolicy"), "{text}");
        }
    }
}
