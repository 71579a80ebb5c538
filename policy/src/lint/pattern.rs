//! Sets of texts, and how two of them lie to each other.
//!
//! Both questions are answered on the safe side: `covers` says yes only where it is sure, `overlaps` says no only where
//! it is sure.

use std::borrow::Cow;

use crate::finding::problem::Problems;
use crate::kind::authorization_policy::path::PathMatch;
use crate::kind::gateway::HostPattern;
use crate::kind::virtual_service::StringMatch;
use crate::kind::virtual_service::text::TextMatcher;

/// One value of a policy or a route, as the set of texts that it takes.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    form: Form,
    /// Letters need not agree in case.
    fold: bool,
}

#[derive(Clone, Debug)]
enum Form {
    /// Every text but the empty one.
    Any,
    Exact(String),
    Prefix(String),
    Suffix(String),
    /// With `{*}` or `{**}`.
    Template {
        text: String,
        matcher: Box<PathMatch>,
    },
    /// A regex. Without a matcher: one that does not compile.
    Regex {
        text: String,
        matcher: Option<Box<TextMatcher>>,
    },
}

impl Pattern {
    pub(crate) fn any() -> Self {
        Self { form: Form::Any, fold: false }
    }

    pub(crate) fn exact(text: &str) -> Self {
        Self { form: Form::Exact(text.into()), fold: false }
    }

