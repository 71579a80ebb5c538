//! Finds the rules that a request could match, without trying the others.
//!
//! A rule that can match only where some attribute has one of some texts (a caller's principal, the start of a path, a
//! claim) is filed under those texts; which attribute, of those that a rule has, is chosen so that few rules share a text. A
//! request is looked up by its own attributes. What is found is tried, so a text that is found too often costs time and
//! decides nothing.

use std::cmp::Ordering;
use std::net::IpAddr;

use hashbrown::HashMap;
use http::HeaderName;
use ipnet::IpNet;
use smallvec::SmallVec;

use super::host;
use super::token::TokenAttribute;
use crate::request::RequestView;

/// Of a rule in its set.
pub(super) type Position = u32;

/// What a rule can be filed under. In the order of preference where one is as good as another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Attribute {
    Principal,
    Namespace,
    Path,
    Host,
    Token(TokenAttribute),
    Header(HeaderKey),
    SourceIp,
    RemoteIp,
    DestinationIp,
    Sni,
    Method,
    Port,
}

/// A header's name, which has no order of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct HeaderKey(pub(super) HeaderName);

/// A text, and where in the attribute it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    Exact(Box<[u8]>),
    Start(Box<[u8]>),
    End(Box<[u8]>),
}

impl Form {
    pub(super) fn into_lowercase(self) -> Self {
        match self {
            Self::Exact(text) => Self::Exact(text.to_ascii_lowercase().into()),
            Self::Start(text) => Self::Start(text.to_ascii_lowercase().into()),
            Self::End(text) => Self::End(text.to_ascii_lowercase().into()),
        }
    }
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

/// The rules filed under one attribute. Positions ascend in every list.
#[derive(Debug, Default)]
struct Texts {
    exact: HashMap<Box<[u8]>, Vec<Position>>,
    starts: Nested,
    ends: Nested,
}

impl PartialOrd for HeaderKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HeaderKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl Index {
    /// `needs`: of each rule, by position; any one of a rule's needs is enough to file it under.
    pub(super) fn new(needs: Vec<Vec<Need>>) -> Self {
        let shared = count(&needs);
        let mut filed: HashMap<Attribute, HashMap<Form, Vec<Position>>> = HashMap::new();
        let mut general = Vec::new();
        for (position, needs) in (0..).zip(needs) {
            let crowd = |need: &Need| need.forms.iter().map(|form| shared_by(&shared, need, form)).max();
            let best = needs
                .into_iter()
                .min_by(|a, b| crowd(a).cmp(&crowd(b)).then_with(|| a.attribute.cmp(&b.attribute)));
            let Some(Need { attribute, forms }) = best else {
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
        by_attribute.sort_by(|(a, _), (b, _)| a.cmp(b));
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

/// How many rules could be filed under each form.
type Shared = HashMap<(Attribute, Form), usize>;

fn count(needs: &[Vec<Need>]) -> Shared {
    let mut shared = Shared::new();
    for need in needs.iter().flatten() {
        for form in &need.forms {
            *shared.entry((need.attribute.clone(), form.clone())).or_default() += 1;
        }
    }
    shared
}

fn shared_by(shared: &Shared, need: &Need, form: &Form) -> usize {
    shared.get(&(need.attribute.clone(), form.clone())).copied().unwrap_or_default()
}

impl Attribute {
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
            Self::Header(HeaderKey(name)) => {
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

impl Texts {
    fn new(filed: HashMap<Form, Vec<Position>>) -> Self {
        let mut out = Self::default();
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for (form, rules) in filed {
            match form {
                Form::Exact(text) => drop(out.exact.insert(text, rules)),
                Form::Start(text) => starts.push((text, rules)),
                Form::End(text) => ends.push((reversed(&text), rules)),
            }
        }
        out.starts = Nested::new(starts);
        out.ends = Nested::new(ends);
        out
    }

    fn each<'t>(&'t self, text: &[u8], found: &mut impl FnMut(&'t [Position])) {
        if let Some(rules) = self.exact.get(text) {
            found(rules);
        }
        self.starts.each(|| text.iter().copied(), found);
        self.ends.each(|| text.iter().rev().copied(), found);
    }
}

fn reversed(text: &[u8]) -> Box<[u8]> {
    text.iter().rev().copied().collect()
}

/// Texts that others may begin with. Each knows the longest of the others that it begins with itself.
#[derive(Debug, Default)]
struct Nested {
    /// In order.
    texts: Vec<Nest>,
}

#[derive(Debug)]
struct Nest {
    text: Box<[u8]>,
    outer: Option<usize>,
    rules: Vec<Position>,
}

impl Nested {
    fn new(mut texts: Vec<(Box<[u8]>, Vec<Position>)>) -> Self {
        texts.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut out = Self::default();
        for (text, rules) in texts {
            let outer = out.last_up_to(text.iter().copied());
            let outer = out.outward(outer).find(|(_, nest)| text.starts_with(&nest.text)).map(|(at, _)| at);
            out.texts.push(Nest { text, outer, rules });
        }
        out
    }

    /// The rules of all texts that this one begins with. They all lie on the way outward from the last text in order
    /// that is not behind it: what lies between two texts that begin alike begins like them.
    fn each<'n, I>(&'n self, text: impl Fn() -> I, found: &mut impl FnMut(&'n [Position]))
    where
        I: Iterator<Item = u8> + Clone,
    {
        for (_, nest) in self.outward(self.last_up_to(text())) {
            if nest.text.iter().copied().eq(text().take(nest.text.len())) {
                found(&nest.rules);
            }
        }
    }

    fn last_up_to(&self, text: impl Iterator<Item = u8> + Clone) -> Option<usize> {
        let not_behind = |nest: &Nest| nest.text.iter().copied().cmp(text.clone()) != Ordering::Greater;
        self.texts.partition_point(not_behind).checked_sub(1)
    }

    fn outward(&self, from: Option<usize>) -> impl Iterator<Item = (usize, &Nest)> {
        let mut next = from;
        std::iter::from_fn(move || {
            let at = next?;
            let nest = self.texts.get(at)?;
            next = nest.outer;
            Some((at, nest))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain question, asked of every text.
        #[test]
        fn texts_find_what_trying_each_would(
            forms in proptest::collection::hash_set(("[ab]{0,5}", 0..3_u8), 0..40),
            text in "[ab]{0,7}",
        ) {
            let forms: Vec<_> = forms.into_iter().collect();
            let fits = |(form, kind): &(String, u8)| match kind {
                0 => text == *form,
                1 => text.starts_with(form.as_str()),
                _ => text.ends_with(form.as_str()),
            };
            let filed = (0..).zip(&forms).map(|(at, (form, kind))| {
                let bytes = form.as_bytes().into();
                let form = match kind {
                    0 => Form::Exact(bytes),
                    1 => Form::Start(bytes),
                    _ => Form::End(bytes),
                };
                (form, vec![at])
            });
            let texts = Texts::new(filed.collect());
            let mut found = Vec::new();
            texts.each(text.as_bytes(), &mut |rules| found.extend_from_slice(rules));
            found.sort_unstable();
            let expected: Vec<Position> =
                (0..).zip(&forms).filter(|(_, form)| fits(form)).map(|(at, _)| at).collect();
            prop_assert_eq!(found, expected);
        }
    }

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
