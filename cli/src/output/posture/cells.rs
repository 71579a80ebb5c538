//! What stands in one row.

use palisade_policy::posture::{Authentication, EdgeAccess, Guard, Limit, Mtls, RoutePosture, Upstream};

use crate::output::printable;

/// Lines of each cell. What is wrong begins with `!`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cells {
    /// `HOLE` or `ok`.
    pub(super) status: &'static str,
    pub(super) route: Vec<String>,
    pub(super) needs: Vec<String>,
    pub(super) checks: Vec<String>,
    pub(super) behind: Vec<String>,
}

impl Cells {
    pub(super) fn of(route: &RoutePosture) -> Self {
        let safe =
            |lines: Vec<String>| lines.iter().map(|line| printable(line).replace('\n', "\\n")).collect();
        Self {
            status: if route.is_open() { "HOLE" } else { "ok" },
            route: safe(head(route)),
            needs: safe(needs(route)),
            checks: safe(checks(route)),
            behind: safe(behind(route)),
        }
    }
}

fn head(route: &RoutePosture) -> Vec<String> {
    let methods = match route.methods.as_slice() {
        [any] if any == "*" => "any method".to_owned(),
        methods => methods.join("|"),
    };
    let mut out = vec![format!("{methods} {}", route.paths.join(" "))];
    out.extend(route.conditions.iter().map(|condition| format!("with {condition}")));
    out.push(route.hosts.join(" "));
    out.push(route.servers.join(", "));
    mark(route, &["plaintext too"], &mut out);
    out.push(route.route.clone());
    out
}

fn needs(route: &RoutePosture) -> Vec<String> {
    let word = match route.authentication {
        Authentication::Required => "token required",
        Authentication::Mixed => "token, but for what is public",
        Authentication::Public => "nothing: public",
        Authentication::Optional => "! NONE: token optional",
        Authentication::None => "! NONE",
        Authentication::NotNeeded => "nothing: no service behind",
        Authentication::Refused => "nobody is let in",
    };
    let mut out = vec![word.to_owned()];
    for rule in &route.rules {
        let name = rule.rule.rsplit('/').next().unwrap_or_default();
        let mut line = match (rule.token, rule.scopes.is_empty()) {
            (false, _) => format!("{name}: public"),
            (true, true) => format!("{name}: token"),
            (true, false) => format!("{name}: scope {}", rule.scopes.join(" ")),
        };
        if !rule.audiences.is_empty() {
            line.push_str(&format!(" audience {}", rule.audiences.join("|")));
        }
        out.push(line);
    }
    // A principal is an issuer and a subject; of an issuer that is named below, it says nothing new.
    let known = |claim: &&String| {
        let of =
            |issuer: &palisade_policy::posture::Issuer| **claim == format!("principal: {}/*", issuer.issuer);
        !route.issuers.iter().any(of)
    };
    out.extend(route.claims.iter().filter(known).cloned());
    let quiet = [Authentication::Public, Authentication::NotNeeded, Authentication::Refused];
    for issuer in route.issuers.iter().filter(|_| !quiet.contains(&route.authentication)) {
        out.push(format!("of {}", issuer.issuer));
        out.push(match issuer.audiences.is_empty() {
            true => "for any audience".to_owned(),
            false => format!("for {}", issuer.audiences.join("|")),
        });
    }
    mark(route, &["read scope writes"], &mut out);
    out
}

fn checks(route: &RoutePosture) -> Vec<String> {
    let mut out: Vec<String> = route.limits.iter().map(limit).collect();
    if out.is_empty() {
        out.push("no limit".to_owned());
    }
    mark(route, &["login unlimited"], &mut out);
    match route.guards.is_empty() {
        true => out.push("no guard".to_owned()),
        false => out.extend(route.guards.iter().map(guard)),
    }
    out.push(match &route.cors {
        None => "no CORS".to_owned(),
        Some(cors) => {
            let credentials = if cors.credentials { " with credentials" } else { "" };
            format!("CORS {}{credentials}", cors.origins.join(" "))
        }
    });
    mark(route, &["CORS wide"], &mut out);
    out
}

fn limit(limit: &Limit) -> String {
    let window = match limit.window_seconds {
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    };
    let key = match limit.key.is_empty() {
        true => "for all together".to_owned(),
        false => format!("by {}", limit.key.join(" + ")),
    };
    let partly = if limit.partly { ", not for all" } else { "" };
    let shadow = if limit.enforced { "" } else { ", refuses nothing" };
    let mesh = if limit.mesh { " in the whole mesh" } else { "" };
    format!("{}/{window} {key}{mesh}{partly}{shadow}", limit.requests)
}

fn guard(guard: &Guard) -> String {
    let mut parts = Vec::new();
    if !guard.methods.is_empty() {
        parts.push(guard.methods.join("|"));
    }
    if !guard.content_types.is_empty() {
        parts.push(guard.content_types.join("|"));
    }
    parts.extend(guard.body_bytes_max.map(|bytes| format!("body of {bytes} B")));
    parts.extend(guard.others.iter().map(|word| (*word).to_owned()));
    let name = guard.rule.rsplit('/').next().unwrap_or_default();
    let partly = if guard.partly { ", not for all" } else { "" };
    format!("guard {name}: {}{partly}", parts.join(", "))
}

fn behind(route: &RoutePosture) -> Vec<String> {
    let mut out: Vec<String> = route.answer.iter().cloned().collect();
    for upstream in &route.upstreams {
        out.extend(one_behind(upstream));
    }
    out
}

fn one_behind(upstream: &Upstream) -> Vec<String> {
    let port = upstream.port.map(|port| format!(":{port}")).unwrap_or_default();
    let weight = upstream.weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
    let mut out = vec![format!("{}{port}{weight}", upstream.host)];
    if !upstream.in_mesh {
        out.push("outside the mesh".to_owned());
        return out;
    }
    match upstream.mtls {
        Some(Mtls::Permissive) => out.push("! mTLS not strict".to_owned()),
        Some(Mtls::Strict) | None => out.push("mTLS strict".to_owned()),
    }
    if upstream.anyone {
        out.push("! lets in ANYONE".to_owned());
    } else if upstream.callers.is_empty() {
        out.push("lets nobody in".to_owned());
    }
    out.extend(upstream.callers.iter().map(|caller| format!("lets in {}", short(caller))));
    out.push(match upstream.edge {
        EdgeAccess::Yes => "edge let in".to_owned(),
        EdgeAccess::No => "edge NOT let in".to_owned(),
        EdgeAccess::Unknown => "edge: not known who it is".to_owned(),
    });
    out
}

/// `namespace/account` of a principal without a pattern.
fn short(principal: &str) -> String {
    let parts: Vec<&str> = principal.split('/').collect();
    match parts.as_slice() {
        [_domain, "ns", namespace, "sa", account] if !namespace.contains('*') && !account.contains('*') => {
            format!("{namespace}/{account}")
        }
        _ => principal.to_owned(),
    }
}

fn mark(route: &RoutePosture, words: &[&str], out: &mut Vec<String>) {
    let here = route.open().filter(|hole| words.contains(&hole.word));
    out.extend(here.map(|hole| format!("! {}", hole.word)));
}
