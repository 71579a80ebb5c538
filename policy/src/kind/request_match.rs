//! The `match` block of JwtPolicy, RateLimitPolicy, RequestGuard, RetryPolicy and FaultExperiment: which requests a rule is about.

use super::authorization_policy::clause::Reading;
use super::authorization_policy::host::HostMatch;
use super::authorization_policy::path::PathMatch;
use super::authorization_policy::text::{Case, TextMatch};
use crate::document::reader::{At, Fields, Reader};
use crate::finding::code;
use crate::finding::problem::Problems;

/// One item as written. All fields that are given must fit; the values of one field are alternatives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchItem {
    pub hosts: Vec<String>,
    pub methods: Vec<String>,
    pub paths: Vec<String>,
    /// `namespace/virtualservice/route-name`, or `route-name` for a route of that name anywhere.
    pub routes: Vec<String>,
}

/// What a match leads to. One server answers to several spellings of a host; the reading is taken that opens less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The rule asks for something (a token, a limit, a guard): every spelling of a host matches.
    Restricts,
    /// The rule lets something off: only the spelling that is written matches.
    Opens,
}

/// What a match may look at. Built after normalization: what is judged is what is forwarded.
#[derive(Clone, Copy, Debug)]
pub struct MatchView<'a> {
    /// `:authority` or `Host`.
    pub host: &'a str,
    pub method: &'a str,
    /// Without query.
    pub path: &'a str,
    /// The id of the route, `namespace/virtualservice/name-or-index`; `None` before a route is chosen.
    pub route: Option<&'a str>,
}

/// A compiled `match`. Without items it matches every request.
#[derive(Clone, Debug, Default)]
pub struct RequestMatch {
    items: Box<[Item]>,
}

#[derive(Clone, Debug)]
struct Item {
    hosts: Box<[HostMatch]>,
    methods: Box<[TextMatch]>,
    paths: Box<[PathMatch]>,
    routes: Box<[Box<str>]>,
}

/// `match: [...]`. The form only; the meaning is `RequestMatch::new`'s.
pub(crate) fn read(reader: &mut Reader<'_>, at: Option<At<'_>>) -> Vec<MatchItem> {
    let Some(at) = at else { return Vec::new() };
    let mut items = Vec::new();
    for item in reader.items(&at) {
        let Some(mut fields) = reader.mapping(&item) else { continue };
        items.push(read_item(reader, &mut fields));
        reader.finish(fields, &[]);
    }
    items
}

