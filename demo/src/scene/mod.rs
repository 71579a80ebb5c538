//! The scenes: each sends something real and reports what came back and who decided.

mod allowed;
mod edge;
mod faults;
mod intruders;
mod live_policy;
mod loopback;
mod method;
mod outage;
mod rotation;
pub(crate) mod tokens;

use std::pin::Pin;

use anyhow::Result;

use crate::mesh::Mesh;

/// The entries of the ledger, as every service calls them.
pub(crate) const ENTRIES: &str = "http://ledger.fintech:8080/entries";

type Playing<'a> = Pin<Box<dyn Future<Output = Result<Report>> + 'a>>;

/// One scene.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) title: &'static str,
    pub(crate) play: for<'a> fn(&'a mut Mesh) -> Playing<'a>,
}

/// In this order: a later scene may rely on what an earlier one left.
pub(crate) const SCENES: [Scene; 20] = [
    Scene {
        title: "payments calls the ledger: a policy allows it",
        play: |mesh| Box::pin(allowed::play(mesh)),
    },
    Scene {
        title: "notifications calls the ledger: refused, then allowed by a policy applied live",
        play: |mesh| Box::pin(live_policy::play(mesh)),
    },
    Scene { title: "payments may not DELETE", play: |mesh| Box::pin(method::play(mesh)) },
    Scene {
        title: "plaintext, no certificate, a certificate of another CA: refused",
        play: |mesh| Box::pin(intruders::play(mesh)),
    },
    Scene {
        title: "certificates are rotated under load: no request fails",
        play: |mesh| Box::pin(rotation::play(mesh)),
    },
    Scene {
        title: "the control plane is killed: traffic goes on; it comes back: pushes go on",
        play: |mesh| Box::pin(outage::play(mesh)),
    },
    Scene {
        title: "applications listen on loopback only: the sidecar is the one way in",
        play: |mesh| Box::pin(loopback::play(mesh)),
    },
    Scene {
        title: "a sidecar verifies users' tokens too: alg none, expired, for somebody else do not pass",
        play: |mesh| Box::pin(tokens::play(mesh)),
    },
    Scene {
        title: "the edge: TLS from outside, nothing without a token, and a login that gives one",
        play: |mesh| Box::pin(edge::login::play(mesh)),
    },
    Scene {
        title: "a balance: edge -> accounts, which is told whose token it was",
        play: |mesh| Box::pin(edge::balance::play(mesh)),
    },
    Scene {
        title: "a transfer: edge -> payments -> ledger, each hop with an identity of its own",
        play: |mesh| Box::pin(edge::transfer::play(mesh)),
    },
    Scene {
        title: "false tokens at the edge: 401, 401, 403, and accounts hears nothing of them",
        play: |mesh| Box::pin(edge::false_tokens::play(mesh)),
    },
    Scene {
        title: "a token that may only read cannot make a transfer: 403, insufficient_scope",
        play: |mesh| Box::pin(edge::scope::play(mesh)),
    },
    Scene {
        title: "a transfer that is no JSON, or too large: 415, 413, before anybody asks who sends it",
        play: |mesh| Box::pin(edge::form::play(mesh)),
    },
    Scene {
        title: "the 6th transfer of a user in a minute: 429, and the ledger got exactly 5",
        play: |mesh| Box::pin(edge::transfers::play(mesh)),
    },
    Scene {
        title: "forged identity headers have no effect",
        play: |mesh| Box::pin(edge::forged::play(mesh)),
    },
    Scene {
        title: "passwords are guessed: an address has 10 logins a minute",
        play: |mesh| Box::pin(edge::guesses::play(mesh)),
    },
    Scene {
        title: "a fault on purpose: a ledger that is slow for payments alone, and a kill switch",
        play: |mesh| Box::pin(faults::slow_ledger::play(mesh)),
    },
    Scene {
        title: "the breaker: with a slow ledger, calls over the bound fail at once",
        play: |mesh| Box::pin(faults::breaker::play(mesh)),
    },
    Scene {
        title: "answers of the ledger are lost: an entry is made once, a read is made again",
        play: |mesh| Box::pin(faults::lost_answer::play(mesh)),
    },
];

/// What a scene showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) steps: Vec<Step>,
    pub(crate) expectations: Vec<Expectation>,
}

/// Something sent and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Empty: it was only looked at.
    pub(crate) sent: String,
    pub(crate) got: String,
    /// Empty: nothing had to be decided.
    pub(crate) decided_by: String,
}

/// What should be, and what is.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    pub(crate) what: &'static str,
    pub(crate) expected: String,
    pub(crate) got: String,
}

impl Expectation {
    pub(crate) fn holds(&self) -> bool {
        self.expected == self.got
    }
}

impl Report {
    fn step(&mut self, sent: impl Into<String>, got: impl Into<String>, decided_by: impl Into<String>) {
        self.steps.push(Step { sent: sent.into(), got: got.into(), decided_by: decided_by.into() });
    }

    /// Something seen without a request.
    fn seen(&mut self, what: impl Into<String>) {
        self.step("", what, "");
    }

    fn expect(&mut self, what: &'static str, expected: impl ToString, got: impl ToString) {
        self.expectations.push(Expectation { what, expected: expected.to_string(), got: got.to_string() });
    }

    pub(crate) fn passed(&self) -> bool {
        self.expectations.iter().all(Expectation::holds)
    }
}
