//! Rules by a text that some attribute has to be, begin with or end with.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use hashbrown::HashMap;

/// Of a rule in its set.
pub(super) type Position = u32;

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

/// The rules filed under one attribute. Positions ascend in every list.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) exact: HashMap<Box<[u8]>, Vec<Position>>,
    starts: Parts,
    ends: Parts,
}

/// Texts that are a part of another, at its start or at its end.
#[derive(Debug)]
enum Parts {
    /// Where they have few lengths, as blocks of addresses have: one look for each.
    ByLength {
        lengths: Vec<usize>,
        texts: HashMap<Box<[u8]>, Vec<Position>>,
    },
    Nested(Nested),
}

/// More looks than these cost as much as finding the place among many in order.
const LENGTHS_MAX: usize = 8;

impl Default for Parts {
    fn default() -> Self {
        Self::Nested(Nested::default())
    }
}

impl Parts {
    /// `order`: what texts are put in order by, so that a part comes first.
    fn new(texts: Vec<(Box<[u8]>, Vec<Position>)>, order: impl Fn(Box<[u8]>) -> Box<[u8]>) -> Self {
        let lengths: BTreeSet<_> = texts.iter().map(|(text, _)| text.len()).collect();
        if lengths.len() <= LENGTHS_MAX {
            return Self::ByLength {
                lengths: lengths.into_iter().collect(),
                texts: texts.into_iter().collect(),
            };
        }
        Self::Nested(Nested::new(texts.into_iter().map(|(text, rules)| (order(text), rules)).collect()))
    }

    /// `part`: what a text of that length would have to be.
    fn each<'p, 't, I>(
        &'p self,
        part: impl Fn(usize) -> Option<&'t [u8]>,
        text: impl Fn() -> I,
        found: &mut impl FnMut(&'p [Position]),
    ) where
        I: Iterator<Item = u8> + Clone,
    {
        match self {
            Self::ByLength { lengths, texts } => {
                let parts = lengths.iter().map_while(|length| part(*length));
                parts.filter_map(|part| texts.get(part)).for_each(|rules| found(rules));
            }
            Self::Nested(nested) => nested.each(text, found),
        }
    }
}

impl Texts {
    pub(super) fn new(filed: HashMap<Form, Vec<Position>>) -> Self {
        let mut out = Self::default();
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for (form, rules) in filed {
            match form {
                Form::Exact(text) => drop(out.exact.insert(text, rules)),
                Form::Start(text) => starts.push((text, rules)),
                Form::End(text) => ends.push((text, rules)),
            }
        }
        out.starts = Parts::new(starts, |text| text);
        out.ends = Parts::new(ends, |text| text.iter().rev().copied().collect());
        out
    }

    /// The rules of every form that the text has.
    pub(super) fn each<'t>(&'t self, text: &[u8], found: &mut impl FnMut(&'t [Position])) {
        if let Some(rules) = self.exact.get(text) {
            found(rules);
        }
        let end = |length: usize| text.get(text.len().checked_sub(length)?..);
        self.starts.each(|length| text.get(..length), || text.iter().copied(), found);
        self.ends.each(end, || text.iter().rev().copied(), found);
    }
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
            forms in proptest::collection::hash_set(("([ab]{0,5}|a{0,14})", 0..3_u8), 0..40),
            text in "([ab]{0,7}|a{0,16})",
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
}