/// The fields of an item; it may have more.
pub(super) fn read_item(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> MatchItem {
    let mut texts = |name| reader.texts(fields.take(name));
    MatchItem {
        hosts: texts("hosts"),
        methods: texts("methods"),
        paths: texts("paths"),
        routes: texts("routes"),
    }
}

impl RequestMatch {
    /// Compiles a `match`; what does not fit is reported under `path`.
    pub(crate) fn new(items: &[MatchItem], effect: Effect, path: &str, problems: &mut Problems) -> Self {
        let item = |(i, item)| Item::new(item, effect, &format!("{path}[{i}]"), problems);
        Self { items: items.iter().enumerate().map(item).collect() }
    }

    /// The same of one item alone, which stands at `path`.
    pub(crate) fn of_one(item: &MatchItem, effect: Effect, path: &str, problems: &mut Problems) -> Self {
        Self { items: [Item::new(item, effect, path, problems)].into() }
    }

    pub fn matches(&self, view: &MatchView<'_>) -> bool {
        self.items.is_empty() || self.items.iter().any(|item| item.matches(view))
    }

    /// Whether it matches some path on some route, for this host and method.
    pub fn may_match(&self, host: &str, method: &str) -> bool {
        self.items.is_empty() || self.items.iter().any(|item| item.may_match(host, method))
    }

    /// Whether it can be judged only after a route was chosen.
    pub fn needs_route(&self) -> bool {
        self.items.iter().any(|item| !item.routes.is_empty())
    }
}

impl Item {
    fn new(item: &MatchItem, effect: Effect, path: &str, problems: &mut Problems) -> Self {
        let MatchItem { hosts, methods, paths, routes } = item;
        if [hosts, methods, paths, routes].iter().all(|list| list.is_empty()) {
            problems.error(code::EMPTY_PART, path, "this item says nothing, so it matches every request");
            problems.help("leave match out to mean every request");
        }
        for (field, values) in [("hosts", hosts), ("methods", methods), ("paths", paths), ("routes", routes)]
        {
            for (i, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
                problems.error(code::EMPTY_VALUE, format!("{path}.{field}[{i}]"), "the text is empty");
            }
        }
        let reading = match effect {
            Effect::Restricts => Reading::Refusing,
            Effect::Opens => Reading::Permitting,
        };
        Self {
            hosts: hosts.iter().map(|host| HostMatch::new(host, reading)).collect(),
            methods: read_methods(methods, path, problems),
            paths: read_paths(paths, path, problems),
            routes: read_routes(routes, path, problems),
        }
    }

    fn matches(&self, view: &MatchView<'_>) -> bool {
        self.may_match(view.host, view.method)
            && (self.paths.is_empty() || self.paths.iter().any(|p| p.matches(view.path)))
            && (self.routes.is_empty() || view.route.is_some_and(|id| self.has_route(id)))
    }

    fn may_match(&self, host: &str, method: &str) -> bool {
        let method = |m: &TextMatch| m.matches(method.as_bytes(), Case::Exact);
        (self.methods.is_empty() || self.methods.iter().any(method))
            && (self.hosts.is_empty() || self.hosts.iter().any(|h| h.matches(host)))
    }

    fn has_route(&self, id: &str) -> bool {
        let name = id.rsplit('/').next().unwrap_or(id);
        self.routes.iter().any(|route| &**route == id || &**route == name)
    }
}

fn read_methods(methods: &[String], path: &str, problems: &mut Problems) -> Box<[TextMatch]> {
    for (i, method) in methods.iter().enumerate() {
        if method.bytes().any(|b| b.is_ascii_lowercase()) {
            let message = format!("methods are compared with case, so {method:?} never matches");
            problems.error(code::NEVER_MATCHES, format!("{path}.methods[{i}]"), message);
            problems.help(format!("write {:?}", method.to_ascii_uppercase()));
        }
    }
    methods.iter().map(|method| TextMatch::new(method)).collect()
}

fn read_paths(paths: &[String], path: &str, problems: &mut Problems) -> Box<[PathMatch]> {
    let mut matchers = Vec::with_capacity(paths.len());
    for (i, value) in paths.iter().enumerate() {
        match PathMatch::widest(value) {
            Ok(matcher) => matchers.push(matcher),
            Err(error) => {
                let message = format!("{value:?} is refused: {error}");
                problems.error(code::BAD_PATH_TEMPLATE, format!("{path}.paths[{i}]"), message);
                problems.help("for example /accounts/{*}/balance or /static/{**}");
            }
        }
        if !value.starts_with(['/', '*']) && !value.is_empty() {
            let message = format!("paths start with a slash, so {value:?} never matches");
            problems.error(code::NEVER_MATCHES, format!("{path}.paths[{i}]"), message);
            problems.help(format!("write {:?}", format!("/{value}")));
        }
    }
    matchers.into()
}

fn read_routes(routes: &[String], path: &str, problems: &mut Problems) -> Box<[Box<str>]> {
    for (i, route) in routes.iter().enumerate() {
        let parts = route.split('/').count();
        if !(parts == 1 || parts == 3) || route.split('/').any(str::is_empty) || route.contains('*') {
            let message = format!("{route:?} names no route");
            problems.error(code::BAD_ROUTE_NAME, format!("{path}.routes[{i}]"), message);
            problems.help("write the route's name, or namespace/virtualservice/route-name; no patterns");
        }
    }
    routes.iter().map(|route| route.as_str().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(|v| (*v).to_owned()).collect()
    }

    fn item(hosts: &[&str], methods: &[&str], paths: &[&str], routes: &[&str]) -> MatchItem {
        let (hosts, methods) = (texts(hosts), texts(methods));
        MatchItem { hosts, methods, paths: texts(paths), routes: texts(routes) }
    }

    #[track_caller]
    fn compiled(items: &[MatchItem], effect: Effect) -> RequestMatch {
        let mut problems = Problems::default();
        let compiled = RequestMatch::new(items, effect, "spec.match", &mut problems);
        assert!(!problems.has_errors(), "{problems:?}");
        compiled
    }

    fn fits(matcher: &RequestMatch, host: &str, method: &str, path: &str, route: Option<&str>) -> bool {
        matcher.matches(&MatchView { host, method, path, route })
    }

    #[test]
    fn no_items_match_every_request() {
        assert!(fits(&compiled(&[], Effect::Restricts), "", "GET", "/", None));
    }

    #[test]
    fn fields_of_an_item_must_all_fit_and_one_item_is_enough() {
        let items = [
            item(&["api.example"], &["POST"], &["/transfers", "/pay/*"], &[]),
            item(&[], &["GET"], &["/a/{*}/b"], &[]),
        ];
        let matcher = compiled(&items, Effect::Restricts);
        let rows = [
            ("api.example", "POST", "/transfers", true),
            ("api.example", "POST", "/pay/x", true),
            ("API.example.:443", "POST", "/transfers", true),
            ("api.example", "GET", "/transfers", false),
            ("api.example", "POST", "/transfers/", false),
            ("other.example", "POST", "/transfers", false),
            ("other.example", "GET", "/a/x/b", true),
            ("other.example", "GET", "/a/x/y/b", false),
        ];
        for (host, method, path, expected) in rows {
            assert_eq!(fits(&matcher, host, method, path, None), expected, "{host} {method} {path}");
        }
    }

    #[test]
    fn what_lets_something_off_takes_a_host_as_it_is_written() {
        let items = [item(&["api.example"], &[], &[], &[])];
        assert!(fits(&compiled(&items, Effect::Opens), "api.example", "GET", "/", None));
        assert!(!fits(&compiled(&items, Effect::Opens), "api.example.", "GET", "/", None));
        assert!(fits(&compiled(&items, Effect::Restricts), "api.example.", "GET", "/", None));
    }

    #[test]
    fn routes_go_by_id_or_by_name_and_only_once_one_is_chosen() {
        let matcher = compiled(&[item(&[], &[], &[], &["login", "bank/api/pay"])], Effect::Restricts);
        assert!(matcher.needs_route());
        let rows = [
            (Some("bank/api/login"), true),
            (Some("shop/web/login"), true),
            (Some("bank/api/pay"), true),
            (Some("shop/api/pay"), false),
            (None, false),
        ];
        for (route, expected) in rows {
            assert_eq!(fits(&matcher, "h", "GET", "/", route), expected, "{route:?}");
        }
    }

    #[test]
    fn refuses_what_could_never_match() {
        let rows = [
            item(&[], &[], &[], &[]),
            item(&[""], &[], &[], &[]),
            item(&[], &["post"], &[], &[]),
            item(&[], &[], &["/a/{x}"], &[]),
            item(&[], &[], &["transfers"], &[]),
            item(&[], &[], &[], &["a/b"]),
            item(&[], &[], &[], &["a/*/c"]),
        ];
        for row in rows {
            let mut problems = Problems::default();
            RequestMatch::new(std::slice::from_ref(&row), Effect::Restricts, "m", &mut problems);
            assert!(problems.has_errors(), "{row:?}");
        }
    }
}
