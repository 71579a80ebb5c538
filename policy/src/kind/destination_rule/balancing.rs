//! `loadBalancer`: which endpoint a request goes to.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;

use super::range::{DURATION, Within, read_count, read_duration};
use crate::document::reader::{At, Reader};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::traffic::{self, Balance, HashKey};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancer {
    pub simple: Option<Simple>,
    pub consistent_hash: Option<ConsistentHash>,
    pub warmup: Option<Warmup>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simple {
    LeastRequest,
    RoundRobin,
    Random,
}

/// Exactly one of the fields is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsistentHash {
    pub header: Option<String>,
    pub cookie: Option<Cookie>,
    /// Never `Some(false)`.
    pub source_ip: Option<bool>,
    pub query_parameter: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    pub name: String,
    pub path: Option<String>,
    pub ttl: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warmup {
    pub duration: Duration,
    pub minimum_percent: Option<u32>,
}

const UNSUPPORTED: &[(&str, &str)] = &[
    ("localityLbSetting", "endpoints are not chosen by locality; leave it out"),
    ("warmupDurationSecs", "Istio has given it up: write warmup: {duration: 60s}"),
];

const HASH_UNSUPPORTED: &[(&str, &str)] = &[
    ("ringHash", "rendezvous hashing is used, which needs no ring; leave it out"),
    ("maglev", "rendezvous hashing is used, which needs no table; leave it out"),
    ("minimumRingSize", "rendezvous hashing is used, which needs no ring; leave it out"),
];

const COOKIE_UNSUPPORTED: &[(&str, &str)] =
    &[("attributes", "the cookie's other attributes are the proxy's own; leave it out")];

const WARMUP_UNSUPPORTED: &[(&str, &str)] =
    &[("aggression", "the share of a new endpoint grows evenly with time; leave it out")];

/// Istio's default share of a new endpoint at the beginning, in percent.
const MINIMUM_PERCENT: u8 = 10;
/// Browsers keep no cookie longer than 400 days (RFC 6265bis, section 5.5).
const COOKIE_LIFE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(400 * 24 * 3600);

const ONE_KEY: &str =
    "write one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName below consistentHash";

pub(super) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<LoadBalancer> {
    let mut fields = reader.mapping(at)?;
    let balancer = LoadBalancer {
        simple: fields.take("simple").and_then(|at| read_simple(reader, &at)),
        consistent_hash: fields.take("consistentHash").and_then(|at| read_hash(reader, &at)),
        warmup: fields.take("warmup").and_then(|at| read_warmup(reader, &at)),
    };
    reader.finish(fields, UNSUPPORTED);
    Some(balancer)
}

fn read_simple(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Simple> {
    const WORDS: &[(&str, Simple)] = &[
        ("LEAST_REQUEST", Simple::LeastRequest),
        ("ROUND_ROBIN", Simple::RoundRobin),
        ("RANDOM", Simple::Random),
        // Istio's older word, which it still takes.
        ("LEAST_CONN", Simple::LeastRequest),
    ];
    if reader.text(at)? == "PASSTHROUGH" {
        let help = "a proxy calls endpoints that it was told of only; list them in a ServiceEntry".to_owned();
        let message = "PASSTHROUGH is not taken by this version";
        reader.error(code::UNSUPPORTED_FIELD, at.mark(), &at.path, message, Some(help));
        return None;
    }
    reader.choice(at, WORDS)
}

fn read_hash(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ConsistentHash> {
    let mut fields = reader.mapping(at)?;
    let hash = ConsistentHash {
        header: fields.take("httpHeaderName").and_then(|at| reader.text(&at)),
        cookie: fields.take("httpCookie").and_then(|at| read_cookie(reader, &at)),
        source_ip: fields.take("useSourceIp").and_then(|at| reader.boolean(&at)),
        query_parameter: fields.take("httpQueryParameterName").and_then(|at| reader.text(&at)),
    };
    reader.finish(fields, HASH_UNSUPPORTED);
    Some(hash)
}

fn read_cookie(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Cookie> {
    let mut fields = reader.mapping(at)?;
    let name = match fields.take("name") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "name", "name the cookie");
            None
        }
    };
    let path = fields.take("path").and_then(|at| reader.text(&at));
    let ttl = read_duration(reader, &mut fields, "ttl");
    reader.finish(fields, COOKIE_UNSUPPORTED);
    Some(Cookie { name: name?, path, ttl })
}

fn read_warmup(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Warmup> {
    let mut fields = reader.mapping(at)?;
    let duration = match fields.take("duration") {
        Some(at) => reader.duration(&at),
        None => {
            reader.missing(&fields, "duration", "for example duration: 60s");
            None
        }
    };
    let minimum_percent = read_count(reader, &mut fields, "minimumPercent");
    reader.finish(fields, WARMUP_UNSUPPORTED);
    Some(Warmup { duration: duration?, minimum_percent })
}

pub(super) fn check(balancer: &LoadBalancer, path: &str, problems: &mut Problems) {
    if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
        problems.error(code::LOAD_BALANCER, path, "simple and consistentHash are two ways to choose");
        problems.help("keep one of the two");
    }
    if let Some(hash) = &balancer.consistent_hash {
        check_hash(hash, &format!("{path}.consistentHash"), problems);
        if balancer.warmup.is_some() {
            let message = "with consistentHash an endpoint has its keys at once, so none can be warmed up";
            problems.error(code::LOAD_BALANCER, format!("{path}.warmup"), message);
            problems.help("leave warmup out, or balance by LEAST_REQUEST or ROUND_ROBIN");
        }
    }
    if let Some(Warmup { duration, minimum_percent }) = balancer.warmup {
        let mut within = Within { path: format!("{path}.warmup"), problems };
        within.duration("duration", Some(duration), DURATION, "leave warmup out for none");
        within.count("minimumPercent", minimum_percent, 1..=100, "");
    }
}

fn check_hash(hash: &ConsistentHash, path: &str, problems: &mut Problems) {
    let keys = [
        hash.header.is_some(),
        hash.cookie.is_some(),
        hash.source_ip.is_some(),
        hash.query_parameter.is_some(),
    ];
    if keys.into_iter().filter(|there| *there).count() != 1 {
        problems.error(code::LOAD_BALANCER, path, "what is hashed is one thing");
        problems.help(ONE_KEY);
    }
    if hash.source_ip == Some(false) {
        problems.error(code::LOAD_BALANCER, format!("{path}.useSourceIp"), "false hashes nothing");
        problems.help(ONE_KEY);
    }
    if let Some(name) = hash.header.as_ref().filter(|name| HeaderName::try_from(name.as_str()).is_err()) {
        let path = format!("{path}.httpHeaderName");
        problems.error(code::LOAD_BALANCER, path, format!("{name:?} is no header name"));
    }
    if hash.query_parameter.as_ref().is_some_and(String::is_empty) {
        problems.error(code::LOAD_BALANCER, format!("{path}.httpQueryParameterName"), "the name is empty");
    }
    let Some(cookie) = &hash.cookie else { return };
    let path = format!("{path}.httpCookie");
    // A cookie's name is a token, as a header's is (RFC 6265 section 4.1.1).
    if HeaderName::try_from(cookie.name.as_str()).is_err() {
        let message = format!("{:?} is no name of a cookie", cookie.name);
        problems.error(code::LOAD_BALANCER, format!("{path}.name"), message);
    }
    let fits = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b';';
    if let Some(text) = cookie.path.as_ref().filter(|text| !text.starts_with('/') || !text.bytes().all(fits))
    {
        let message = format!("{text:?} is no path of a cookie");
        problems.error(code::LOAD_BALANCER, format!("{path}.path"), message);
        problems.help("start with a slash; no semicolon, and ASCII only");
    }
    let mut within = Within { path, problems };
    within.duration("ttl", cookie.ttl, COOKIE_LIFE, "");
    if cookie.ttl.is_some_and(|ttl| ttl.subsec_nanos() != 0) {
        within.refuse("ttl", "browsers count whole seconds".into(), "");
    }
}

impl LoadBalancer {
    pub(super) fn balance(&self) -> Balance {
        if let Some(key) = self.consistent_hash.as_ref().and_then(ConsistentHash::key) {
            return Balance::ConsistentHash(key);
        }
        match self.simple {
            None | Some(Simple::LeastRequest) => Balance::LeastRequest,
            Some(Simple::RoundRobin) => Balance::RoundRobin,
            Some(Simple::Random) => Balance::Random,
        }
    }

    pub(super) fn warmup(&self) -> Option<traffic::Warmup> {
        let Warmup { duration, minimum_percent } = self.warmup?;
        let minimum_percent = minimum_percent.and_then(|percent| u8::try_from(percent).ok());
        Some(traffic::Warmup { duration, minimum_percent: minimum_percent.unwrap_or(MINIMUM_PERCENT) })
    }
}

impl ConsistentHash {
    fn key(&self) -> Option<HashKey> {
        if let Some(name) = &self.header {
            return HeaderName::try_from(name.as_str()).ok().map(HashKey::Header);
        }
        if let Some(Cookie { name, path, ttl }) = &self.cookie {
            return Some(HashKey::Cookie { name: name.clone(), path: path.clone(), ttl: *ttl });
        }
        if let Some(name) = &self.query_parameter {
            return Some(HashKey::QueryParameter(name.clone()));
        }
        self.source_ip.filter(|by| *by).map(|_| HashKey::SourceIp)
    }
}
