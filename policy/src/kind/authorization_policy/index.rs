//! Finds the rules that a request could match, without trying the others.
//!
//! A rule that can match only where some attribute has one of some texts (a caller's principal, the start of a path, a
//! claim) is filed under those texts; which attribute, of those that a rule has, is chosen so that few rules share a text. A
//! request is looked up by its own attributes. What is found is tried, so a text that is found too often costs time and
//! decides nothing.

use std::net::IpAddr;

use hashbrown::HashMap;
use http::HeaderName;
use ipnet::IpNet;
use smallvec::SmallVec;

use super::host;
use super::texts::{Form, Position, Texts};
use super::token::TokenAttribute;
use crate::request::RequestView;

/// What a rule can be filed under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Attribute {
    Principal,
    Namespace,
    Path,
    Host,
    Token(TokenAttribute),
    Header(HeaderName),
    SourceIp,
    RemoteIp,
    DestinationIp,
    Sni,
    Method,
    Port,
}

/// What a rule cannot match without: one of the forms.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) attribute: Attribute,
    pub(super) forms: Vec<Form>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    by_attribute: Vec<(Attribute, Texts)>,
    /// Rules that need nothing that can be looked up.
    general: Vec<Position>,
}

impl Index {
    /// `needs`: of each rule, by position; any one of a rule's needs is enough to file it under.
    pub(super) fn new(needs: Vec<Vec<Need>>) -> Self {
        let best = fewest(&needs);
        let mut filed: HashMap<Attribute, HashMap<Form, Vec<Position>>> = HashMap::new();
        let mut general = Vec::new();
        for (position, (needs, best)) in (0..).zip(needs.into_iter().zip(best)) {
            let Some(Need { attribute, forms }) = best.and_then(|best| needs.into_iter().nth(best)) else {
                general.push(position);
                continue;
            };
            let texts = filed.entry(attribute).or_default();
            for form in forms {
                let rules = texts.entry(form).or_default();
                if rules.last() != Some(&position) {
                    rules.push(position);
                }
            }
        }
        let mut by_attribute: Vec<_> =
            filed.into_iter().map(|(attribute, texts)| (attribute, Texts::new(texts))).collect();
        by_attribute.sort_by_key(|(attribute, _)| attribute.rank());
        Self { by_attribute, general }
    }

    /// Lists of positions, each ascending; all rules that could match are in one of them at least.
    pub(super) fn each<'i>(&'i self, request: &RequestView<'_>, mut found: impl FnMut(&'i [Position])) {
        found(&self.general);
        for (attribute, texts) in &self.by_attribute {
            attribute.each_text(request, |text| texts.each(text, &mut found));
        }
    }
}

/// Of each rule's needs, the place of the one whose forms it shares with the fewest other rules.
fn fewest(needs: &[Vec<Need>]) -> Vec<Option<usize>> {
    // How many rules could be filed under each form.
    let mut shared: HashMap<(&Attribute, &Form), usize> = HashMap::new();
    for need in needs.iter().flatten() {
        for form in &need.forms {
            *shared.entry((&need.attribute, form)).or_default() += 1;
        }
    }
    let crowd = |need: &Need| {
        let each = need.forms.iter().map(|form| shared.get(&(&need.attribute, form)).copied());
        (each.max(), need.attribute.rank())
    };
    let best = |needs: &Vec<Need>| {
        let places = needs.iter().map(crowd).enumerate();
        places.min_by_key(|(_, crowd)| *crowd).map(|(place, _)| place)
    };
    needs.iter().map(best).collect()
}

impl Attribute {
    /// The lowest is preferred where one is as good as another: what callers differ in most.
    fn rank(&self) -> u8 {
        match self {
            Self::Principal => 0,
            Self::Namespace => 1,
            Self::Path => 2,
            Self::Host => 3,
            Self::Token(_) => 4,
            Self::Header(_) => 5,
            Self::SourceIp | Self::RemoteIp | Self::DestinationIp => 6,
            Self::Sni => 7,
            Self::Method => 8,
            Self::Port => 9,
        }
    }

    /// The texts that a request has there; none where it has no such attribute.
    fn each_text(&self, request: &RequestView<'_>, mut each: impl FnMut(&[u8])) {
        match self {
            Self::Principal => {
                if let Some(peer) = request.peer {
                    each(peer.principal().as_bytes());
                }
            }
            Self::Namespace => {
                if let Some(workload) = request.peer.and_then(|peer| peer.workload()) {
                    each(workload.namespace.as_str().as_bytes());
                }
            }
            Self::Path => each(request.path.as_bytes()),
            Self::Host => host::spellings(request.host, |host| each(&lowercase(host))),
            Self::Sni => {
                if let Some(name) = request.sni {
                    each(&lowercase(name));
                }
            }
            Self::SourceIp => each(&bits(request.source_ip)),
            Self::RemoteIp => each(&bits(request.remote_ip)),
            Self::DestinationIp => each(&bits(request.destination_ip)),
            Self::Token(attribute) => {
                if let Some(token) = request.token {
                    attribute.each_text(token, |text| each(text.as_bytes()));
                }
            }
            Self::Header(name) => {
                let values = request.headers.get_all(name);
                values.iter().for_each(|value| each(super::header::trim(value.as_bytes())));
            }
            Self::Method => each(request.method.as_bytes()),
            Self::Port => each(&request.destination_port.to_be_bytes()),
        }
    }
}

fn lowercase(text: &str) -> SmallVec<[u8; 128]> {
    text.bytes().map(|byte| byte.to_ascii_lowercase()).collect()
}

/// An address as a text, a letter for each bit behind one for its kind: so the addresses of a block begin alike.
fn bits(address: IpAddr) -> SmallVec<[u8; 256]> {
    let (kind, bytes) = match address.to_canonical() {
        IpAddr::V4(address) => (b'4', SmallVec::<[u8; 16]>::from_slice(&address.octets())),
        IpAddr::V6(address) => (b'6', SmallVec::from_slice(&address.octets())),
    };
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    std::iter::once(kind).chain(bits).collect()
}

impl Form {
    /// A block of addresses.
    pub(super) fn block(block: &IpNet) -> Self {
        let kind = match block {
            IpNet::V4(_) => b'4',
            IpNet::V6(_) => b'6',
        };
        // Of a block of mapped addresses no canonical address is part, and none begins like it.
        let length = usize::from(block.prefix_len()).saturating_add(1);
        let bits = bits(block.network());
        let bits = if bits.first() == Some(&kind) { bits.get(..length).unwrap_or_default() } else { b"-" };
        Self::Start(bits.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_filed_under_what_it_shares_with_the_fewest() {
        let need =
            |attribute, text: &str| Need { attribute, forms: vec![Form::Exact(text.as_bytes().into())] };
        let rule = |path| vec![need(Attribute::Method, "POST"), need(Attribute::Path, path)];
        let index = Index::new(vec![rule("/a"), rule("/b"), vec![need(Attribute::Method, "POST")], vec![]]);
        let of = |attribute: &Attribute, text: &str| {
            let (_, texts) = index.by_attribute.iter().find(|(of, _)| of == attribute).unwrap();
            texts.exact.get(text.as_bytes()).cloned()
        };
        assert_eq!(of(&Attribute::Path, "/a"), Some(vec![0]));
        assert_eq!(of(&Attribute::Path, "/b"), Some(vec![1]));
        assert_eq!(of(&Attribute::Method, "POST"), Some(vec![2]));
        assert_eq!(index.general, [3]);
    }
}
