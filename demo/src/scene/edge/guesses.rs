use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use http::header::HeaderValue;

use super::{Report, login_request};
use crate::mesh::Mesh;
use crate::service::Service;

/// As the RateLimitPolicy has it.
const LIMIT: u64 = 10;
/// An address of its own, whose quota no other scene uses up.
const GUESSER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Some systems have one loopback address only; then the guesses come from where the other scenes do.
const FALLBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Passwords are guessed until the address has used up its logins; forged addresses do not help.
pub(in crate::scene) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let auth = mesh.member(Service::Auth);
    let before = auth.received().await?;
    let mark = mesh.edge.records.mark()?;
    let from = if mesh.edge.connect_from(GUESSER).await.is_ok() { GUESSER } else { FALLBACK };
    let mut connection = mesh.edge.connect_from(from).await?;
    let (mut wrong, mut last) = (0, None);
    for i in 0..=LIMIT {
        let mut guess = login_request("alice", &format!("wonderland{i}"))?;
        let elsewhere = HeaderValue::try_from(format!("192.0.2.{i}"))?;
        guess.headers_mut().insert("x-forwarded-for", elsewhere);
        let answer = connection.request(guess).await?;
        if answer.status == http::StatusCode::UNAUTHORIZED {
            wrong += 1;
        } else {
            last = Some(answer);
            break;
        }
    }
    let answer = last.context("all guesses were let through")?;
    let record = mesh.edge.records.find(mark, |r| r.field("response_code") == "429").await?;
    report.step(
        format!("POST /login from {from} with guessed passwords, each with another X-Forwarded-For"),
        format!("{wrong} times 401 from auth, then {}", answer.line()),
        format!("the edge: {}", record.why()),
    );
    report.expect("status in the end", 429, answer.status.as_u16());
    report.expect("limit", "fintech/edge/logins", record.field("limit"));
    report.expect("address that was limited", mesh.edge.sees(from), record.field("client_address"));
    report.expect("logins that auth received", wrong, auth.received().await? - before);
    // Behind a host's address there are all the scenes before.
    let full = mesh.edge.sees(from) == GUESSER;
    report.expect("guesses that an address has", true, if full { wrong == LIMIT } else { wrong < LIMIT });
    Ok(report)
}
