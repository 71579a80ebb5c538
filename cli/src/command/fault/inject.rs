use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use palisade_identity::{Namespace, SpiffeId};
use palisade_policy::document::{SourceFile, parse};
use palisade_policy::explain::Mesh;
use palisade_policy::kind::{Kind, Object, Spec};
use palisade_policy::{PolicySet, document::duration};
use palisade_proto::v1::{self, ApplyRequest, ApplyResponse, GetResponse, Proxy};
use palisade_proxy::settings::parse_duration;
use serde_json::json;

use super::document::{Wanted, write};
use super::options::{Faults, Requests};
use super::who::{Names, name_for, namespace_of};
use crate::command::change::Terms;
use crate::describe::reached;
use crate::exit::{Failure, Outcome};
use crate::output::fault::{self as shown, Experiment};
use crate::output::{Format, Shown, print, print_findings, print_json, push};
use crate::{admin, plan, policies};

/// Do something to calls on purpose, for a while.
///
/// Makes a FaultExperiment that begins now and ends by itself, and says what it does, to whom, until when, and how to stop it. The
/// proxies of the callers carry it out. Exit code 2 when it is refused: the mesh protects somebody, or it would last too long; 1
/// when a connected proxy does not take it in time.
#[derive(Debug, clap::Args)]
pub(super) struct Inject {
    /// Whose calls: `name` or `namespace/name` of a workload that has joined, a SPIFFE id, or a pattern of ids as principals are
    /// written. May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_FROM", value_name = "WORKLOAD", required = true, value_delimiter = ';')]
    from: Vec<String>,
    /// To whom: `name` or `namespace/name` of a workload that has joined, a SPIFFE id, or a host. May be repeated; `;` separates
    /// several in the variable.
    #[arg(long, env = "PALISADE_TO", value_name = "WORKLOAD", required = true, value_delimiter = ';')]
    to: Vec<String>,
    /// How long, from now on: 1s to 24h, and no longer than the mesh allows.
    #[arg(long = "for", env = "PALISADE_FOR", value_name = "TIME", value_parser = parse_duration)]
    lasts: Duration,
    #[command(flatten)]
    faults: Faults,
    #[command(flatten)]
    requests: Requests,
    /// Of the experiment [default: of caller and service].
    #[arg(long, env = "PALISADE_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Where the experiment lives; palisade-system: it may be for callers of any namespace [default: that of the callers].
    #[arg(short, long, env = "PALISADE_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    /// Check everything, print the document, and change nothing.
    #[arg(long, env = "PALISADE_DRY_RUN")]
    dry_run: bool,
    #[command(flatten)]
    terms: Terms,
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
    #[command(flatten)]
    admin: admin::Options,
}

impl Inject {
    pub(super) fn run(self) -> Outcome {
        self.admin.with_client(self.terms.wait, async |mut client| {
            let stored = client.get(v1::GetRequest::default()).await.map_err(admin::refused)?.into_inner();
            let proxies = client.list_proxies(v1::ListProxiesRequest {}).await.map_err(admin::refused)?;
            let made = self.made(&stored, &proxies.into_inner().proxies)?;
            let request = self.request(&made, stored.version);
            let dry = ApplyRequest { dry_run: true, ..request.clone() };
            let mut response = client.apply(dry).await.map_err(admin::refused)?.into_inner();
            let mut refused = self.before(&made, &response)?;
            if !refused && !self.dry_run {
                response = client.apply(request).await.map_err(admin::refused)?.into_inner();
                // Only what has joined in between can have changed what it means.
                refused = response.findings.iter().map(Shown::from).any(|finding| finding.is_error());
            }
            self.after(&made, &response, refused)?;
            match refused {
                true => Err(Failure::input_reported()),
                false if push::all_acked(&response.pushes) => Ok(()),
                false => Err(Failure::reported()),
            }
        })
    }

    /// Says what would be done, and what the control plane has to say of it. Whether that is a refusal.
    fn before(&self, made: &Made, would: &ApplyResponse) -> std::io::Result<bool> {
        let findings: Vec<Shown> = would.findings.iter().map(Shown::from).collect();
        let refused = findings.iter().any(Shown::is_error);
        if self.output == Format::Text {
            // Of the others somebody has been told when they were applied.
            let own: Vec<Shown> = findings.into_iter().filter(|f| refused || made.is_about(f)).collect();
            print_findings(&own, std::slice::from_ref(&made.file))?;
            match (refused, self.dry_run) {
                (true, _) => {}
                (false, true) => print(made.file.text.trim_end())?,
                (false, false) => print(&made.shown())?,
            }
        }
        Ok(refused)
    }

    fn after(&self, made: &Made, response: &ApplyResponse, refused: bool) -> std::io::Result<()> {
        match self.output {
            Format::Json => print_json(&self.data(made, response)),
            Format::Text if refused || self.dry_run => Ok(()),
            Format::Text if self.terms.wait.is_zero() => print(&format!("version {}", response.version)),
            Format::Text => {
                print(&format!("version {}\n{}", response.version, push::describe(&response.pushes)))
            }
        }
    }

