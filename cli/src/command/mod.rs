//! The subcommands: one file each.

mod apply;
mod ca;
mod caps;
mod change;
mod control_plane;
mod data_plane;
mod deadlines;
mod delete;
mod demo;
mod demo_credentials;
mod demo_pipe;
mod demo_service;
mod describe;
mod diff;
mod edge;
mod evict;
mod explain;
mod fault;
mod get;
mod health;
mod history;
mod init;
mod kind;
mod lint;
mod mtls;
mod posture;
mod proxies;
mod proxy;
mod rehearse;
mod rollback;
mod schema;
mod suggest;
mod test;
mod token;
mod traces;
mod wait;

use crate::exit::Outcome;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    ControlPlane(control_plane::ControlPlane),
    Proxy(Box<proxy::Proxy>),
    Edge(Box<edge::Edge>),
    Init(init::Init),
    Lint(lint::Lint),
    Posture(posture::PostureOf),
    Mtls(mtls::Mtls),
    Explain(Box<explain::Explain>),
    Test(test::Test),
    Diff(diff::Diff),
    Suggest(suggest::Suggest),
    Rehearse(rehearse::Rehearse),
    Schema(schema::SchemaOf),
    Apply(apply::Apply),
    Get(get::Get),
    Describe(describe::Describe),
    History(history::History),
    Rollback(rollback::Rollback),
    Delete(delete::Delete),
    Fault(fault::Fault),
    Token(token::Token),
    Proxies(proxies::Proxies),
    Evict(evict::Evict),
    Ca(ca::Ca),
    Wait(wait::Wait),
    Demo(demo::Demo),
    #[command(hide = true)]
    DemoService(demo_service::DemoService),
    #[command(hide = true)]
    DemoCredentials(demo_credentials::DemoCredentials),
    #[command(hide = true)]
    DemoPipe(demo_pipe::DemoPipe),
}

impl Command {
    pub(crate) fn run(self) -> Outcome {
        match self {
            Self::ControlPlane(command) => command.run(),
            Self::Proxy(command) => command.run(),
            Self::Edge(command) => command.run(),
            Self::Init(command) => command.run(),
            Self::Lint(command) => command.run(),
            Self::Posture(command) => command.run(),
            Self::Mtls(command) => command.run(),
            Self::Explain(command) => command.run(),
            Self::Test(command) => command.run(),
            Self::Diff(command) => command.run(),
            Self::Suggest(command) => command.run(),
            Self::Rehearse(command) => command.run(),
            Self::Schema(command) => command.run(),
            Self::Apply(command) => command.run(),
            Self::Get(command) => command.run(),
            Self::Describe(command) => command.run(),
            Self::History(command) => command.run(),
            Self::Rollback(command) => command.run(),
            Self::Delete(command) => command.run(),
            Self::Fault(command) => command.run(),
            Self::Token(command) => command.run(),
            Self::Proxies(command) => command.run(),
            Self::Evict(command) => command.run(),
            Self::Ca(command) => command.run(),
            Self::Wait(command) => command.run(),
            Self::Demo(command) => command.run(),
            Self::DemoService(command) => command.run(),
            Self::DemoCredentials(command) => command.run(),
            Self::DemoPipe(command) => command.run(),
        }
    }

    /// Whether the process stays up and its log is read by machines.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self, Self::ControlPlane(_) | Self::Proxy(_) | Self::Edge(_) | Self::DemoService(_))
    }
}
