mod recorded;

use std::net::IpAddr;
use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use palisade_identity::{SpiffeId, TrustDomain};
use palisade_policy::explain::{GivenToken, Mesh, Question, Target, explain};
use palisade_proxy::settings::parse_label;

use crate::exit::{Failure, Outcome};
use crate::files;
use crate::output::explain::render;
use crate::output::{Format, note, print, print_findings_of, print_json};
use crate::{admin, policies};

/// Say whether a request would be let in, by which rule, and what a refused one lacks.
///
/// With --policies it needs no control plane: the policies are asked as a sidecar asks them. With DECISION_ID and --log the
/// request is that of a decision record, and the policies are those that were in force then, from the control plane's
/// history. Exit code 0: allowed; 1: refused, or the record says otherwise; 2: the documents or the question are wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Explain the recorded request with this id, which a refused caller gets as x-palisade-decision-id.
    #[arg(value_name = "DECISION_ID", conflicts_with_all = ["from", "plaintext", "to", "protocol", "method", "path",
          "host", "port", "source_ip", "invalid_token"])]
    decision_id: Option<String>,
    /// Decision records among which DECISION_ID is, `-` for stdin. May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_LOG", value_name = "FILE", value_delimiter = ';')]
    log: Vec<PathBuf>,
    /// Files, directories (every .yaml and .yml in them) or `-` for stdin: all documents of the mesh. May be repeated; `;`
    /// separates several in the variable.
    #[arg(
        long,
        env = "PALISADE_POLICIES",
        required_unless_present = "decision_id",
        value_name = "PATH",
        value_delimiter = ';'
    )]
    policies: Vec<PathBuf>,
    /// The caller: `name`, `namespace/name` or a SPIFFE id.
    #[arg(long, env = "PALISADE_FROM", value_name = "WORKLOAD", required_unless_present_any = ["plaintext", "decision_id"])]
    from: Option<String>,
    /// A caller without a certificate; at an edge, a client from outside.
    #[arg(long, env = "PALISADE_PLAINTEXT", conflicts_with = "from")]
    plaintext: bool,
    /// The service that is called: `name`, `namespace/name` or a SPIFFE id; or a host of a ServiceEntry.
    #[arg(long, env = "PALISADE_TO", value_name = "WORKLOAD", required_unless_present = "decision_id")]
    to: Option<String>,
    /// The namespace of names without one [default: that of the documents, where it is one only].
    #[arg(short, long, env = "PALISADE_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The mesh's own [default: the one that principals in the documents name].
    #[arg(long, env = "PALISADE_TRUST_DOMAIN", value_name = "DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// A label of the service; `app` is its name unless given. May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_LABEL", value_name = "KEY=VALUE", value_parser = parse_label, value_delimiter = ';')]
    label: Vec<(String, String)>,
    #[command(flatten)]
    request: Request,
    /// text, or json: the same as data.
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
    #[command(flatten)]
    admin: admin::Optional,
}

/// What a port carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    /// Requests: HTTP/1.1, HTTP/2 and gRPC.
    #[default]
    Http,
    /// Anything else: only who connects is judged.
    Tcp,
}

/// What is asked for.
#[derive(Debug, clap::Args)]
struct Request {
    /// That of the service's port.
    #[arg(long, env = "PALISADE_PROTOCOL", value_name = "PROTOCOL", default_value = "http")]
    protocol: Protocol,
    /// [default: GET]
    #[arg(long, env = "PALISADE_METHOD", value_name = "METHOD")]
    method: Option<String>,
    /// As the caller sends it, perhaps with a query; it is normalized before it is judged. [default: /]
    #[arg(long, env = "PALISADE_PATH", value_name = "PATH")]
    path: Option<String>,
    /// [default: `name.namespace:port` of the service; at an edge the only host that it has]
    #[arg(long, env = "PALISADE_HOST", value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// The service's port; at an edge that of a Gateway. [default: 8080; at an edge the lowest in TLS, else the lowest]
    #[arg(long, env = "PALISADE_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_HEADER", value_name = "NAME: VALUE", value_parser = parse_header, value_delimiter = ';')]
    header: Vec<(HeaderName, HeaderValue)>,
    /// What the end user's token says: `iss=https://...`, `sub=alice`, `roles=["clerk"]`. A value that is a JSON list, object,
    /// number or truth value is taken as such. May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_CLAIM", value_name = "NAME=VALUE", value_delimiter = ';')]
    claim: Vec<String>,
    /// A token whose signature is not good.
    #[arg(long, env = "PALISADE_INVALID_TOKEN", conflicts_with = "claim")]
    invalid_token: bool,
    /// The caller's address.
    #[arg(long, env = "PALISADE_SOURCE_IP", value_name = "IP")]
    source_ip: Option<IpAddr>,
    /// The client's address behind trusted hops [default: the caller's].
    #[arg(long, env = "PALISADE_REMOTE_IP", value_name = "IP")]
    remote_ip: Option<IpAddr>,
    /// The service's address.
    #[arg(long, env = "PALISADE_DESTINATION_IP", value_name = "IP")]
    destination_ip: Option<IpAddr>,
    /// The name asked for in the TLS handshake.
    #[arg(long, env = "PALISADE_SNI", value_name = "NAME")]
    sni: Option<String>,
    /// Size of the request's body; 0: it has none.
    #[arg(long, env = "PALISADE_BODY_BYTES", value_name = "N", default_value_t = 0)]
    body_bytes: u64,
}

impl Explain {
    pub(crate) fn run(self) -> Outcome {
        match (&self.decision_id, &self.to) {
            (Some(id), _) => self.run_recorded(id),
            (None, Some(to)) => self.run_asked(to),
            (None, None) => {
                Err(Failure::input(anyhow::anyhow!("say which service is called: --to WORKLOAD")))
            }
        }
    }

