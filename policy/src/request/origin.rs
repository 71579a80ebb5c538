//! What a request from outside says of itself that only proxies may say.

use std::sync::LazyLock;

use http::HeaderMap;

use crate::kind::request_guard::names::{HeaderNames, remove_where};

/// Names that only proxies may write, under every spelling; `*` stands for any end.
static CLAIMS: LazyLock<HeaderNames> = LazyLock::new(|| {
    HeaderNames::new([
        // Where the client is.
        "cf-connecting-ip*",
        "cf-pseudo-ipv4",
        "client-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "forwarded",
        "http-client-ip",
        "proxy-client-ip",
        "true-client-ip",
        "via",
        "wl-proxy-client-ip",
        "x-appengine-user-ip",
        "x-azure-clientip",
        "x-azure-socketip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-forwarded-*",
        "x-original-forwarded-for",
        "x-originating-ip",
        "x-proxyuser-ip",
        "x-real-ip",
        "x-remote-addr",
        "x-remote-ip",
        // Which request it was.
        "front-end-https",
        "x-host",
        "x-http-host-override",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-host",
        "x-original-method",
        "x-original-uri",
        "x-original-url",
        "x-rewrite-url",
        "x-scheme",
        "x-url-scheme",
        // Who is calling.
        "client-cert",
        "client-cert-chain",
        "remote-email",
        "remote-groups",
        "remote-name",
        "remote-user",
        "ssl-client-*",
        "x-arr-clientcert",
        "x-auth-request-*",
        "x-client-cert*",
        "x-client-dn",
        "x-client-verify",
        "x-remote-extra-*",
        "x-remote-group",
        "x-remote-user",
        "x-ssl-*",
        "x-webauth-*",
        // Of what runs on this host: CGI's `HTTP_PROXY` (CVE-2016-5385), Envoy's instructions to itself, and ours.
        "proxy",
        "x-envoy-*",
        "x-palisade-*",
    ])
});
/// What load balancers of clouds write of a client whom they have authenticated. Where one stands in front and is trusted,
/// services behind us may want it.
static CLAIMS_IN_FRONT: LazyLock<HeaderNames> = LazyLock::new(|| {
    HeaderNames::new([
        "cf-access-authenticated-user-email",
        "x-amzn-mtls-*",
        "x-amzn-oidc-*",
        "x-goog-authenticated-user-*",
        "x-ms-client-principal*",
    ])
});

/// Removes every header by which a caller could pass for somebody, or for having passed through somebody. With trusted
/// hops, what one of them may have said of the client stays: whoever is trusted to name the client's address is trusted to
/// keep these from clients, too.
pub fn strip_claims(headers: &mut HeaderMap, trusted_hops: u8) {
    remove_where(headers, |name| CLAIMS.has(name) || (trusted_hops == 0 && CLAIMS_IN_FRONT.has(name)));
}

/// Whether a name, under any spelling that a server may fold into it, is one that only proxies write.
pub fn is_claim(name: &str) -> bool {
    CLAIMS.has(name) || CLAIMS_IN_FRONT.has(name)
}