    /// `abc`, `abc*`, `*abc` or `*`.
    pub(crate) fn text(value: &str) -> Self {
        let form = match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
            ("*", _, _) => Form::Any,
            (_, Some(suffix), _) => Form::Suffix(suffix.into()),
            (_, None, Some(prefix)) => Form::Prefix(prefix.into()),
            (_, None, None) => Form::Exact(value.into()),
        };
        Self { form, fold: false }
    }

    /// A value of `paths`: a text or a template. Every path starts with a slash.
    pub(crate) fn path(value: &str) -> Self {
        if !value.contains(['{', '}']) {
            return Self::text(value).of_paths();
        }
        let plain = |text: &str| !text.contains(['{', '}']);
        let form = match value.strip_suffix("{**}").filter(|head| plain(head) && head.ends_with('/')) {
            Some(head) => Form::Prefix(head.into()),
            None => match PathMatch::widest(value) {
                Ok(matcher) => Form::Template { text: value.into(), matcher: Box::new(matcher) },
                Err(_malformed) => Form::Regex { text: value.into(), matcher: None },
            },
        };
        Self { form, fold: false }.of_paths()
    }

    /// A host of a Gateway or a VirtualService.
    pub(crate) fn host(pattern: &HostPattern) -> Self {
        let form = match pattern {
            HostPattern::Exact(name) => Form::Exact(name.clone()),
            HostPattern::Below(suffix) => Form::Suffix(suffix.clone()),
            HostPattern::Any => Form::Any,
        };
        Self { form, fold: true }
    }

    /// A value of `hosts`, of which one server answers to several spellings: without port and trailing dot.
    pub(crate) fn host_text(value: &str) -> Self {
        let name = match value.split_once(':') {
            Some((name, _)) if !value.starts_with('[') => name,
            _ => value,
        };
        Self { fold: true, ..Self::text(name.trim_end_matches('.')) }
    }

    /// The sets of a StringMatch: one, or one for each alternative of a regex such as `GET|POST`.
    pub(crate) fn of_match(matching: &StringMatch, fold: bool) -> Vec<Self> {
        match matching {
            StringMatch::Exact(text) => vec![Self { form: Form::Exact(text.clone()), fold }],
            StringMatch::Prefix(text) => vec![Self { form: Form::Prefix(text.clone()), fold }],
            StringMatch::Regex(text) if is_list_of_words(text) => {
                text.split('|').map(|word| Self { form: Form::Exact(word.into()), fold }).collect()
            }
            StringMatch::Regex(text) if text == ".*" || text == ".+" => vec![Self::any()],
            StringMatch::Regex(text) => {
                let matcher = TextMatcher::new(matching, false, "", &mut Problems::default()).map(Box::new);
                vec![Self { form: Form::Regex { text: text.clone(), matcher }, fold: false }]
            }
        }
    }

    /// The same in lower case for comparisons without case.
    pub(crate) fn folded(self) -> Self {
        Self { fold: true, ..self }
    }

    /// As a set of paths, where a slash at the start is every path.
    pub(crate) fn of_paths(self) -> Self {
        match &self.form {
            Form::Prefix(prefix) if prefix == "/" || prefix.is_empty() => Self::any(),
            _ => self,
        }
    }

    pub(crate) fn is_any(&self) -> bool {
        matches!(self.form, Form::Any)
    }

    /// As it was written.
    pub(crate) fn shown(&self) -> String {
        match &self.form {
            Form::Any => "*".into(),
            Form::Exact(text) | Form::Template { text, .. } => text.clone(),
            Form::Prefix(text) => format!("{text}*"),
            Form::Suffix(text) => format!("*{text}"),
            Form::Regex { text, .. } => format!("~{text}"),
        }
    }

    /// Whether a text is in the set. A pattern that does not compile has none.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text = self.cased(text);
        match &self.form {
            Form::Any => !text.is_empty(),
            Form::Exact(exact) => text == self.cased(exact),
            Form::Prefix(prefix) => text.starts_with(&*self.cased(prefix)),
            Form::Suffix(suffix) => text.ends_with(&*self.cased(suffix)),
            Form::Template { matcher, .. } => matcher.matches(&text),
            Form::Regex { matcher, .. } => matcher.as_ref().is_some_and(|m| m.matches(text.as_bytes())),
        }
    }

    fn cased<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.fold {
            true => Cow::Owned(text.to_ascii_lowercase()),
            false => Cow::Borrowed(text),
        }
    }

    /// Whether every text of `other` is surely one of ours.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        if let Form::Any = self.form {
            return !other.may_be_empty();
        }
        // A set without regard to case has more in it than one with.
        if other.fold && !self.fold {
            return false;
        }
        let (ours, theirs) = (|text| self.cased(text), |text| self.cased(text));
        match (&self.form, &other.form) {
            (Form::Regex { text: a, .. }, Form::Regex { text: b, .. })
            | (Form::Template { text: a, .. }, Form::Template { text: b, .. }) => a == b,
            (_, Form::Exact(text)) => self.matches(text),
            (Form::Prefix(wide), Form::Prefix(narrow)) => theirs(narrow).starts_with(&*ours(wide)),
            // What the set of a pattern that does not compile is, nobody knows.
            (Form::Prefix(wide), Form::Regex { text, matcher: Some(_) }) => {
                theirs(regex_head(text)).starts_with(&*ours(wide))
            }
            (Form::Prefix(wide), Form::Template { text, .. }) => {
                theirs(literal_head(text)).starts_with(&*ours(wide))
            }
            (Form::Suffix(wide), Form::Suffix(narrow)) => theirs(narrow).ends_with(&*ours(wide)),
            _ => false,
        }
    }

    /// Whether some text may be in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let lower = |text: &str| text.to_ascii_lowercase();
        match (&self.form, &other.form) {
            (Form::Any, _) | (_, Form::Any) => true,
            // A pattern of texts in one case may match another spelling of a text without regard to case.
            (Form::Exact(a), Form::Exact(b)) if self.fold || other.fold => lower(a) == lower(b),
            (Form::Exact(text), _) if !self.fold => other.may_match(text),
            (_, Form::Exact(text)) if !other.fold => self.may_match(text),
            _ => {
                let (a, b) = (lower(&self.start()), lower(&other.start()));
                let starts = a.starts_with(&b) || b.starts_with(&a);
                let (a, b) = (lower(self.end()), lower(other.end()));
                starts && (a.ends_with(&b) || b.ends_with(&a))
            }
        }
    }

    /// A pattern that does not compile may be anything.
    fn may_match(&self, text: &str) -> bool {
        matches!(self.form, Form::Regex { matcher: None, .. }) || self.matches(text)
    }

    fn may_be_empty(&self) -> bool {
        match &self.form {
            Form::Exact(text) | Form::Prefix(text) | Form::Suffix(text) => text.is_empty(),
            Form::Regex { matcher, .. } => matcher.as_ref().is_none_or(|m| m.matches(b"")),
            Form::Any | Form::Template { .. } => false,
        }
    }

    /// What every text of the set starts with.
    fn start(&self) -> Cow<'_, str> {
        match &self.form {
            Form::Exact(text) | Form::Prefix(text) => Cow::Borrowed(text),
            Form::Template { text, .. } => Cow::Borrowed(literal_head(text)),
            Form::Regex { text, matcher: Some(_) } => Cow::Borrowed(regex_head(text)),
            _ => Cow::Borrowed(""),
        }
    }

    /// What every text of the set ends with.
    fn end(&self) -> &str {
        match &self.form {
            Form::Exact(text) | Form::Suffix(text) => text,
            Form::Template { text, .. } => text.rsplit_once('}').map_or("", |(_, tail)| tail),
            _ => "",
        }
    }
}