    fn run_asked(&self, to: &str) -> Outcome {
        if !self.log.is_empty() {
            note("warning: --log is not read without a DECISION_ID")?;
        }
        let files = files::read(&self.policies).map_err(Failure::input)?;
        let set = policies::accepted(&files)?;
        let mesh = Mesh::new(&set, self.trust_domain.clone()).map_err(Failure::input)?;
        let namespace = self.namespace.as_deref().or_else(|| mesh.only_namespace());
        let caller = self.from.as_deref().map(|from| mesh.identity(from, namespace)).transpose();
        let caller = caller.map_err(Failure::input)?;
        let from = caller.clone().map(|id| mesh.workload(id, [].into()));
        let outside = policies::is_entry(&set, to);
        if let (true, Some(from)) = (outside, &from) {
            let way = mesh
                .way_to_host(from, to, self.request.service_port())
                .map_err(|e| print_findings_of(&e, &files))?;
            return self.told_of_host(to, way.is_some());
        }
        let to = mesh.identity(to, namespace).map_err(Failure::input)?;
        let workload = mesh.workload(to, self.label.iter().cloned().collect());
        let target = mesh.target(&workload).map_err(|errors| print_findings_of(&errors, &files))?;
        let port = self.request.port.unwrap_or_else(|| target.usual_port());
        let question = self.request.question(caller, port)?;
        check_edge(&target, &question)?;
        let told = explain(&mesh, &target, from.as_ref(), &question)
            .map_err(|errors| print_findings_of(&errors, &files))?;
        match self.output {
            Format::Json => print_json(&told)?,
            Format::Text => print(&render(&told))?,
        }
        if told.allowed { Ok(()) } else { Err(Failure::reported()) }
    }

    /// Outside the mesh nobody is asked but the caller's own sidecar.
    fn told_of_host(&self, host: &str, known: bool) -> Outcome {
        let port = self.request.service_port();
        let (word, reason, why) = match known {
            true => (
                "ALLOWED",
                "known_destination",
                "a ServiceEntry that this caller is told of has this host and port",
            ),
            false => (
                "REFUSED",
                "unknown_destination",
                "no ServiceEntry that this caller is told of has this host and port",
            ),
        };
        match self.output {
            Format::Text => print(&format!("{word}: {why} ({reason})\n  host  {host}, port {port}"))?,
            Format::Json => {
                let told = serde_json::json!({"allowed": known, "reason": reason, "stage": "destination", "why": why,
                    "host": host, "port": port});
                print_json(&told)?;
            }
        }
        if known { Ok(()) } else { Err(Failure::reported()) }
    }
}

impl Request {
    /// Of what is no edge.
    fn service_port(&self) -> u16 {
        self.port.unwrap_or(8080)
    }

    fn question(&self, caller: Option<SpiffeId>, port: u16) -> Result<Question, Failure> {
        let mut question = Question::new(caller, port);
        question.tcp = self.protocol == Protocol::Tcp;
        if question.tcp {
            self.refuse_http()?;
        }
        question.method = self.method.clone().unwrap_or(question.method);
        question.path = self.path.clone().unwrap_or(question.path);
        question.host.clone_from(&self.host);
        question.headers.extend(self.header.iter().cloned().map(|(name, value)| (Some(name), value)));
        question.source_ip = self.source_ip.unwrap_or(question.source_ip);
        question.remote_ip = self.remote_ip;
        question.destination_ip = self.destination_ip.unwrap_or(question.destination_ip);
        question.sni.clone_from(&self.sni);
        question.body_bytes = self.body_bytes;
        question.now = policies::now();
        question.token = match (self.invalid_token, self.claim.is_empty()) {
            (true, _) => GivenToken::Invalid,
            (false, true) => GivenToken::None,
            (false, false) => GivenToken::Claims(policies::claims(&self.claim).map_err(Failure::input)?),
        };
        Ok(question)
    }

    /// What is never read on a port of TCP must not look as if it had been asked about.
    fn refuse_http(&self) -> Result<(), Failure> {
        let said = [
            ("--method", self.method.is_some()),
            ("--path", self.path.is_some()),
            ("--host", self.host.is_some()),
            ("--header", !self.header.is_empty()),
            ("--claim", !self.claim.is_empty()),
            ("--invalid-token", self.invalid_token),
            ("--body-bytes", self.body_bytes > 0),
        ];
        match said.into_iter().find(|(_, said)| *said) {
            Some((name, _)) => Err(Failure::input(anyhow::anyhow!(
                "{name} says nothing with --protocol tcp, since nothing is read there: leave it out"
            ))),
            None => Ok(()),
        }
    }
}

/// What cannot be asked of an edge, or not without a choice.
fn check_edge(target: &Target, question: &Question) -> Result<(), Failure> {
    let edge = target.id().principal();
    let hosts = target.unchosen_hosts(question);
    let why = if question.tcp && target.is_edge() {
        format!("{edge} is an edge, and an edge serves HTTP and HTTPS alone: leave --protocol tcp out")
    } else if !hosts.is_empty() {
        format!("{edge} has several hosts: say which one with --host, of {}", hosts.join(", "))
    } else {
        return Ok(());
    };
    Err(Failure::input(anyhow::anyhow!(why)))
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written \"name: value\"")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_no| format!("{name:?} is no header name"))?;
    let value =
        HeaderValue::from_str(value.trim()).map_err(|_no| format!("{value:?} cannot be a header's value"))?;
    Ok((name, value))
}
