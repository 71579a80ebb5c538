//! Options for traces, and the variables that OpenTelemetry gives every exporter.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use http::{HeaderName, HeaderValue};
use palisade_proxy::settings::trace::{
    Collector, OtlpEndpoint, OtlpEndpointError, OtlpProtocol, SampleRatio, TraceSettings,
};
use percent_encoding::percent_decode_str;

use crate::exit::Failure;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Traces")]
pub(super) struct Traces {
    /// The collector that traces are exported to over OTLP, for example http://127.0.0.1:4318; without a path,
    /// /v1/traces is meant [default: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT, else none:
    /// no traces].
    #[arg(long, env = "PALISADE_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    otlp_endpoint: Option<String>,
    /// http/protobuf or grpc [default: OTEL_EXPORTER_OTLP_PROTOCOL, else http/protobuf].
    #[arg(long, env = "PALISADE_OTLP_PROTOCOL", value_name = "PROTOCOL")]
    otlp_protocol: Option<OtlpProtocol>,
    /// Roots that an https:// collector is checked against, PEM [default: OTEL_EXPORTER_OTLP_CERTIFICATE, else the
    /// system's].
    #[arg(long, env = "PALISADE_OTLP_CA", value_name = "FILE")]
    otlp_ca: Option<PathBuf>,
    /// How many of the requests that come without a trace are traced: 0 to 1, or per cent [default: 1%]. Others go by
    /// what their caller decided.
    #[arg(long, env = "PALISADE_TRACE_SAMPLE", value_name = "RATIO")]
    trace_sample: Option<SampleRatio>,
    /// What this service is called in traces [default: OTEL_SERVICE_NAME, else SERVICE-ACCOUNT.NAMESPACE].
    #[arg(long, env = "PALISADE_TRACE_SERVICE_NAME", value_name = "NAME")]
    trace_service_name: Option<String>,
}

/// What variables say. Empty ones are not set.
type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The variable of this process.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// How the collector's URL was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Option,
    /// Taken as it is.
    ForTraces,
    /// For all signals: each has a path below it.
    Base,
}

impl Given {
    fn name(self) -> &'static str {
        match self {
            Self::Option => "--otlp-endpoint",
            Self::ForTraces => "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            Self::Base => "OTEL_EXPORTER_OTLP_ENDPOINT",
        }
    }

    fn place(self, endpoint: OtlpEndpoint, protocol: OtlpProtocol) -> anyhow::Result<OtlpEndpoint> {
        Ok(match (protocol, self) {
            (OtlpProtocol::Grpc, _) if !endpoint.path.is_empty() => {
                bail!("{} {endpoint}: gRPC has no path there; write no more than host and port", self.name());
            }
            (OtlpProtocol::Grpc, _) | (_, Self::ForTraces) => endpoint,
            (OtlpProtocol::HttpProtobuf, Self::Option) => endpoint.or_below_base(),
            (OtlpProtocol::HttpProtobuf, Self::Base) => endpoint.below_base(),
        })
    }
}

impl Traces {
    /// `None`: no traces.
    pub(super) fn settings(self, env: Env<'_>) -> Result<Option<TraceSettings>, Failure> {
        self.read(env).map_err(Failure::input)
    }

    fn read(self, env: Env<'_>) -> anyhow::Result<Option<TraceSettings>> {
        let Some((given, endpoint)) = self.endpoint(env)? else {
            return self.nothing_else_given().map(|()| None);
        };
        if env("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let protocol = match (self.otlp_protocol, either(env, "PROTOCOL")) {
            (Some(protocol), _) => protocol,
            (None, Some((name, text))) => text.parse().with_context(|| name)?,
            (None, None) => OtlpProtocol::default(),
        };
        let headers = either(env, "HEADERS").map(|(name, text)| headers(&name, &text)).transpose()?;
        let attributes = env("OTEL_RESOURCE_ATTRIBUTES")
            .map(|text| pairs("OTEL_RESOURCE_ATTRIBUTES", &text))
            .transpose()?;
        let ca = self.otlp_ca.or_else(|| either(env, "CERTIFICATE").map(|(_, path)| path.into()));
        let endpoint = given.place(endpoint, protocol)?;
        Ok(Some(TraceSettings {
            collector: Collector { protocol, endpoint, headers: headers.unwrap_or_default(), ca },
            sample: self.trace_sample.unwrap_or(SampleRatio::DEFAULT),
            service_name: self
                .trace_service_name
                .filter(|name| !name.is_empty())
                .or_else(|| env("OTEL_SERVICE_NAME")),
            attributes: attributes.unwrap_or_default(),
        }))
    }

