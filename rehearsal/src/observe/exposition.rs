//! Prometheus's text format, as far as proxies write it: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

/// One line: a name, its labels, a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series<'t> {
    pub(super) name: &'t str,
    labels: &'t str,
    pub(super) value: f64,
}

/// Every series of a page. Lines that are none are passed over.
pub(super) fn series(page: &str) -> impl Iterator<Item = Series<'_>> {
    page.lines().filter_map(line)
}

fn line(line: &str) -> Option<Series<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let (head, value) = line.trim_end().rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, labels.trim_end().strip_suffix('}')?),
        None => (head.trim_end(), ""),
    };
    Some(Series { name, labels, value })
}

impl<'t> Series<'t> {
    /// The value of a label as it stands there. Proxies write none that needs an escape.
    pub(super) fn label(&self, name: &str) -> Option<&'t str> {
        let mut rest = self.labels;
        loop {
            let (key, tail) = rest.split_once("=\"")?;
            let (value, tail) = tail.split_once('"')?;
            if key.trim_start_matches(',') == name {
                return Some(value);
            }
            rest = tail;
        }
    }

    /// A count. Proxies count in whole numbers; what is none is passed over.
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a whole number below 2^53"
    )]
    pub(super) fn count(&self) -> Option<u64> {
        let whole = self.value.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&self.value);
        whole.then_some(self.value as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_names_labels_and_values() {
        let page = "# HELP a_total A {b=\"c\"} 1\n# TYPE a_total counter\n\
                    a_total 3\na_total{x=\"1\",y=\"a,b=c\"} 4\nb_bucket{le=\"+Inf\"} 5\nbroken{x=\"1\" 6\nno value\n\n";
        let read: Vec<_> = series(page).map(|s| (s.name, s.labels, s.count())).collect();
        let expected = [
            ("a_total", "", Some(3)),
            ("a_total", "x=\"1\",y=\"a,b=c\"", Some(4)),
            ("b_bucket", "le=\"+Inf\"", Some(5)),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn labels_are_found_by_their_whole_name() {
        let found = series("a{my_name=\"1\",name=\"2\",empty=\"\"} 0").next().unwrap();
        assert_eq!(found.label("name"), Some("2"));
        assert_eq!(found.label("my_name"), Some("1"));
        assert_eq!(found.label("empty"), Some(""));
        assert_eq!(found.label("nam"), None);
    }

    #[test]
    fn counts_are_whole_numbers() {
        for (text, expected) in
            [("1", Some(1)), ("0", Some(0)), ("1.5", None), ("-1", None), ("NaN", None), ("1e300", None)]
        {
            assert_eq!(series(&format!("a {text}")).next().unwrap().count(), expected, "{text}");
        }
    }
}
