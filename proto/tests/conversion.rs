//! Wire and model say the same, and bad messages are refused with the field that is wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use palisade_identity::SpiffeId;
use palisade_policy::kind::authorization_policy::{Action, Condition, Operation, Rule, Source};
use palisade_policy::kind::destination_rule::{PortSettings, Settings, TlsMode, TlsSettings, TrafficPolicy};
use palisade_policy::kind::gateway::{
    GatewayPort, GatewayProtocol, GatewayServer, GatewaySpec, GatewayTls, GatewayTlsMode, TlsVersion,
};
use palisade_policy::kind::mesh_config::{AmbiguousPaths, FaultLimits, PathNormalization};
use palisade_policy::kind::peer_authentication::MtlsMode;
use palisade_policy::kind::request_authentication::{
    ClaimToHeader, FromHeader, JwtRuleSpec, RequestAuthenticationSpec,
};
use palisade_policy::kind::service_entry::Protocol;
use palisade_policy::kind::{
    AuthorizationPolicySpec, DestinationRuleSpec, MeshConfigSpec, Meta, Named, PeerAuthenticationSpec,
};
use palisade_policy::{Endpoint, MeshService, Projection, ServicePort, Workload};
use palisade_proto::v1;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;

fn text() -> impl Strategy<Value = String> {
    "[a-z*/{}é]{1,8}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

fn named<T: std::fmt::Debug>(spec: impl Strategy<Value = T>) -> impl Strategy<Value = Named<T>> {
    (text(), text(), labels(), labels(), spec).prop_map(|(namespace, name, labels, annotations, spec)| {
        Named { meta: Meta { namespace, name, labels, annotations }, spec }
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let source = vec(texts(), 14).prop_map(|mut f| {
        let mut next = || f.pop().unwrap();
        Source {
            principals: next(),
            not_principals: next(),
            request_principals: next(),
            not_request_principals: next(),
            namespaces: next(),
            not_namespaces: next(),
            service_accounts: next(),
            not_service_accounts: next(),
            trust_domains: next(),
            not_trust_domains: next(),
            ip_blocks: next(),
            not_ip_blocks: next(),
            remote_ip_blocks: next(),
            not_remote_ip_blocks: next(),
        }
    });
    let operation = vec(texts(), 8).prop_map(|mut f| {
        let mut next = || f.pop().unwrap();
        Operation {
            hosts: next(),
            not_hosts: next(),
            ports: next(),
            not_ports: next(),
            methods: next(),
            not_methods: next(),
            paths: next(),
            not_paths: next(),
        }
    });
    let condition = (text(), texts(), texts()).prop_map(|(key, values, not_values)| Condition {
        key,
        values,
        not_values,
    });
    (vec(source, 0..3), vec(operation, 0..3), vec(condition, 0..3)).prop_map(|(from, to, when)| Rule {
        from,
        to,
        when,
    })
}

fn authorization() -> impl Strategy<Value = AuthorizationPolicySpec> {
    let action = prop_oneof![Just(Action::Allow), Just(Action::Deny), Just(Action::Audit)];
    (labels(), action, vec(rule(), 0..3)).prop_map(|(selector, action, rules)| AuthorizationPolicySpec {
        selector,
        action,
        rules,
    })
}

fn mode() -> impl Strategy<Value = MtlsMode> {
    prop_oneof![
        Just(MtlsMode::Unset),
        Just(MtlsMode::Disable),
        Just(MtlsMode::Permissive),
        Just(MtlsMode::Strict)
    ]
}

fn peer() -> impl Strategy<Value = PeerAuthenticationSpec> {
    (labels(), mode(), btree_map(1..=u16::MAX, mode(), 0..3))
        .prop_map(|(selector, mode, port_level)| PeerAuthenticationSpec { selector, mode, port_level })
}

fn tls() -> impl Strategy<Value = TlsSettings> {
    let mode = prop_oneof![
        Just(TlsMode::Disable),
        Just(TlsMode::Simple),
        Just(TlsMode::Mutual),
        Just(TlsMode::IstioMutual)
    ];
    let file = || option::of(text());
    (mode, file(), texts(), file(), file(), file()).prop_map(
        |(mode, sni, subject_alt_names, ca_certificates, client_certificate, private_key)| TlsSettings {
            mode,
            sni,
            subject_alt_names,
            ca_certificates,
            client_certificate,
            private_key,
        },
    )
}

fn destination() -> impl Strategy<Value = DestinationRuleSpec> {
    let settings = || option::of(tls()).prop_map(|tls| Settings { tls, ..Settings::default() });
    let port = (1..=u16::MAX, settings()).prop_map(|(port, settings)| PortSettings { port, settings });
    (text(), settings(), vec(port, 0..3)).prop_map(|(host, settings, ports)| {
        let policy = TrafficPolicy { settings: Box::new(settings), ports, retry_budget: None };
        DestinationRuleSpec { host, policy, subsets: Vec::new() }
    })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Http), Just(Protocol::Http2), Just(Protocol::Grpc), Just(Protocol::Tcp)]
}

fn id() -> impl Strategy<Value = SpiffeId> {
    "[a-z]{1,6}"
        .prop_map(|name| SpiffeId::parse(&format!("spiffe://corp.example/ns/shop/sa/{name}")).unwrap())
}

fn service() -> impl Strategy<Value = MeshService> {
    let port = (1..=u16::MAX, text(), protocol()).prop_map(|(number, name, protocol)| ServicePort {
        number,
        name,
        protocol,
    });
    let endpoint = (text(), labels(), btree_map(1..=u16::MAX, any::<SocketAddr>(), 0..3)).prop_map(
        |(instance, labels, addresses)| {
            // Flow and scope of IPv6 are no part of an address text.
            let plain = |at: SocketAddr| SocketAddr::new(at.ip(), at.port());
            let addresses = addresses.into_iter().map(|(port, at)| (port, plain(at))).collect();
            Endpoint { instance, labels, addresses }
        },
    );
    (text(), text(), vec(port, 0..3), vec(id(), 1..3), vec(endpoint, 0..3)).prop_map(
        |(name, namespace, ports, ids, endpoints)| MeshService {
            name,
            namespace,
            ports,
            identities: BTreeSet::from_iter(ids),
            endpoints,
        },
    )
}

fn gateway() -> impl Strategy<Value = GatewaySpec> {
    let mode = prop_oneof![
        Just(None),
        Just(Some(GatewayTlsMode::Simple)),
        Just(Some(GatewayTlsMode::Mutual)),
        Just(Some(GatewayTlsMode::OptionalMutual)),
    ];
    let version = prop_oneof![Just(TlsVersion::V1_2), Just(TlsVersion::V1_3)];
    let tls = (any::<bool>(), mode, version, vec(option::of(text()), 4)).prop_map(
        |(https_redirect, mode, min_protocol_version, mut texts)| GatewayTls {
            https_redirect,
            mode,
            credential_name: texts.pop().unwrap(),
            server_certificate: texts.pop().unwrap(),
            private_key: texts.pop().unwrap(),
            ca_certificates: texts.pop().unwrap(),
            min_protocol_version,
        },
    );
    let protocol =
        prop_oneof![Just(GatewayProtocol::Http), Just(GatewayProtocol::Http2), Just(GatewayProtocol::Https),];
    let port = (1..=u16::MAX, text(), protocol).prop_map(|(number, name, protocol)| GatewayPort {
        number,
        name,
        protocol,
    });
    let server = (option::of(text()), port, texts(), option::of(tls))
        .prop_map(|(name, port, hosts, tls)| GatewayServer { name, port, hosts, tls });
    (labels(), vec(server, 0..3)).prop_map(|(selector, servers)| GatewaySpec { selector, servers })
}

fn request_authentication() -> impl Strategy<Value = RequestAuthenticationSpec> {
    let lists = (texts(), texts(), texts());
    let pairs = (vec((text(), text()), 0..3), vec((text(), text()), 0..3));
    let late = (texts(), option::of(0..100_000u64));
    let rule = (text(), lists, vec(option::of(text()), 3), pairs, any::<bool>(), late).prop_map(
        |(issuer, (audiences, from_params, from_cookies), mut texts, (headers, claims), forward, late)| {
            let header = |(name, prefix)| FromHeader { name, prefix };
            let claim = |(header, claim)| ClaimToHeader { header, claim };
            JwtRuleSpec {
                issuer,
                audiences,
                jwks_uri: texts.pop().unwrap(),
                jwks: texts.pop().unwrap(),
                from_headers: headers.into_iter().map(header).collect(),
                from_params,
                from_cookies,
                output_payload_to_header: texts.pop().unwrap(),
                output_claim_to_headers: claims.into_iter().map(claim).collect(),
                forward_original_token: forward,
                space_delimited_claims: late.0,
                timeout: late.1.map(std::time::Duration::from_millis),
            }
        },
    );
    (labels(), vec(rule, 0..3)).prop_map(|(selector, rules)| RequestAuthenticationSpec { selector, rules })
}

fn projection() -> impl Strategy<Value = Projection> {
    let mesh = texts().prop_map(|trust_domain_aliases| MeshConfigSpec {
        path_normalization: PathNormalization::MergeSlashes,
        ambiguous_paths: AmbiguousPaths::Keep,
        trust_domain_aliases,
        faults: FaultLimits {
            max_duration: std::time::Duration::from_secs(90),
            protected: vec!["*/sa/vault".into()],
        },
    });
    (
        (text(), id(), labels(), mesh, btree_set("[0-9A-F]{1,42}", 0..3)),
        vec(named(authorization()), 0..3),
        vec(named(peer()), 0..3),
        vec(named(destination()), 0..3),
        vec(service(), 0..3),
        vec(named(gateway()), 0..3),
        vec(named(request_authentication()), 0..3),
    )
        .prop_map(
            |((root, id, labels, mesh, revoked), authorization, peers, rules, services, gateways, tokens)| {
                Projection {
                    root_namespace: root,
                    workload: Workload { id, labels },
                    mesh,
                    authorization,
                    peer_authentication: peers,
                    service_entries: Vec::new(),
                    destination_rules: rules,
                    services,
                    gateways,
                    request_authentication: tokens,
                    virtual_services: Vec::new(),
                    jwt_policies: Vec::new(),
                    rate_limits: Vec::new(),
                    request_guards: Vec::new(),
                    retry_policies: Vec::new(),
                    fault_experiments: Vec::new(),
                    revoked,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sent_is_what_is_understood(projection in projection()) {
        let bytes = v1::SnapshotBody::from(&projection).encode_to_vec();
        let body = v1::SnapshotBody::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(Projection::try_from(body).unwrap(), projection);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..256)) {
        if let Ok(body) = v1::SnapshotBody::decode(bytes.as_slice()) {
            let _outcome = Projection::try_from(body);
        }
    }
}

/// The smallest message that is accepted.
fn body() -> v1::SnapshotBody {
    v1::SnapshotBody {
        root_namespace: "palisade-system".into(),
        workload: Some(v1::Workload {
            spiffe_id: "spiffe://corp.example/ns/shop/sa/cart".into(),
            labels: BTreeMap::new(),
        }),
        mesh: Some((&MeshConfigSpec::default()).into()),
        ..Default::default()
    }
}

fn refused(change: impl FnOnce(&mut v1::SnapshotBody)) -> String {
    let mut body = body();
    change(&mut body);
    Projection::try_from(body).unwrap_err().to_string()
}

#[test]
fn accepts_the_smallest_snapshot() {
    assert!(Projection::try_from(body()).is_ok());
}

#[test]
fn names_the_field_that_is_wrong() {
    let meta = || Some(v1::Meta { namespace: "shop".into(), name: "p".into(), ..Default::default() });
    let rows = [
        (refused(|b| b.workload = None), "workload: is not set"),
        (refused(|b| b.mesh = None), "mesh: is not set"),
        (refused(|b| b.root_namespace.clear()), "root_namespace: is not set"),
        (
            refused(|b| b.workload.as_mut().unwrap().spiffe_id = "spiffe://corp.example/operator/eve".into()),
            "workload.spiffe_id: spiffe://corp.example/operator/eve is no workload's id",
        ),
        (
            refused(|b| b.mesh.as_mut().unwrap().path_normalization = 99),
            "mesh.path_normalization: 99 is a value this version does not know",
        ),
        (
            refused(|b| {
                b.authorization_policies.push(v1::AuthorizationPolicy { meta: meta(), ..Default::default() });
            }),
            "authorization_policies[0].action: is not set",
        ),
        (
            refused(|b| {
                let policy = v1::AuthorizationPolicy { action: 1, ..Default::default() };
                b.authorization_policies.push(policy);
            }),
            "authorization_policies[0].meta: is not set",
        ),
        (
            refused(|b| {
                let port_level = BTreeMap::from([(65_536, 4)]);
                let object =
                    v1::PeerAuthentication { meta: meta(), mode: 4, port_level, ..Default::default() };
                b.peer_authentications.push(object);
            }),
            "peer_authentications[0].port_level[65536]: 65536 is no port",
        ),
        (
            refused(|b| {
                let addresses = BTreeMap::from([(80, "ledger:80".to_owned())]);
                let endpoint = v1::Endpoint { addresses, ..Default::default() };
                let service = v1::MeshService {
                    name: "ledger".into(),
                    namespace: "shop".into(),
                    endpoints: vec![endpoint],
                    ..Default::default()
                };
                b.services.push(service);
            }),
            "services[0].endpoints[0].addresses[80].address: \"ledger:80\" is no ip:port",
        ),
    ];
    for (got, expected) in rows {
        assert_eq!(got, expected);
    }
}

#[test]
fn a_request_match_survives_the_wire() {
    use palisade_policy::kind::request_match::MatchItem;
    let one = |text: &str| vec![text.to_owned()];
    let item = MatchItem { hosts: one("h"), methods: one("GET"), paths: one("/p/*"), routes: one("r") };
    assert_eq!(MatchItem::from(v1::RequestMatch::from(&item)), item);
}

#[test]
fn a_rate_limit_policy_survives_the_wire_and_a_half_one_does_not() {
    use palisade_policy::kind::RateLimitPolicySpec;
    use palisade_policy::kind::rate_limit_policy::{KeyPart, LimitSpec, Mode, OnStoreFailure, Scope};
    let key = vec![
        KeyPart::Claim("sub".into()),
        KeyPart::Principal,
        KeyPart::Address,
        KeyPart::Header("x-device".into()),
    ];
    let limit = |burst, mode| LimitSpec {
        name: "a".into(),
        matches: vec![],
        key: key.clone(),
        limit: 5,
        window: std::time::Duration::from_secs(60),
        burst,
        cost: burst,
        scope: Scope::Instance,
        mode,
        headers: mode != Mode::Flag,
    };
    let mut limits = vec![limit(None, Mode::Enforce), limit(Some(3), Mode::Shadow), limit(None, Mode::Flag)];
    for failure in [OnStoreFailure::Local, OnStoreFailure::Deny, OnStoreFailure::Allow] {
        limits.push(LimitSpec { scope: Scope::Mesh(failure), ..limit(None, Mode::Enforce) });
    }
    let spec = RateLimitPolicySpec { selector: BTreeMap::new(), limits };
    let meta = Meta { namespace: "n".into(), name: "p".into(), ..Meta::default() };
    let object = Named { meta, spec };
    let wire = v1::RateLimitPolicy::from(&object);
    assert_eq!(Named::try_from(wire.clone()).unwrap(), object);
    let mut no_mode = wire.clone();
    no_mode.limits[0].mode = 0;
    assert_eq!(Named::<RateLimitPolicySpec>::try_from(no_mode).unwrap_err().field, "limits[0].mode");
    let mut unknown = wire.clone();
    unknown.limits[3].mesh = 9;
    assert_eq!(Named::<RateLimitPolicySpec>::try_from(unknown).unwrap_err().field, "limits[3].mesh");
    let mut no_part = wire;
    no_part.limits[1].key[2].part = None;
    assert_eq!(Named::<RateLimitPolicySpec>::try_from(no_part).unwrap_err().field, "limits[1].key[2].part");
}

#[test]
fn a_request_guard_survives_the_wire_and_a_half_one_does_not() {
    use palisade_policy::kind::RequestGuardSpec;
    use palisade_policy::kind::mesh_config::AmbiguousPaths;
    use palisade_policy::kind::request_guard::{GuardRuleSpec, Underscores};
    let one = |text: &str| vec![text.to_owned()];
    let full = |underscores, ambiguous_paths| GuardRuleSpec {
        name: "a".into(),
        matches: vec![],
        allowed_methods: one("POST"),
        content_types: one("application/json"),
        max_body_bytes: Some(0),
        max_headers: Some(2),
        max_header_bytes: Some(3),
        max_uri_bytes: Some(4),
        forbid_headers: one("x-debug"),
        strip_headers: one("x-trace"),
        forbid_duplicates: one("*"),
        underscores: Some(underscores),
        ambiguous_paths: Some(ambiguous_paths),
    };
    let rules = vec![
        full(Underscores::Reject, AmbiguousPaths::Keep),
        full(Underscores::Keep, AmbiguousPaths::Reject),
        GuardRuleSpec { name: "b".into(), ..GuardRuleSpec::default() },
    ];
    let spec = RequestGuardSpec { selector: BTreeMap::from([("app".into(), "edge".into())]), rules };
    let meta = Meta { namespace: "n".into(), name: "p".into(), ..Meta::default() };
    let object = Named { meta, spec };
    let wire = v1::RequestGuard::from(&object);
    assert_eq!(Named::try_from(wire.clone()).unwrap(), object);
    let mut no_word = wire.clone();
    no_word.rules[0].underscores = Some(0);
    assert_eq!(Named::<RequestGuardSpec>::try_from(no_word).unwrap_err().field, "rules[0].underscores");
    let mut strange = wire;
    strange.rules[1].ambiguous_paths = Some(9);
    assert_eq!(Named::<RequestGuardSpec>::try_from(strange).unwrap_err().field, "rules[1].ambiguous_paths");
}

#[test]
fn serial_numbers_in_another_spelling_are_refused() {
    for serial in ["", "0a", "0x0A", "0A:0B", &"A".repeat(43)] {
        let field = refused(|body| body.revoked_serials = vec!["0A".into(), serial.to_owned()]);
        assert!(field.starts_with("revoked_serials[1]"), "{serial}: {field}");
    }
}