    fn endpoint(&self, env: Env<'_>) -> anyhow::Result<Option<(Given, OtlpEndpoint)>> {
        // Parsed here and not by clap, which repeats what it refuses: it may hold a password.
        let option = self.otlp_endpoint.clone().map(|text| (Given::Option, text));
        let variables = [Given::ForTraces, Given::Base];
        let variable = || variables.into_iter().find_map(|given| Some((given, env(given.name())?)));
        let Some((given, text)) = option.or_else(variable) else { return Ok(None) };
        let endpoint: Result<OtlpEndpoint, OtlpEndpointError> = text.parse();
        Ok(Some((given, endpoint.context(given.name())?)))
    }

    /// Somebody who asks for samples believes that there are traces.
    fn nothing_else_given(&self) -> anyhow::Result<()> {
        let options = [
            ("--trace-sample", self.trace_sample.is_some()),
            ("--otlp-protocol", self.otlp_protocol.is_some()),
            ("--otlp-ca", self.otlp_ca.is_some()),
            ("--trace-service-name", self.trace_service_name.is_some()),
        ];
        match options.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(anyhow!(
                "{option} does nothing without a collector; give --otlp-endpoint, or leave it out"
            )),
            None => Ok(()),
        }
    }
}

/// The variable for traces, or the one for all signals, and its name.
fn either(env: Env<'_>, what: &str) -> Option<(String, String)> {
    let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
    names.into_iter().find_map(|name| env(&name).map(|value| (name, value)))
}

