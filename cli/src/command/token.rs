use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use palisade_identity::{Namespace, ServiceAccount};
use palisade_proto::v1::{CreateJoinTokenRequest, JoinToken, ListJoinTokensRequest, RevokeJoinTokenRequest};
use palisade_proxy::settings::{parse_duration, parse_label};
use serde_json::json;

use crate::admin;
use crate::exit::{Failure, Outcome};
use crate::files;
use crate::output::{or_dash, print, table};

/// Join tokens: what a workload proves itself with at its first start.
#[derive(Debug, clap::Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Make a join token and print it. It is shown this once: the control plane keeps a hash only.
#[derive(Debug, clap::Args)]
struct Create {
    #[arg(short, long, env = "PALISADE_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Namespace,
    #[arg(long, env = "PALISADE_SERVICE_ACCOUNT", value_name = "NAME")]
    service_account: ServiceAccount,
    /// How long it may be used, 1s to 168h.
    #[arg(long, env = "PALISADE_TTL", value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    ttl: Duration,
    /// How many workloads may join with it.
    #[arg(long, env = "PALISADE_USES", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// A label of the workloads that join with it; `app` is the service account unless given. May be repeated;
    /// `;` separates several in the variable.
    #[arg(long, env = "PALISADE_LABEL", value_name = "KEY=VALUE", value_parser = parse_label, value_delimiter = ';')]
    label: Vec<(String, String)>,
    /// Life of the certificates issued for it, 5m to 24h [default: the control plane's].
    #[arg(long, env = "PALISADE_SVID_TTL", value_name = "TIME", value_parser = parse_duration)]
    svid_ttl: Option<Duration>,
    /// token: the token alone.
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "token")]
    output: CreateFormat,
    /// Write the token to this file instead, which only its owner can read. One that is there is replaced.
    #[arg(long, env = "PALISADE_TOKEN_FILE", value_name = "FILE", conflicts_with = "output")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    admin: admin::Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum CreateFormat {
    Token,
    Json,
}

/// List join tokens, without their secrets.
#[derive(Debug, clap::Args)]
struct List {
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "table")]
    output: ListFormat,
    #[command(flatten)]
    admin: admin::Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ListFormat {
    Table,
    Json,
}

/// Make a join token useless. Workloads that have joined with it stay; see `palisade evict`.
#[derive(Debug, clap::Args)]
struct Revoke {
    /// As `palisade token list` shows it.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    admin: admin::Options,
}

impl Token {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::Create(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Revoke(command) => command.run(),
        }
    }
}

impl Create {
    fn run(self) -> Outcome {
        let request = self.request()?;
        self.admin.with_client(Duration::ZERO, async |mut client| {
            let response = client.create_join_token(request).await.map_err(admin::refused)?.into_inner();
            if let Some(file) = &self.token_file {
                return Ok(files::write_secret(file, &response.token)?);
            }
            match self.output {
                CreateFormat::Token => print(&response.token)?,
                CreateFormat::Json => {
                    let mut shown = to_json(&response.description.unwrap_or_default());
                    if let Some(fields) = shown.as_object_mut() {
                        fields.insert("token".to_owned(), response.token.into());
                    }
                    print(&serde_json::to_string_pretty(&shown)?)?;
                }
            }
            Ok(())
        })
    }

    fn request(&self) -> Result<CreateJoinTokenRequest, Failure> {
        Ok(CreateJoinTokenRequest {
            namespace: self.namespace.to_string(),
            service_account: self.service_account.to_string(),
            ttl_seconds: seconds("--ttl", self.ttl)?,
            uses: self.uses,
            labels: self.label.iter().cloned().collect(),
            svid_ttl_seconds: self.svid_ttl.map_or(Ok(0), |ttl| seconds("--svid-ttl", ttl))?,
        })
    }
}

/// On the wire 0 stands for the default; the operator who writes 0s does not mean that.
fn seconds(option: &str, time: Duration) -> Result<u32, Failure> {
    let whole = u32::try_from(time.as_secs()).ok().filter(|s| *s > 0);
    whole
        .with_context(|| format!("{option} {time:?} is out of range; write 1s or more"))
        .map_err(Failure::input)
}

impl List {
    fn run(self) -> Outcome {
        self.admin.with_client(Duration::ZERO, async |mut client| {
            let response = client.list_join_tokens(ListJoinTokensRequest {}).await.map_err(admin::refused)?;
            let tokens = response.into_inner().tokens;
            let text = match self.output {
                ListFormat::Json => {
                    serde_json::to_string_pretty(&tokens.iter().map(to_json).collect::<Vec<_>>())?
                }
                ListFormat::Table => table(
                    ["ID", "NAMESPACE", "SERVICE ACCOUNT", "USES LEFT", "EXPIRES", "STATE", "CREATED BY"],
                    tokens.iter().map(row),
                ),
            };
            print(&text)?;
            Ok(())
        })
    }
}

impl Revoke {
    fn run(self) -> Outcome {
        let request = RevokeJoinTokenRequest { id: self.id.clone() };
        self.admin.with_client(Duration::ZERO, async |mut client| {
            client.revoke_join_token(request).await.map_err(admin::refused)?;
            print(&format!("revoked {}", self.id))?;
            Ok(())
        })
    }
}

fn row(token: &JoinToken) -> [String; 7] {
    let state = match (token.revoked, token.uses_left) {
        (true, _) => "revoked",
        (false, 0) => "used up",
        (false, _) => "usable until it expires",
    };
    [
        token.id.clone(),
        token.namespace.clone(),
        token.service_account.clone(),
        format!("{}/{}", token.uses_left, token.uses),
        or_dash(token.expires_at.clone()),
        state.to_owned(),
        token.created_by.clone(),
    ]
}

fn to_json(token: &JoinToken) -> serde_json::Value {
    json!({
        "id": token.id,
        "namespace": token.namespace,
        "service_account": token.service_account,
        "labels": token.labels,
        "expires_at": token.expires_at,
        "uses": token.uses,
        "uses_left": token.uses_left,
        "created_by": token.created_by,
        "revoked": token.revoked,
    })
}