/// What stands before the first brace of a template.
fn literal_head(template: &str) -> &str {
    template.split_once('{').map_or(template, |(head, _)| head)
}

/// What every text that a regex matches starts with. Regexes are for whole texts.
fn regex_head(regex: &str) -> &str {
    if may_be_alternatives(regex) {
        return "";
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    let end = regex.find(|c: char| !plain(c)).unwrap_or(regex.len());
    let (head, rest) = regex.split_at_checked(end).unwrap_or_default();
    match rest.starts_with(['?', '*', '{']) {
        // Of the last one there may be none.
        true => head.get(..head.len().saturating_sub(1)).unwrap_or_default(),
        false => head,
    }
}

/// Whether a regex may have alternatives outside its groups, which start with anything. In doubt it has.
fn may_be_alternatives(regex: &str) -> bool {
    let (mut groups, mut in_class, mut escaped) = (0usize, false, false);
    for c in regex.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' if in_class => return true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => groups += 1,
            ')' if !in_class => groups = groups.saturating_sub(1),
            '|' if groups == 0 && !in_class => return true,
            _ => {}
        }
    }
    // Flags change how the rest is read, and a class may start with the bracket that seems to end it.
    regex.replace("(?:", "").contains("(?") || regex.contains("[]") || regex.contains("[^]")
}

