//! What the quotas of a mesh limit are called in the store.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use palisade_policy::kind::rate_limit_policy::{KeyPart, Limit};

use super::super::key::{Asked, claim};
use crate::listen::ClientKey;

/// `palisade:DOMAIN:NAMESPACE/POLICY/LIMIT:HASH`. The hash is of the limit's numbers and of what the request is counted
/// under, so that the store holds no address, user or header in a form that can be read, and a changed limit starts
/// anew. All proxies of a mesh must come to the same text, in every version.
pub(super) fn name(domain: &str, limit: &Limit, asked: &Asked<'_>) -> String {
    let mut hash = Hash(Context::new(&SHA256));
    hash.number(limit.limit.into());
    hash.number(u64::try_from(limit.window.as_micros()).unwrap_or(u64::MAX));
    hash.number(limit.burst.unwrap_or(0).into());
    for part in &limit.key {
        hash_part(part, asked, &mut hash);
    }
    let hash = URL_SAFE_NO_PAD.encode(hash.0.finish());
    format!("palisade:{domain}:{}:{hash}", limit.title)
}

fn hash_part(part: &KeyPart, asked: &Asked<'_>, hash: &mut Hash) {
    match part {
        KeyPart::Claim(name) => {
            hash.value(Some(b"claim"));
            hash.value(Some(name.as_bytes()));
            hash.value(claim(asked.token, name).as_deref().map(str::as_bytes));
        }
        KeyPart::Principal => {
            hash.value(Some(b"principal"));
            let principal = asked.token.and_then(|token| token.principal.as_deref());
            hash.value(principal.map(str::as_bytes));
        }
        KeyPart::Address => {
            hash.value(Some(b"address"));
            match ClientKey::of(asked.address) {
                ClientKey::V4(address) => hash.value(Some(&address.to_be_bytes())),
                ClientKey::V6(subnet) => hash.value(Some(&subnet.to_be_bytes())),
            }
        }
        KeyPart::Header(name) => {
            hash.value(Some(b"header"));
            hash.value(Some(name.to_ascii_lowercase().as_bytes()));
            for value in asked.headers.get_all(name) {
                hash.value(Some(value.as_bytes()));
            }
            hash.value(None);
        }
    }
}

/// Values with their lengths, so that none can run into the next.
struct Hash(Context);

impl Hash {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    fn value(&mut self, value: Option<&[u8]>) {
        match value {
            Some(bytes) => {
                self.0.update(&[1]);
                self.number(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                self.0.update(bytes);
            }
            None => self.0.update(&[0]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};
    use palisade_policy::kind::rate_limit_policy::{Mode, OnStoreFailure, Scope};
    use palisade_policy::kind::request_match::RequestMatch;

    use super::*;

    fn limit(key: &[KeyPart]) -> Limit {
        Limit {
            id: "bank/p/a 5".into(),
            title: "bank/p/a".into(),
            name: "a".into(),
            matches: RequestMatch::default(),
            key: key.into(),
            limit: 5,
            window: Duration::from_secs(60),
            burst: None,
            cost: 1,
            scope: Scope::Mesh(OnStoreFailure::Deny),
            mode: Mode::Enforce,
            headers: true,
        }
    }

    fn of(limit: &Limit, address: &str, header: &[&'static str]) -> String {
        let address: IpAddr = address.parse().unwrap();
        let mut headers = HeaderMap::new();
        for value in header {
            headers.append("x-device", HeaderValue::from_static(value));
        }
        name("corp.example", limit, &Asked { address, headers: &headers, token: None })
    }

    #[test]
    fn the_text_never_changes_between_versions_and_tells_no_address() {
        let one = of(&limit(&[KeyPart::Address]), "192.0.2.7", &[]);
        assert_eq!(one, "palisade:corp.example:bank/p/a:x98dsOD63w79p5AwKALHJZIwnJGqG4ob_MaiCfo4Klw");
        assert!(!one.contains("192"));
    }

    #[test]
    fn what_counts_apart_has_a_name_of_its_own_and_what_counts_together_has_the_same() {
        let (address, header) = (KeyPart::Address, KeyPart::Header("x-device".into()));
        let (by_address, by_header) =
            (limit(std::slice::from_ref(&address)), limit(std::slice::from_ref(&header)));
        let longer = Limit { window: Duration::from_secs(61), ..limit(&[KeyPart::Address]) };
        let apart = [
            of(&by_address, "192.0.2.7", &[]),
            of(&by_address, "192.0.2.8", &[]),
            of(&by_address, "2001:db8::1", &[]),
            of(&by_address, "2001:db8:0:1::1", &[]),
            of(&longer, "192.0.2.7", &[]),
            of(&by_header, "192.0.2.7", &[]),
            of(&by_header, "192.0.2.7", &["a", "b"]),
            of(&by_header, "192.0.2.7", &["ab"]),
            of(&by_header, "192.0.2.7", &["b", "a"]),
            of(&limit(&[address, header]), "192.0.2.7", &["ab"]),
            of(&limit(&[]), "192.0.2.7", &[]),
        ];
        assert_eq!(apart.iter().collect::<BTreeSet<_>>().len(), apart.len());
        assert_eq!(of(&by_address, "192.0.2.7", &["a"]), of(&by_address, "::ffff:192.0.2.7", &["b"]));
        assert_eq!(of(&by_address, "2001:db8::1", &[]), of(&by_address, "2001:db8::ffff", &[]));
        assert_eq!(of(&by_header, "192.0.2.7", &["a"]), of(&by_header, "192.0.2.8", &["a"]));
    }
}
