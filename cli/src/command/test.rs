use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use palisade_identity::TrustDomain;
use palisade_policy::policy_test::{Run, TestError, run};

use crate::exit::{Failure, Outcome};
use crate::files;
use crate::output::{Format, junit, print, print_findings_of, print_json, test};
use crate::policies;

/// Run the PolicyTests that stand beside policies: requests, and what is expected of them.
///
/// Needs no control plane: the policies are asked as a sidecar asks them. Exit code 0: all as expected; 1: a request is
/// judged otherwise, or the coverage is too low; 2: documents or options are wrong, or there is no test.
#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Files, directories (every .yaml and .yml in them) or `-` for stdin: all policies of the mesh, and the tests.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write the results to this file for CI, in JUnit's XML.
    #[arg(long, env = "PALISADE_JUNIT", value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Fail when tests exercise less than this share of all rules of AuthorizationPolicies, 0 to 100.
    #[arg(long, env = "PALISADE_MIN_COVERAGE", value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
    /// The mesh's own, for tests that do not say it [default: the one that principals in the documents name].
    #[arg(long, env = "PALISADE_TRUST_DOMAIN", value_name = "DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// text: what failed, and a count; json: every case, every failure with its explanation, the coverage.
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
}

impl Test {
    pub(crate) fn run(self) -> Outcome {
        let files = files::read(&self.paths).map_err(Failure::input)?;
        let (set, tests) = policies::accepted_with_tests(&files)?;
        if tests.is_empty() {
            let message =
                "there is no PolicyTest in these files; write one beside the policies (kind: PolicyTest)";
            return Err(Failure::input(anyhow!(message)));
        }
        let ran =
            run(&set, &tests, self.trust_domain.as_ref(), policies::now()).map_err(|error| match &error {
                TestError::Compile { findings, .. } => print_findings_of(findings, &files),
                TestError::Name { .. } | TestError::Host { .. } | TestError::TooMany => Failure::input(error),
            })?;
        if let Some(file) = &self.junit {
            let written = std::fs::write(file, junit::render(&ran));
            written.with_context(|| format!("cannot write {}", file.display()))?;
        }
        match self.output {
            Format::Json => print_json(&ran)?,
            Format::Text => print(&test::render(&ran, self.is_covered(&ran), self.min_coverage))?,
        }
        match ran.failed_cases() == 0 && self.is_covered(&ran) {
            true => Ok(()),
            false => Err(Failure::reported()),
        }
    }

    fn is_covered(&self, ran: &Run) -> bool {
        self.min_coverage.is_none_or(|least| ran.coverage.percent() >= usize::from(least))
    }
}
