use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use palisade_certs::{Svid, TrustBundle, bundle};

use crate::exit::{Failure, Outcome};
use crate::output::{print, table};

/// The mesh's certificate authority, as an operator's directory knows it.
#[derive(Debug, clap::Args)]
pub(crate) struct Ca {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Show(Show),
}

/// Show trust domain and root certificates. The SHA-256 of a root is the last part of every join token.
#[derive(Debug, clap::Args)]
struct Show {
    /// Directory with operator.crt, operator.key and roots.pem.
    #[arg(long, env = "PALISADE_OPERATOR_DIR", value_name = "DIR")]
    operator_dir: PathBuf,
    /// pem: the root certificates, for --roots of a proxy in file mode.
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Pem,
}

impl Ca {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::Show(command) => command.run(),
        }
    }
}

impl Show {
    fn run(self) -> Outcome {
        let roots = read(&self.operator_dir).map_err(Failure::input)?;
        let text = match self.output {
            Format::Pem => roots.to_pem().trim_end().to_owned(),
            Format::Table => {
                let domain = roots.trust_domain.to_string();
                table(["TRUST DOMAIN", "ROOT SHA-256"], roots.roots.iter().map(|r| [domain.clone(), hash(r)]))
            }
        };
        print(&text)?;
        Ok(())
    }
}

fn hash(root: &rustls::pki_types::CertificateDer<'_>) -> String {
    bundle::sha256(root).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(directory: &Path) -> Result<TrustBundle> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let svid = Svid::from_pem(&read("operator.crt")?, &read("operator.key")?)
        .with_context(|| format!("{}: not an operator's credential", directory.display()))?;
    TrustBundle::from_pem(svid.id.trust_domain().clone(), &read("roots.pem")?)
        .with_context(|| format!("{}: cannot be used", directory.join("roots.pem").display()))
}
