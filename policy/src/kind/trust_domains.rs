//! Trust domain aliases: policies written for one name of the mesh hold for all of them.

/// The name that stands for "our own trust domain" in policies written for Istio.
const LOCAL: &str = "cluster.local";

/// The mesh's own trust domain and its aliases.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustDomains {
    /// Own first. Empty while documents are checked, when the own name is not known yet.
    names: Vec<String>,
}

impl TrustDomains {
    pub(crate) fn new(own: &str, aliases: &[String]) -> Self {
        let mut names = vec![own.to_owned()];
        names.extend(aliases.iter().filter(|a| *a != own).cloned());
        Self { names }
    }

    /// The patterns that a principal of a policy stands for, as Istio expands them.
    pub(crate) fn expand(&self, principal: &str) -> Vec<String> {
        let keep = || vec![principal.to_owned()];
        let Some((domain, rest)) = principal.split_once('/') else { return keep() };
        if self.names.is_empty() || domain == "*" {
            return keep();
        }
        let ours = |name: &String| match domain.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix),
            None => name == domain,
        };
        if domain != LOCAL && !self.names.iter().any(ours) {
            return keep();
        }
        let mut out = Vec::with_capacity(self.names.len());
        if domain.starts_with('*') {
            out.push(principal.to_owned());
        }
        let others = self.names.iter().filter(|name| !(domain.starts_with('*') && ours(name)));
        out.extend(others.map(|name| format!("{name}/{rest}")));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(own: &str, aliases: &[&str], principal: &str, expected: &[&str]) {
        let aliases: Vec<String> = aliases.iter().map(|a| (*a).to_owned()).collect();
        let mut expanded = TrustDomains::new(own, &aliases).expand(principal);
        expanded.sort();
        assert_eq!(expanded, expected, "{principal}");
    }

    #[test]
    fn a_principal_of_the_mesh_stands_for_all_its_names() {
        check("td1", &["td0"], "td1/ns/a/sa/b", &["td0/ns/a/sa/b", "td1/ns/a/sa/b"]);
        check("td1", &["td0"], "td0/ns/a/sa/b", &["td0/ns/a/sa/b", "td1/ns/a/sa/b"]);
        check("td1", &[], "cluster.local/ns/a/sa/b", &["td1/ns/a/sa/b"]);
        check(
            "td1",
            &["cluster.local"],
            "cluster.local/ns/a/sa/b",
            &["cluster.local/ns/a/sa/b", "td1/ns/a/sa/b"],
        );
        check("a-td", &["other"], "*-td/ns/a/sa/b", &["*-td/ns/a/sa/b", "other/ns/a/sa/b"]);
    }

    #[test]
    fn other_principals_stay_as_they_are() {
        check("td1", &["td0"], "td2/ns/a/sa/b", &["td2/ns/a/sa/b"]);
        check("td1", &["td0"], "td1.evil/ns/a/sa/b", &["td1.evil/ns/a/sa/b"]);
        check("td1", &["td0"], "*/ns/a/sa/b", &["*/ns/a/sa/b"]);
        check("td1", &["td0"], "*", &["*"]);
        check("td1", &["td0"], "td1*", &["td1*"]);
    }
}
