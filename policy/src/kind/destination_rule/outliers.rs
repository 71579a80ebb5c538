//! `outlierDetection`: when an endpoint is left out for a while.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::range::{DURATION, Within, read_count, read_duration};
use crate::document::reader::{At, Reader};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::Meta;
use crate::traffic::{OutlierDetection, SuccessRate};

/// `off`: endpoints are not left out for succeeding less often than others do. Istio has no field for it.
pub const SUCCESS_RATE_ANNOTATION: &str = "palisade.mesh/success-rate-ejection";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outliers {
    pub split_local: Option<bool>,
    pub consecutive_local: Option<u32>,
    pub consecutive_gateway: Option<u32>,
    pub consecutive_5xx: Option<u32>,
    pub interval: Option<Duration>,
    pub base_ejection: Option<Duration>,
    pub max_ejection_percent: Option<u32>,
    pub min_health_percent: Option<u32>,
}

const UNSUPPORTED: &[(&str, &str)] = &[(
    "consecutiveErrors",
    "Istio has given it up: write consecutive5xxErrors, or consecutiveGatewayErrors for 502, 503 and 504 only",
)];

/// Zero turns a count off, as in Istio.
const ERRORS: RangeInclusive<u32> = 0..=2_147_483_647;

pub(super) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Outliers> {
    let mut fields = reader.mapping(at)?;
    let split = fields.take("splitExternalLocalOriginErrors");
    let outliers = Outliers {
        split_local: split.and_then(|at| reader.boolean(&at)),
        consecutive_local: read_count(reader, &mut fields, "consecutiveLocalOriginFailures"),
        consecutive_gateway: read_count(reader, &mut fields, "consecutiveGatewayErrors"),
        consecutive_5xx: read_count(reader, &mut fields, "consecutive5xxErrors"),
        interval: read_duration(reader, &mut fields, "interval"),
        base_ejection: read_duration(reader, &mut fields, "baseEjectionTime"),
        max_ejection_percent: read_count(reader, &mut fields, "maxEjectionPercent"),
        min_health_percent: read_count(reader, &mut fields, "minHealthPercent"),
    };
    reader.finish(fields, UNSUPPORTED);
    Some(outliers)
}

pub(super) fn check(outliers: &Outliers, path: &str, problems: &mut Problems) {
    let mut within = Within { path: path.to_owned(), problems };
    within.count("consecutiveLocalOriginFailures", outliers.consecutive_local, ERRORS, "");
    if outliers.consecutive_local.is_some_and(|count| count > 0) && outliers.split_local != Some(true) {
        let path = format!("{path}.consecutiveLocalOriginFailures");
        within.problems.error(code::LOCAL_FAILURES, path, "failures to connect are not counted apart here");
        within.problems.help("write splitExternalLocalOriginErrors: true, or leave it out");
    }
    within.count("consecutiveGatewayErrors", outliers.consecutive_gateway, ERRORS, "");
    within.count("consecutive5xxErrors", outliers.consecutive_5xx, ERRORS, "");
    within.duration("interval", outliers.interval, DURATION, "");
    within.duration("baseEjectionTime", outliers.base_ejection, DURATION, "");
    let ejected = "Istio reads 0 as 10; to leave no endpoint out, leave out outlierDetection";
    within.count("maxEjectionPercent", outliers.max_ejection_percent, 1..=100, ejected);
    within.count("minHealthPercent", outliers.min_health_percent, 0..=100, "");
}

/// Whether success rates count for a rule. `Err`: what is wrong with its annotation.
pub(super) fn by_success_rate(meta: &Meta) -> Result<bool, String> {
    match meta.annotations.get(SUCCESS_RATE_ANNOTATION).map(String::as_str) {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => Err(format!("{other:?} is neither \"on\", the default, nor \"off\"")),
    }
}

impl Outliers {
    pub(super) fn detection(&self, by_success_rate: bool) -> OutlierDetection {
        let defaults = OutlierDetection::default();
        let base_ejection = self.base_ejection.unwrap_or(defaults.base_ejection);
        let percent =
            |value: Option<u32>, default| value.and_then(|v| u8::try_from(v).ok()).unwrap_or(default);
        OutlierDetection {
            consecutive_5xx: self.consecutive_5xx.unwrap_or(defaults.consecutive_5xx),
            consecutive_gateway: self.consecutive_gateway.unwrap_or(defaults.consecutive_gateway),
            split_local: self.split_local.unwrap_or(defaults.split_local),
            consecutive_local: self.consecutive_local.unwrap_or(defaults.consecutive_local),
            interval: self.interval.unwrap_or(defaults.interval),
            base_ejection,
            max_ejection: defaults.max_ejection.max(base_ejection),
            max_ejection_percent: percent(self.max_ejection_percent, defaults.max_ejection_percent),
            min_health_percent: percent(self.min_health_percent, defaults.min_health_percent),
            success_rate: by_success_rate.then(SuccessRate::default),
        }
    }
}
