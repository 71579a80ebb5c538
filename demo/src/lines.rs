//! Ready-made command lines for whoever plays on.

use anyhow::Result;

use crate::mesh::{HOST, Mesh};
use crate::scene::ENTRIES;
use crate::service::Service;
use crate::{show, yaml};

/// Prints lines that work as printed.
pub(crate) fn print(mesh: &Mesh) -> Result<()> {
    let proxy = |service| mesh.member(service).addresses.outbound_proxy();
    let app = |service| mesh.member(service).app_address();
    let ledger = mesh.member(Service::Ledger);
    let operator = mesh.operator();
    let palisade = quoted(&mesh.exe.display().to_string());

    show::heading("\nTry it (in another terminal)");
    from_outside(mesh)?;
    show::note("# payments may read the ledger, notifications may not");
    show::line(&format!("curl -i -x http://{} {ENTRIES}", proxy(Service::Payments)?));
    show::line(&format!("curl -i -x http://{} {ENTRIES}", proxy(Service::Notifications)?));
    show::note("# through the services themselves");
    let transfer = r#"{"from":"alice","to":"bob","amount_cents":100}"#;
    show::line(&format!("curl -i http://{}/transfers -d '{transfer}'", app(Service::Payments)));
    show::line(&format!("curl -i http://{}/accounts/bob/balance", app(Service::Accounts)));
    show::note("# plaintext to the ledger's sidecar: refused");
    show::line(&format!("curl -i http://{}/entries", ledger.addresses.inbound()?));
    show::note("# decisions and metrics of the ledger's sidecar");
    show::line(&format!("tail -n 3 {}", quoted(&ledger.records.path().display().to_string())));
    show::line(&format!("curl -s http://{}/metrics", ledger.addresses.admin()?));
    show::note("# as the operator");
    let directory = quoted(&operator.directory.display().to_string());
    show::line(&format!("export PALISADE_SERVER={} PALISADE_OPERATOR_DIR={directory}", operator.server));
    show::line(&format!("{palisade} proxies"));
    show::line(&format!("{palisade} get"));
    let extra = mesh.path("extra").join(yaml::NOTIFICATIONS_READ_LEDGER.0);
    show::line(&format!("{palisade} apply {}", quoted(&extra.display().to_string())));
    Ok(())
}

/// Through the edge. The lines share a function and a variable of the shell, so they stay short.
fn from_outside(mesh: &Mesh) -> Result<()> {
    let edge = &mesh.edge;
    let address = edge.addresses.edge()?;
    let (port, ca) = (address.port(), quoted(&edge.ca.display().to_string()));
    let url = format!("https://{HOST}:{port}");
    show::note(
        "# from outside, through the edge: log in, read a balance, pay (the 6th in a minute is refused)",
    );
    show::line(&format!("edge() {{ curl --cacert {ca} --resolve {HOST}:{port}:{} \"$@\"; }}", address.ip()));
    show::line(&format!(
        "TOKEN=$(edge -s {url}/login -H 'content-type: application/json' -d '{}' | sed 's/.*\"access_token\":\"\\([^\"]*\\).*/\\1/')",
        r#"{"user":"alice","password":"wonderland"}"#
    ));
    show::line(&format!("edge -i {url}/accounts/alice/balance -H \"authorization: Bearer $TOKEN\""));
    show::line(&format!(
        "edge -i {url}/transfers -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' -d '{}'",
        r#"{"from":"alice","to":"bob","amount_cents":100}"#
    ));
    show::note("# without a token; what the edge decided, and how often it said: too often");
    show::line(&format!("edge -i {url}/accounts/alice/balance"));
    show::line(&format!("tail -n 3 {}", quoted(&edge.records.path().display().to_string())));
    show::line(&format!("curl -s http://{}/metrics | grep rate_limited", edge.addresses.admin()?));
    Ok(())
}

/// For a POSIX shell, where it needs to be.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':');
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_for_a_shell_only_where_needed() {
        assert_eq!(quoted("/tmp/a-b_1.x"), "/tmp/a-b_1.x");
        assert_eq!(quoted("/tmp/my dir's"), r"'/tmp/my dir'\''s'");
    }
}