    fn made(&self, stored: &GetResponse, proxies: &[Proxy]) -> Result<Made, Failure> {
        let (set, _files) = policies::stored(stored)?;
        let joined = proxies.iter().filter_map(|proxy| SpiffeId::parse(&proxy.spiffe_id).ok()).collect();
        let (callers, hosts) = self.named(&set, joined).map_err(Failure::input)?;
        let namespace = match &self.namespace {
            Some(namespace) => namespace.as_str().to_owned(),
            None => namespace_of(&callers).map_err(Failure::input)?,
        };
        let is_taken = |name: &str| set.get(Kind::FaultExperiment, &namespace, name).is_some();
        let name = match &self.name {
            Some(name) if is_taken(name) => {
                return Err(Failure::input(anyhow!(
                    "FaultExperiment {namespace}/{name} is there already; take another --name, or stop it first: \
                     palisade fault stop {namespace}/{name}"
                )));
            }
            Some(name) => name.clone(),
            None => name_for(&callers, &hosts, is_taken),
        };
        let text = write(&Wanted {
            name: &name,
            namespace: &namespace,
            callers: &callers,
            hosts: &hosts,
            requests: &self.requests,
            starts_at: whole_second(SystemTime::now()),
            duration: self.lasts,
            fault: &self.faults.spec(),
        });
        Made::read(text, stored, proxies)
    }

    fn named(
        &self,
        set: &PolicySet,
        joined: std::collections::BTreeSet<SpiffeId>,
    ) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        let domain = joined.iter().next().map(|id| id.trust_domain().clone());
        let names = Names { mesh: &Mesh::new(set, domain)?, joined };
        let callers = self.from.iter().map(|text| names.caller(text)).collect::<anyhow::Result<_>>()?;
        let hosts = self.to.iter().map(|text| names.host(text)).collect::<anyhow::Result<_>>()?;
        Ok((callers, hosts))
    }

    fn request(&self, made: &Made, base_version: u64) -> ApplyRequest {
        ApplyRequest {
            files: vec![v1::SourceFile { name: made.file.name.clone(), text: made.file.text.clone() }],
            wait_ms: self.terms.wait_ms(),
            message: self.terms.message.clone(),
            base_version: Some(base_version),
            ..ApplyRequest::default()
        }
    }

    fn data(&self, made: &Made, response: &ApplyResponse) -> serde_json::Value {
        json!({
            "dry_run": self.dry_run,
            "experiment": made.experiment.to_json(SystemTime::now()),
            "document": made.file.text,
            "reaches": made.reaches.iter().map(|(id, instances)| json!({ "spiffe_id": id.as_str(), "instances": instances }))
                .collect::<Vec<_>>(),
            "stop": made.stop(),
            "version": response.version,
            "findings": response.findings.iter().map(Shown::from).collect::<Vec<_>>(),
            "pushes": response.pushes.iter().map(push::to_json).collect::<Vec<_>>(),
        })
    }
}

/// An experiment in the making.
struct Made {
    file: SourceFile,
    experiment: Experiment,
    /// The workloads that have joined and would carry it out, with their instances.
    reaches: Vec<(SpiffeId, usize)>,
}

impl Made {
    /// The text is read as a person's would be: what is wrong with it is said before anybody is asked.
    fn read(text: String, stored: &GetResponse, proxies: &[Proxy]) -> Result<Self, Failure> {
        let file = SourceFile { name: "<the experiment>".to_owned(), text };
        let (objects, findings) = parse(std::slice::from_ref(&file));
        let found = objects.into_iter().next().filter(|_| !findings.has_errors());
        let Some((object, spec)) = found.and_then(|object| match object.spec.clone() {
            Spec::FaultExperiment(spec) => Some((object, spec)),
            _ => None,
        }) else {
            let findings: Vec<Shown> = findings.0.iter().map(Shown::from).collect();
            print_findings(&findings, std::slice::from_ref(&file))?;
            return Err(Failure::input_reported());
        };
        let experiment = Experiment { id: id(&object), spec };
        let next = plan::with(stored, vec![object.clone()], false);
        // Where it is refused nobody is reached, and the control plane says why.
        let reaches = PolicySet::new(next, &[]).map(|(set, _)| reached(&set, &object, proxies));
        Ok(Self { file, experiment, reaches: reaches.unwrap_or_default() })
    }

    fn is_about(&self, finding: &Shown) -> bool {
        finding.object == format!("{} {}", Kind::FaultExperiment.name(), self.experiment.id)
    }

    fn stop(&self) -> String {
        format!("palisade fault stop {}", self.experiment.id)
    }

    fn shown(&self) -> String {
        let lasts = duration::write(self.experiment.spec.duration);
        shown::injected(&self.experiment, &lasts, &self.reaches, &self.stop())
    }
}

fn id(object: &Object) -> String {
    format!("{}/{}", object.meta.namespace, object.meta.name)
}

/// The second that has begun: nobody starts an experiment by the millisecond.
fn whole_second(now: SystemTime) -> SystemTime {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
