//! Rules by a text that some attribute has to be, begin with or end with.

use std::cmp::Ordering;

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
    starts: Nested,
    ends: Nested,
}

impl Texts {
    pub(super) fn new(filed: HashMap<Form, Vec<Position>>) -> Self {
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

    /// The rules of every form that the text has.
    pub(super) fn each<'t>(&'t self, text: &[u8], found: &mut impl FnMut(&'t [Position])) {
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
}
