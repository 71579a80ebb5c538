//! JSON Schemas of documents, for editors: draft 2020-12, by means that draft-07 has too.
//!
//! There is no second description of the language that could grow apart from the first. [`explore`] gives the reader
//! documents until it asks for nothing new, a [`Recording`](crate::document::recording::Recording) keeps what it asked
//! for, and [`render`] writes that as a schema. A schema knows the form and not the meaning: it never refuses what the
//! reader takes.

mod explore;
mod render;

use serde_json::Value as Json;

use crate::document::envelope::api_versions;
use crate::document::yaml;
use crate::kind::Kind;
use crate::{policy_test, rehearsal};

/// What a file of policies may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Object(Kind),
    PolicyTest,
    Rehearsal,
}

impl Subject {
    pub fn all() -> impl Iterator<Item = Self> {
        Kind::ALL.into_iter().map(Self::Object).chain([Self::PolicyTest, Self::Rehearsal])
    }

    /// The name in a document's `kind` field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object(kind) => kind.name(),
            Self::PolicyTest => policy_test::KIND,
            Self::Rehearsal => rehearsal::KIND,
        }
    }

    /// What may stand in `apiVersion`, today's first.
    fn api_versions(self) -> Vec<String> {
        match self {
            Self::Object(kind) => api_versions(kind),
            Self::PolicyTest => vec![policy_test::API_VERSION.to_owned()],
            Self::Rehearsal => vec![rehearsal::API_VERSION.to_owned()],
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Object(Kind::AuthorizationPolicy) => "Who may do what.",
            Self::Object(Kind::PeerAuthentication) => "Whether a caller must bring a certificate.",
            Self::Object(Kind::ServiceEntry) => "A service that is not in the mesh by itself.",
            Self::Object(Kind::DestinationRule) => "How a service is called.",
            Self::Object(Kind::MeshConfig) => "What holds for the whole mesh.",
            Self::Object(Kind::RateLimitPolicy) => "How often.",
            Self::Object(Kind::Gateway) => "Where an edge listens: ports, hosts and their certificates.",
            Self::Object(Kind::RequestAuthentication) => "Which tokens of end users are verified, and how.",
            Self::Object(Kind::VirtualService) => "Which requests go to which service.",
            Self::Object(Kind::JwtPolicy) => "Which requests need a token, and what is asked of it.",
            Self::Object(Kind::RequestGuard) => "Which form a request must have.",
            Self::Object(Kind::RetryPolicy) => "Which requests may be repeated, and which are known again.",
            Self::Object(Kind::FaultExperiment) => "What is done to calls on purpose, for a while.",
            Self::PolicyTest => "Requests, and what the policies beside it are expected to say of them.",
            Self::Rehearsal => "What is broken on purpose, step by step, and what holds meanwhile.",
        }
    }
}

/// The schema of one kind's documents.
pub fn of(subject: Subject) -> Json {
    render::document(subject, &explore::explore(subject))
}

/// The documents of a YAML text as a validator sees them.
pub fn instances(text: &str) -> Vec<Json> {
    yaml::read(text).0.iter().map(|document| document.root.json()).collect()
}

/// One schema for all of them; `kind` decides which part holds.
pub fn of_all() -> Json {
    together(Subject::all().map(|subject| (subject, of(subject))))
}

/// The same of schemas that are made already.
pub fn together(schemas: impl IntoIterator<Item = (Subject, Json)>) -> Json {
    render::any(schemas.into_iter())
}
