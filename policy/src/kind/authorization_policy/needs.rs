//! What a rule cannot match without, for the index.

use ipnet::IpNet;

use super::clause::Clause;
use super::index::{Attribute, Need};
use super::path::PathMatch;
use super::text::TextMatch;
use super::texts::Form;

/// Of a rule with these parts: alternatives among sources and among operations, and conditions that must all hold.
pub(super) fn needs(
    sources: &[Box<[Clause]>],
    operations: &[Box<[Clause]>],
    conditions: &[Clause],
) -> Vec<Need> {
    let mut out: Vec<Need> = conditions.iter().filter_map(Clause::need).collect();
    out.extend(of_alternatives(sources));
    out.extend(of_alternatives(operations));
    out
}

/// Every alternative must need the same attribute; then one of all their forms is needed.
fn of_alternatives(parts: &[Box<[Clause]>]) -> Vec<Need> {
    let Some((first, others)) = parts.split_first() else { return Vec::new() };
    let mut out: Vec<Need> = first.iter().filter_map(Clause::need).collect();
    for part in others {
        let theirs: Vec<Need> = part.iter().filter_map(Clause::need).collect();
        out.retain_mut(|need| {
            let same = theirs.iter().find(|other| other.attribute == need.attribute);
            need.forms.extend(same.into_iter().flat_map(|other| other.forms.iter().cloned()));
            same.is_some()
        });
    }
    out
}

impl Clause {
    /// `None` where the attribute may be absent, or be any text. What a clause excludes does not matter.
    fn need(&self) -> Option<Need> {
        let (attribute, forms) = match self {
            Self::Principal(values) => (Attribute::Principal, forms(&values.any, TextMatch::form)?),
            Self::Namespace(values) => (Attribute::Namespace, forms(&values.any, |name| name.form())?),
            Self::ServiceAccount(values) => {
                (Attribute::Principal, forms(&values.any, |account| Some(account.form()))?)
            }
            Self::DestinationPort(values) => {
                let form = |port: &u16| Some(Form::Exact(port.to_be_bytes().into()));
                (Attribute::Port, forms(&values.any, form)?)
            }
            Self::Method(values) => (Attribute::Method, forms(&values.any, TextMatch::form)?),
            Self::Path(values) => (Attribute::Path, forms(&values.any, PathMatch::form)?),
            Self::Host(values) => (Attribute::Host, forms(&values.any, |host| host.form())?),
            Self::Header(clause, _) => {
                (Attribute::Header(clause.name.clone()), forms(&clause.any, TextMatch::form)?)
            }
            Self::Token(attribute, values) => {
                (Attribute::Token(attribute.clone()), forms(&values.any, TextMatch::form)?)
            }
            Self::SourceIp(values) => (Attribute::SourceIp, blocks(&values.any)?),
            Self::RemoteIp(values) => (Attribute::RemoteIp, blocks(&values.any)?),
            Self::DestinationIp(values) => (Attribute::DestinationIp, blocks(&values.any)?),
            Self::Sni(values) => {
                let form = |name: &TextMatch| name.form().map(Form::into_lowercase);
                (Attribute::Sni, forms(&values.any, form)?)
            }
            // No text will do: the rule is found for nobody, and never tried.
            Self::Http => (Attribute::Method, Vec::new()),
            // Of all callers of a mesh hardly any has another.
            Self::TrustDomain(_) => return None,
        };
        Some(Need { attribute, forms })
    }
}

/// `None` where nothing is asked, or one of the patterns has no form.
fn forms<T>(patterns: &[T], form: impl Fn(&T) -> Option<Form>) -> Option<Vec<Form>> {
    (!patterns.is_empty()).then(|| patterns.iter().map(form).collect())?
}

fn blocks(blocks: &[IpNet]) -> Option<Vec<Form>> {
    forms(blocks, |block| Some(Form::block(block)))
}

impl TextMatch {
    pub(super) fn form(&self) -> Option<Form> {
        match self {
            Self::Present => None,
            Self::Exact(text) => Some(Form::Exact(text.clone())),
            Self::Prefix(text) => Some(Form::Start(text.clone())),
            Self::Suffix(text) => Some(Form::End(text.clone())),
        }
    }
}
