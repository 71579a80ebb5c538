//! What a sidecar asks of a connection to a port of protocol tcp (`pipeline/tcp.rs` of the proxy).

use super::Target;
use super::judge::{End, Judged, decided};
use super::question::Question;
use crate::decision::Grant;
use crate::request::connection::ConnectionView;

const UNREAD: &str = "nothing is read of what the port carries: guards, tokens and rate limits are not asked";

pub(super) fn judge(target: &Target, question: &Question, judged: &mut Judged) -> Result<Grant, End> {
    let snapshot = &target.snapshot;
    let connection = ConnectionView {
        peer: question.caller.as_ref(),
        source_ip: question.source_ip,
        remote_ip: question.remote_ip.unwrap_or(question.source_ip),
        destination_ip: question.destination_ip,
        destination_port: question.port,
        sni: question.sni.as_deref(),
    };
    if judged.traced {
        judged.observations = snapshot.observe_tcp(&connection);
        judged.rules = snapshot.trace_tcp(&connection);
    }
    let for_requests = [
        snapshot.has_guards(),
        !snapshot.authentication().rules.is_empty(),
        !target.projection.rate_limits.is_empty(),
    ];
    if for_requests.contains(&true) {
        judged.notes.push(UNREAD.to_owned());
    }
    decided(target, question.port, snapshot.authorize_tcp(&connection), judged)
}