fn headers(variable: &str, text: &str) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let read = |(name, value): (String, String)| {
        // HTTP/2 wants lower case, and no value is repeated: they are secrets.
        let name = HeaderName::try_from(name.to_ascii_lowercase())
            .map_err(|_invalid| anyhow!("{variable}: {name:?} is no name of a header"))?;
        let mut value = HeaderValue::try_from(value)
            .map_err(|_invalid| anyhow!("{variable}: the value of {name} is none of a header"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    pairs(variable, text)?.into_iter().map(read).collect()
}

/// `KEY=VALUE,KEY=VALUE`, values percent-encoded, as OpenTelemetry writes lists into variables.
fn pairs(variable: &str, text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let read = |member: &str| {
        let (key, value) = member.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((key.trim().to_owned(), value.into_owned())).filter(|(key, _)| !key.is_empty())
    };
    let refused =
        || anyhow!("{variable} is no list of KEY=VALUE, separated by commas, values percent-encoded");
    members.map(|member| read(member).ok_or_else(refused)).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        traces: Traces,
    }

    fn read(words: &str, variables: &[(&str, &str)]) -> anyhow::Result<Option<TraceSettings>> {
        let line = Line::try_parse_from(format!("proxy {words}").split(' ').filter(|w| !w.is_empty()))?;
        let env = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        line.traces.read(&env)
    }

    fn endpoint(words: &str, variables: &[(&str, &str)]) -> String {
        read(words, variables).unwrap().unwrap().collector.endpoint.to_string()
    }

    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const FOR_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

    #[test]
    fn without_a_collector_there_are_no_traces() {
        assert_eq!(read("", &[]).unwrap(), None);
        assert_eq!(
            read("", &[("OTEL_EXPORTER_OTLP_HEADERS", "a=b"), ("OTEL_TRACES_SAMPLER", "x")]).unwrap(),
            None
        );
        assert_eq!(read("", &[(BASE, "http://a:1"), ("OTEL_SDK_DISABLED", "true")]).unwrap(), None);
    }

    #[test]
    fn the_option_goes_before_the_variable_for_traces_and_that_before_the_one_for_all() {
        let all = [(BASE, "http://all:1/otlp"), (FOR_TRACES, "http://traces:2/in")];
        assert_eq!(endpoint("--otlp-endpoint http://option:3", &all), "http://option:3/v1/traces");
        assert_eq!(endpoint("--otlp-endpoint http://option:3/here", &all), "http://option:3/here");
        assert_eq!(endpoint("", &all), "http://traces:2/in");
        assert_eq!(endpoint("", &all[..1]), "http://all:1/otlp/v1/traces");
        assert_eq!(endpoint("", &[(FOR_TRACES, "http://traces:2")]), "http://traces:2");
        let grpc = [(BASE, "http://all:4317/"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
        assert_eq!(endpoint("", &grpc), "http://all:4317");
        assert_eq!(endpoint("--otlp-protocol http/protobuf", &grpc), "http://all:4317/v1/traces");
    }

    #[test]
    fn headers_and_attributes_are_lists_with_percent_signs() {
        let settings = read(
            "--otlp-endpoint https://c --trace-sample 50%",
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b%3D, x=1 ,"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
                ("OTEL_SERVICE_NAME", "front"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.version=1.2,deployment.environment.name=prod%2C1"),
            ],
        );
        let settings = settings.unwrap().unwrap();
        let headers: Vec<_> =
            settings.collector.headers.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("api-key", "a b="), ("x", "1")]);
        assert_eq!(settings.attributes[1], ("deployment.environment.name".into(), "prod,1".into()));
        assert_eq!(settings.collector.ca, Some("ca.pem".into()));
        assert_eq!(settings.service_name.as_deref(), Some("front"));
        assert_eq!(settings.sample, "0.5".parse().unwrap());
    }

    #[test]
    fn what_means_nothing_is_refused_by_name_and_secrets_are_not_repeated() {
        let to = "--otlp-endpoint http://c:1";
        type Row<'r> = (&'r str, &'r [(&'r str, &'r str)], &'r str);
        let rows: &[Row<'_>] = &[
            ("--trace-sample 1", &[], "--trace-sample does nothing"),
            ("--otlp-protocol grpc", &[], "--otlp-protocol does nothing"),
            ("--otlp-ca x", &[], "--otlp-ca does nothing"),
            ("--otlp-endpoint c:4318", &[], "it begins with http://"),
            ("--otlp-endpoint http://me:hush@c", &[], "OTEL_EXPORTER_OTLP_HEADERS"),
            (&format!("{to} --trace-sample 2"), &[], "is no part of all requests"),
            (&format!("{to} --otlp-protocol http/json"), &[], "write http/protobuf or grpc"),
            (&format!("{to}/x --otlp-protocol grpc"), &[], "gRPC has no path"),
            ("", &[(BASE, "collector:4318")], BASE),
            ("", &[(FOR_TRACES, "http://me:hush@c")], FOR_TRACES),
            (to, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")], "OTEL_EXPORTER_OTLP_PROTOCOL"),
            (to, &[("OTEL_EXPORTER_OTLP_HEADERS", "hush")], "OTEL_EXPORTER_OTLP_HEADERS is no list"),
            (to, &[("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a b=hush")], "is no name of a header"),
            (to, &[("OTEL_EXPORTER_OTLP_HEADERS", "a=hush%0Ahush")], "the value of a is none"),
            (to, &[("OTEL_RESOURCE_ATTRIBUTES", "=x")], "OTEL_RESOURCE_ATTRIBUTES"),
        ];
        for (words, variables, part) in rows {
            let error = format!("{:#}", read(words, variables).unwrap_err());
            assert!(error.contains(part) && !error.contains("hush"), "{words} {variables:?}: {error}");
        }
    }
}
