//! Which requests need a token, and what it must be good for. A token comes here after it was verified.

use std::sync::Arc;

use super::Access;
use crate::decision::RuleRef;
use crate::kind::request_match::{MatchView, RequestMatch};
use crate::request::token::Token;

/// The rules of one policy. The first that matches decides.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    pub(crate) rules: Box<[AccessRule]>,
}

#[derive(Clone, Debug)]
pub struct AccessRule {
    pub(super) name: RuleRef,
    pub(super) matches: RequestMatch,
    pub(super) access: Access,
    pub(super) scopes: Box<[Box<str>]>,
    /// The same with spaces, as challenges have them.
    pub(super) scope: Arc<str>,
    pub(super) audiences: Box<[Box<str>]>,
}

/// What a request lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The rule that asks for it.
    pub rule: RuleRef,
    pub lack: Lack,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    Token,
    /// The scopes that the rule asks for, with spaces between them.
    Scope(Arc<str>),
    Audience,
}

impl Unmet {
    /// Machine-readable, stable: docs/reference/tokens.md lists them.
    pub fn code(&self) -> &'static str {
        match self.lack {
            Lack::Token => "token_required",
            Lack::Scope(_) => "token_scope",
            Lack::Audience => "token_rule_audience",
        }
    }
}

impl AccessPolicy {
    /// Judges a request by the first rule that matches it. No rule asks for nothing.
    pub(crate) fn judge(&self, view: &MatchView<'_>, token: Option<&Token>) -> Result<(), Unmet> {
        let rule = self.rules.iter().find(|rule| rule.matches.matches(view));
        match rule {
            Some(rule) if rule.access == Access::Token => rule.judge(token),
            _ => Ok(()),
        }
    }

    /// Whether some request needs a token.
    pub(crate) fn asks_for_token(&self) -> bool {
        self.rules.iter().any(|rule| rule.access == Access::Token)
    }
}

impl AccessRule {
    fn judge(&self, token: Option<&Token>) -> Result<(), Unmet> {
        let unmet = |lack| Err(Unmet { rule: self.name.clone(), lack });
        let Some(token) = token else { return unmet(Lack::Token) };
        let ours = |audience: &String| self.audiences.iter().any(|wanted| **wanted == **audience);
        if !self.audiences.is_empty() && !token.audiences.iter().any(ours) {
            return unmet(Lack::Audience);
        }
        if !self.scopes.iter().all(|scope| token.has_scope(scope)) {
            return unmet(Lack::Scope(Arc::clone(&self.scope)));
        }
        Ok(())
    }
}
