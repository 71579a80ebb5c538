//! Kinds as operators type them.

use palisade_policy::kind::Kind;

/// Any case. Only the whole name: an abbreviation could mean another kind in the next version.
pub(super) fn parse(text: &str) -> Result<Kind, String> {
    Kind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
        format!("no kind of this name; there are {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_any_case_and_nothing_else() {
        assert_eq!(parse("authorizationpolicy").unwrap(), Kind::AuthorizationPolicy);
        assert_eq!(parse("MeshConfig").unwrap(), Kind::MeshConfig);
        for text in ["", "authz", "AuthorizationPolicies", "Pod"] {
            assert!(parse(text).unwrap_err().contains("AuthorizationPolicy"), "{text}");
        }
    }
}