/// `GET|POST`, `/a|/b`: no character of it means anything else in a regex.
fn is_list_of_words(regex: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    regex.split('|').all(|word| !word.is_empty() && word.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        match text.strip_prefix('~') {
            Some(regex) => Pattern::of_match(&StringMatch::Regex(regex.into()), false).remove(0),
            None => Pattern::path(text),
        }
    }

    #[test]
    fn covers_and_overlaps_say_what_is_known() {
        // a, b, a covers b, a overlaps b
        let rows = [
            ("/a", "/a", true, true),
            ("/a", "/b", false, false),
            ("/*", "~/x.*", true, true),
            ("/a*", "/a", true, true),
            ("/a*", "/ab", true, true),
            ("/a/*", "/a", false, false),
            ("/a/*", "/a/b*", true, true),
            ("/a/b*", "/a/*", false, true),
            ("/a/*", "/b/*", false, false),
            ("/a/{**}", "/a/b*", true, true),
            ("/a/{**}", "/a/{*}/b", true, true),
            ("/a/{*}", "/a/b", true, true),
            ("/a/{*}", "/a/b/c", false, false),
            ("/a/{*}/b", "/a/{*}/b", true, true),
            ("/a/{*}/b", "/a/{*}/c", false, false),
            ("/a/{*}/b", "/c/{*}/b", false, false),
            ("*.js", "/a/x.js", true, true),
            ("*.js", "*x.js", true, true),
            ("*.js", "/a/*", false, true),
            ("*.js", "*.css", false, false),
            ("~/a[0-9]+", "/a1", true, true),
            ("~/a[0-9]+", "/ab", false, false),
            ("~/a[0-9]+", "/a*", false, true),
            ("/a*", "~/a[0-9]+", true, true),
            ("/a/*", "~/a/[0-9]+/b", true, true),
            ("/b/*", "~/a/[0-9]+/b", false, false),
            ("/ab*", "~/ab?.*", false, true),
            ("/a*", "~/a.|/b", false, true),
            ("/a*", "~(/a)", false, true),
            ("/a/*", "~/a/(b|c)/d", true, true),
            ("/a/*", "~/a/[(]b|/c", false, true),
            ("/a/*", "~/a/(?x) (# )\n|/c", false, true),
            ("~/a[0-9]+", "~/a[0-9]+", true, true),
            ("~(", "/a", false, true),
            ("/a{", "/a", false, true),
        ];
        for (a, b, covers, overlaps) in rows {
            let (left, right) = (pattern(a), pattern(b));
            assert_eq!((left.covers(&right), left.overlaps(&right)), (covers, overlaps), "{a} {b}");
            assert_eq!(right.overlaps(&left), overlaps, "{b} {a}");
        }
    }

    #[test]
    fn a_set_without_regard_to_case_is_the_larger_one() {
        let exact = Pattern::exact("/Admin");
        let folded = Pattern::exact("/admin").folded();
        assert!(folded.covers(&exact) && !exact.covers(&folded));
        assert!(exact.overlaps(&folded) && folded.overlaps(&Pattern::text("/AD*")));
    }

    #[test]
    fn a_list_of_words_is_several_sets() {
        let words = Pattern::of_match(&StringMatch::Regex("GET|POST".into()), false);
        assert_eq!(words.iter().map(Pattern::shown).collect::<Vec<_>>(), ["GET", "POST"]);
        assert_eq!(Pattern::of_match(&StringMatch::Regex("GET|P.ST".into()), false).len(), 1);
    }

    fn some_pattern() -> impl Strategy<Value = Pattern> {
        let text = "[ab/]{0,4}";
        let template =
            prop::collection::vec(prop::sample::select(vec!["a", "b", "{*}", "{**}", ""]), 1..4usize)
                .prop_map(|parts| Pattern::path(&format!("/{}", parts.join("/"))));
        let of = prop_oneof![
            text.prop_map(|t| Pattern::text(&format!("/{t}"))),
            text.prop_map(|t| Pattern::path(&format!("/{t}*"))),
            text.prop_map(|t| Pattern::path(&format!("*{t}"))),
            r"/?[\[\]ab|.*()?]{0,5}".prop_map(|t| Pattern::of_match(&StringMatch::Regex(t), false).remove(0)),
            template,
            Just(Pattern::any()),
        ];
        (of, any::<bool>()).prop_map(|(pattern, fold)| match &pattern.form {
            Form::Exact(_) | Form::Prefix(_) | Form::Suffix(_) if fold => pattern.folded(),
            _ => pattern,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4096, ..ProptestConfig::default() })]

        #[test]
        fn what_is_covered_or_apart_really_is(a in some_pattern(), b in some_pattern(), text in "/[abAB/]{0,5}") {
            if b.matches(&text) {
                prop_assert!(!a.covers(&b) || a.matches(&text), "{a:?} covers {b:?}: {text}");
            }
            if a.matches(&text) && b.matches(&text) {
                prop_assert!(a.overlaps(&b), "{a:?} overlaps {b:?}: {text}");
            }
        }
    }
}
