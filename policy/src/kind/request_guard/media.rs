//! Content types (RFC 9110 section 8.3).

/// What a rule takes: `type/subtype` or `type/*`. Parameters are not asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange {
    main: Box<str>,
    /// `None`: any.
    sub: Option<Box<str>>,
}

impl MediaRange {
    /// `None` for what is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (main, sub) = text.split_once('/')?;
        let token = |text: &str| !text.is_empty() && text.bytes().all(is_token) && !text.contains('*');
        let sub = (sub != "*").then(|| Box::from(sub));
        (token(main) && sub.as_deref().is_none_or(token)).then(|| Self { main: main.into(), sub })
    }

    pub(crate) fn main(&self) -> &str {
        &self.main
    }

    pub(crate) fn takes(&self, media: MediaType<'_>) -> bool {
        self.main.eq_ignore_ascii_case(media.main)
            && self.sub.as_ref().is_none_or(|sub| sub.eq_ignore_ascii_case(media.sub))
    }
}

/// The type that a `Content-Type` names, without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType<'v> {
    pub main: &'v str,
    pub sub: &'v str,
}

impl<'v> MediaType<'v> {
    /// `None` where the value is not exactly of the form of RFC 9110: what one server takes for one type, another takes for
    /// another (`application/json, text/plain`).
    pub fn parse(value: &'v [u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (essence, parameters) = match text.split_once(';') {
            Some((essence, parameters)) => (essence, Some(parameters)),
            None => (text, None),
        };
        let (main, sub) = essence.trim_matches([' ', '\t']).split_once('/')?;
        let token = |text: &str| !text.is_empty() && text.bytes().all(is_token);
        let whole = parameters.is_none_or(are_parameters);
        (token(main) && token(sub) && whole).then_some(Self { main, sub })
    }
}

/// `name=value`, separated by `;`. Empty ones are taken, as RFC 9110 section 5.6.6 does.
fn are_parameters(mut rest: &str) -> bool {
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return true;
        }
        if !rest.starts_with(';') {
            let name = token_length(rest);
            let Some(value) = rest.get(name..).and_then(|tail| tail.strip_prefix('=')) else { return false };
            let length = if value.starts_with('"') { quoted_length(value) } else { token_length(value) };
            if name == 0 || length == 0 {
                return false;
            }
            rest = value.get(length..).unwrap_or_default().trim_start_matches([' ', '\t']);
        }
        match rest.strip_prefix(';') {
            Some(tail) => rest = tail,
            None => return rest.is_empty(),
        }
    }
}

fn token_length(text: &str) -> usize {
    text.bytes().take_while(|byte| is_token(*byte)).count()
}

/// The length of a quoted string with its quotes; 0 where it does not end or holds what none may.
fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'\t' | b' '..=b'~' if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at.saturating_add(1),
            b'\t' | b' '..=b'~' => {}
            _ => return 0,
        }
    }
    0
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(range: &str, value: &str) -> bool {
        let range = MediaRange::parse(range).unwrap();
        MediaType::parse(value.as_bytes()).is_some_and(|media| range.takes(media))
    }

    #[test]
    fn a_type_is_compared_without_case_and_without_parameters() {
        for value in [
            "application/json",
            "Application/JSON",
            " application/json\t",
            "application/json;charset=utf-8",
            "application/json ; charset=\"utf-8\" ;a=b",
            "application/json;",
            "application/json; ;a=\"x;y\\\",z\"",
        ] {
            assert!(taken("application/json", value), "{value}");
            assert!(taken("application/*", value), "{value}");
            assert!(!taken("application/xml", value) && !taken("text/*", value), "{value}");
        }
    }

    #[test]
    fn what_two_servers_may_read_differently_is_no_type() {
        for value in [
            "",
            "application",
            "application/",
            "/json",
            "application/json, text/plain",
            "application/json text/plain",
            "application/json,",
            "text/plain;a=b, application/json",
            "application/json;a",
            "application/json;=b",
            "application/json;a=",
            "application/json;a=\"b",
            "application/json;a=\"b\"c",
            "application/json/x",
            "application /json",
            "application/ json",
            "application/json\0",
            "application/js\u{f6}n",
            "application/json;a=\"\u{f6}\"",
        ] {
            assert!(MediaType::parse(value.as_bytes()).is_none(), "{value}");
        }
        assert!(MediaType::parse(b"application/json;a=\xff").is_none());
    }

    #[test]
    fn a_range_names_its_type() {
        for text in ["", "json", "*/*", "*/json", "application/*+json", "a/b;c=d", "a/b, c/d", "a/", "/b"] {
            assert!(MediaRange::parse(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_taken_begins_with_its_type(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(MediaType { main, sub }) = MediaType::parse(&bytes) {
                let text = String::from_utf8(bytes.clone()).unwrap();
                let start = format!("{main}/{sub}");
                prop_assert!(text.trim_start_matches([' ', '\t']).starts_with(&start));
            }
        }

        #[test]
        fn parameters_never_change_the_type(
            main in "[a-z]{1,8}", sub in "[a-z.+-]{1,8}",
            parameters in proptest::collection::vec("[a-z]{1,5}=([a-z0-9]{1,5}|\"[ -!#-\\[\\]-~]{0,9}\")", 0..4),
        ) {
            let value = parameters.iter().fold(format!("{main}/{sub}"), |text, one| format!("{text}; {one}"));
            let media = MediaType::parse(value.as_bytes());
            prop_assert_eq!(media, Some(MediaType { main: &main, sub: &sub }), "{}", value);
        }
    }
}
