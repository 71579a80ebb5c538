//! Hosts of services: `name.namespace`, and what Kubernetes would call it.

const CLUSTER_SUFFIXES: [&str; 2] = [".svc.cluster.local", ".svc"];

/// `ledger.payments.svc.cluster.local` as `ledger.payments`; other hosts as they are.
pub(crate) fn canonical(host: &str) -> &str {
    let mesh = |suffix: &&str| host.strip_suffix(*suffix).filter(|rest| mesh_name(rest).is_some());
    CLUSTER_SUFFIXES.iter().find_map(mesh).unwrap_or(host)
}

/// Name and namespace of a host of the form `name.namespace`.
pub(crate) fn mesh_name(host: &str) -> Option<(&str, &str)> {
    host.split_once('.')
        .filter(|(name, namespace)| !name.is_empty() && !namespace.is_empty() && !namespace.contains('.'))
}

/// The hosts that a host written in an object of `namespace` may mean: a short name is one of that namespace.
pub(crate) fn resolve(host: &str, namespace: &str) -> impl Iterator<Item = String> {
    let short = (!host.contains('.')).then(|| format!("{host}.{namespace}"));
    [Some(canonical(host).to_owned()), short].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_names_are_aliases() {
        assert_eq!(canonical("ledger.payments.svc.cluster.local"), "ledger.payments");
        assert_eq!(canonical("ledger.payments.svc"), "ledger.payments");
        assert_eq!(canonical("ledger.payments"), "ledger.payments");
        assert_eq!(canonical("api.ledger.example"), "api.ledger.example");
        assert_eq!(canonical("a.b.c.svc.cluster.local"), "a.b.c.svc.cluster.local");
    }
}
