use std::time::{Duration, SystemTime};

use palisade_identity::Namespace;
use palisade_policy::kind::{Kind, Spec};
use palisade_proto::v1::GetRequest;
use serde_json::json;

use crate::exit::Outcome;
use crate::output::data::Format;
use crate::output::fault::{Experiment, rows};
use crate::output::{note, print};
use crate::{admin, plan};

/// List the experiments: whose calls, to whom, what happens to them, and until when.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// [default: all].
    #[arg(short, long, env = "PALISADE_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    admin: admin::Options,
}

impl List {
    pub(super) fn run(self) -> Outcome {
        let request = GetRequest {
            kind: Kind::FaultExperiment.name().to_owned(),
            namespace: self.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..GetRequest::default()
        };
        self.admin.with_client(Duration::ZERO, async |mut client| {
            let stored = client.get(request).await.map_err(admin::refused)?.into_inner();
            let objects = plan::documents(&stored);
            let experiments: Vec<Experiment> = objects
                .into_iter()
                .filter_map(|object| match object.spec {
                    Spec::FaultExperiment(spec) => {
                        let id = format!("{}/{}", object.meta.namespace, object.meta.name);
                        Some(Experiment { id, spec })
                    }
                    _ => None,
                })
                .collect();
            if experiments.len() < stored.objects.len() {
                note("warning: some cannot be read by this version of palisade; `palisade fault stop --all` stops them too")?;
            }
            let now = SystemTime::now();
            let data = || {
                let all: Vec<_> = experiments.iter().map(|experiment| experiment.to_json(now)).collect();
                json!({ "version": stored.version, "experiments": all })
            };
            print(&self.output.render(|| rows(&experiments, now), data)?)?;
            Ok(())
        })
    }
}
