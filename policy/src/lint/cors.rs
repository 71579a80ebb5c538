//! CORS policies that let in more pages than anybody meant.

use std::collections::BTreeSet;

use super::Desk;
use super::scopes::first_write;
use super::world::World;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::virtual_service::StringMatch;
use crate::kind::virtual_service::cors::CorsPolicy;
use crate::kind::virtual_service::text::TextMatcher;

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    for service in &world.services {
        for (i, route) in service.spec.http.iter().enumerate() {
            let Some(policy) = &route.cors else { continue };
            let path = format!("spec.http[{i}].corsPolicy.allowOrigins");
            for (j, origin) in policy.allow_origins.iter().enumerate() {
                look_at(policy, origin, &format!("{path}[{j}]"), desk.about(service.index));
            }
        }
    }
}

pub(super) fn look_at(policy: &CorsPolicy, origin: &StringMatch, path: &str, problems: &mut Problems) {
    match origin {
        StringMatch::Exact(text) if text == "*" => any_origin(policy, path, problems),
        StringMatch::Exact(text)
            if text.starts_with("http://") && policy.allow_credentials && !is_local(text) =>
        {
            let message = format!("{text:?} is not https: whoever sits on the way can be that page");
            problems.warning(code::CORS_WIDE, path, message);
            problems.help("write https:// and the port, if there is one");
        }
        StringMatch::Regex(regex) => {
            let Some(matcher) = TextMatcher::new(origin, false, path, &mut Problems::default()) else {
                return;
            };
            let Some(stranger) = strangers(regex).into_iter().find(|o| matcher.matches(o.as_bytes())) else {
                return;
            };
            let message = format!("{regex:?} also takes {stranger:?}");
            match policy.allow_credentials {
                true => problems.error(code::CORS_WIDE, path, message),
                false => problems.warning(code::CORS_WIDE, path, message),
            }
            problems.help(r"write \. for each dot of the host, and a dot or :// before its name");
        }
        _ => {}
    }
}

/// What is for everybody is nothing to hide; what writes or takes a token is.
fn any_origin(policy: &CorsPolicy, path: &str, problems: &mut Problems) {
    let token = policy.allow_headers.iter().any(|h| h.eq_ignore_ascii_case("authorization") || h == "*");
    let write = match policy.allow_methods.is_empty() {
        true => None,
        false => first_write(&policy.allow_methods, &[]),
    };
    let what = match (token, write) {
        (true, _) => "send a token along".to_owned(),
        (false, Some(method)) => format!("send {method}"),
        (false, None) => return,
    };
    problems.warning(code::CORS_WIDE, path, format!("a page of every origin may {what}"));
    problems.help("name the origins of your own pages");
}

/// Origins of strangers that a careless regex takes: another name that ends in ours, and our name with another letter
/// for a dot.
fn strangers(regex: &str) -> BTreeSet<String> {
    let host = regex.rsplit_once("://").map_or(regex, |(_, host)| host);
    let host = host.trim_start_matches('^').trim_end_matches('$');
    // Letters, digits, `-`, and dots whether escaped or not; any other sign ends the part.
    let plain: String = host.replace(r"\.", "\u{1}");
    let mut parts = plain.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '\u{1}')));
    // The name stands last; a part that is quantified (`\d+`) or in a class is no name.
    let Some(name) = parts.rfind(|part| part.contains(['.', '\u{1}'])) else {
        return BTreeSet::new();
    };
    let written: String = name.replace('\u{1}', ".");
    let bare = written.trim_start_matches('.');
    let dotless = |at: usize| {
        let (before, after) = name.split_at(at);
        let after = after.strip_prefix('.')?;
        let (before, after) = (before.replace('\u{1}', "."), after.replace('\u{1}', "."));
        (!before.is_empty() || !after.is_empty()).then(|| format!("{before}x{after}"))
    };
    let swapped = name.match_indices('.').filter_map(|(at, _)| dotless(at));
    let hosts = [format!("evil{bare}"), format!("evil-{bare}")].into_iter().chain(swapped);
    let hosts: Vec<String> = hosts.collect();
    let subdomains = hosts.iter().flat_map(|host| [host.clone(), format!("a{host}"), format!("a.{host}")]);
    subdomains.flat_map(|host| [format!("https://{host}"), format!("http://{host}")]).collect()
}

fn is_local(origin: &str) -> bool {
    let host = origin.trim_start_matches("http://");
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|local| host == *local || host.starts_with(&format!("{local}:")))
}
