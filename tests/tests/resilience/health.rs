//! An application that is not well: its own sidecar refuses, the mesh is told, callers go elsewhere, and nothing is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Version;
use palisade_tests::client::{self, Answer};
use palisade_tests::documents::service_entry;
use palisade_tests::patient::Health;
use palisade_tests::world::expecting;
use palisade_tests::{Patient, Sidecar, SidecarBuilder, TcpService, World, until};
use serde_json::{Value, json};

use crate::PALISADE;
use crate::sidecars::OPEN;

const LEDGER: &str = "http://ledger.payments:8080/transfers";

fn quick(builder: SidecarBuilder, check: &str) -> SidecarBuilder {
    builder
        .arg("--health-check", check)
        .arg("--health-check-interval", "100ms")
        .arg("--health-check-failure-threshold", "2")
}

/// Waits until the sidecar says of its application: well, or not for this cause.
async fn until_told(sidecar: &Sidecar, cause: Option<&str>) {
    until("what the sidecar says of its application", || async {
        let answer = sidecar.admin("/ready/application").await;
        let page: Value = serde_json::from_str(&answer.text()).unwrap();
        let told = (
            answer.status == 200,
            page["application"]["healthy"] == true,
            page["application"]["cause"].as_str(),
        );
        if told == (cause.is_none(), cause.is_none(), cause) { Ok(()) } else { Err(page) }
    })
    .await;
}

/// A ledger alone in a mesh of files, and a peer that calls it without a sidecar.
struct Alone {
    world: World,
    app: Patient,
    sidecar: Sidecar,
}

impl Alone {
    async fn start(protocol: &str, check: &str, health: Health) -> Self {
        let world = World::of_files(PALISADE);
        world.policy("open.yaml", OPEN);
        let app = Patient::start(health).await;
        let builder = world.file_sidecar("payments/ledger").serve_as(8080, protocol, app.address());
        let sidecar = quick(builder, check).start().await;
        Self { world, app, sidecar }
    }

    async fn call(&self, id: &str) -> Answer {
        let (svid, bundle) = (self.world.pki.svid("payments/web"), &self.world.pki.bundle);
        let expected = expecting("payments/ledger");
        let address = self.sidecar.inbound(8080);
        let stream =
            client::connect_tls(address, Some(&svid), bundle, expected, &[b"http/1.1"]).await.unwrap();
        let mut request = client::request("POST", "/transfers", "pay");
        request.headers_mut().insert("host", "ledger.payments:8080".parse().unwrap());
        request.headers_mut().insert("x-id", id.parse().unwrap());
        client::send_on(stream, request).await.unwrap()
    }
}

#[tokio::test]
async fn requests_are_refused_until_the_application_is_well_and_while_it_is_not() {
    for (protocol, check, ailment, cause) in [
        ("http", "http:/healthz", Health::Ill(500), "status"),
        ("http", "http:/healthz", Health::Hangs, "timeout"),
        ("http", "http:/healthz", Health::Gone, "connect"),
        ("http", "tcp", Health::Gone, "connect"),
        ("grpc", "grpc:/ledger.v1.Ledger", Health::Ill(200), "not_serving"),
        ("grpc", "grpc", Health::Hangs, "timeout"),
        ("http2", "http:/healthz", Health::Ill(503), "status"),
    ] {
        println!("{protocol} {check} {ailment:?}");
        let ledger = Alone::start(protocol, check, ailment).await;
        until_told(&ledger.sidecar, Some(cause)).await;
        assert_eq!(
            ledger.sidecar.admin("/ready").await.status,
            200,
            "applications may wait for their sidecars"
        );
        let refused = ledger.call("early").await;
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("x-palisade-refused"), Some("before;unwell"));

        ledger.app.becomes(Health::Well).await;
        until_told(&ledger.sidecar, None).await;
        assert_eq!(ledger.call("first").await.status, 200);
        assert_eq!(ledger.sidecar.metric("palisade_application_healthy", &[]).await, 1.0);

        ledger.app.becomes(ailment).await;
        until_told(&ledger.sidecar, Some(cause)).await;
        assert_eq!(ledger.call("late").await.status, 503);
        let details = json!(format!("health_check_{cause}"));
        let fields = [
            ("reason", json!("application_unhealthy")),
            ("response_flags", json!("UH")),
            ("response_code_details", details),
        ];
        ledger.sidecar.records_with(2, &fields).await;
        assert_eq!(ledger.sidecar.metric("palisade_application_healthy", &[]).await, 0.0);
        assert_eq!(ledger.sidecar.metric("palisade_health_changes_total", &["to=\"unhealthy\""]).await, 1.0);

        ledger.app.becomes(Health::Well).await;
        until_told(&ledger.sidecar, None).await;
        assert_eq!(ledger.call("second").await.status, 200);
        let done = ledger.app.done();
        assert_eq!(done.into_iter().collect::<Vec<_>>(), [("first".into(), 1), ("second".into(), 1)]);
        let log = ledger.sidecar.process.log();
        assert!(
            log.contains("the application is unhealthy") && log.contains("the application is healthy"),
            "{log}"
        );
    }
}

#[tokio::test]
async fn a_check_says_who_asks_and_brings_the_headers_that_it_is_given() {
    let world = World::of_files(PALISADE);
    world.policy("open.yaml", OPEN);
    let app = Patient::start(Health::Ill(302)).await;
    let builder = world.file_sidecar("payments/ledger").serve(8080, app.address());
    let builder = quick(builder, "http:/healthz?deep=1");
    let sidecar = builder.arg("--health-check-header", "host=ledger.local;x-check=yes").start().await;
    // As kubelets and Istio have it, and not followed.
    until_told(&sidecar, None).await;
    let check = app.checks().remove(0);
    assert_eq!((check.target.as_str(), check.version), ("/healthz?deep=1", Version::HTTP_11));
    assert!(check.headers["host"] == "ledger.local" && check.headers["x-check"] == "yes");
    assert!(check.headers["user-agent"].to_str().unwrap().starts_with("palisade-health-check/"));
    assert!(!sidecar.process.log().contains("deep=1"), "a query may be a secret");

    let grpc = Alone::start("grpc", "grpc:/ledger.v1.Ledger", Health::Well).await;
    until_told(&grpc.sidecar, None).await;
    let check = grpc.app.checks().remove(0);
    assert_eq!(check.body.as_ref(), b"\0\0\0\0\x12\x0a\x10ledger.v1.Ledger");
    assert!(check.version == Version::HTTP_2 && check.headers["te"] == "trailers");
}

#[tokio::test]
async fn who_may_not_call_is_not_told_how_the_application_is() {
    let ledger = Alone::start("http", "http:/healthz", Health::Ill(500)).await;
    until_told(&ledger.sidecar, Some("status")).await;
    let nobody = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: payments}
spec: {action: DENY, rules: [{}]}
";
    ledger.world.policy("nobody.yaml", nobody);
    until("the policy to be in force", || async {
        let status = ledger.call("denied").await.status.as_u16();
        if status == 403 { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn connections_of_tcp_are_not_let_through_to_an_application_that_is_ill_and_open_ones_go_on() {
    let world = World::of_files(PALISADE);
    world.policy("open.yaml", OPEN);
    let (database, doctor) = (TcpService::start().await, Patient::start(Health::Well).await);
    let builder = world.file_sidecar("payments/ledger").serve_as(8080, "tcp", database.address());
    let sidecar = quick(builder, &format!("http:{}/healthz", doctor.address().port())).start().await;
    world.policy("ledger.yaml", &service_entry("ledger", sidecar.inbound(8080), "TCP"));
    let web = world.file_sidecar("payments/web").local_port("ledger.payments:8080").start().await;
    let address = web.local_port("ledger.payments:8080");
    until_told(&sidecar, None).await;
    let mut open = greeted(address).await.expect("let through");
    doctor.becomes(Health::Ill(500)).await;
    until_told(&sidecar, Some("status")).await;
    assert!(greeted(address).await.is_none(), "reset before the server has said a word");
    let fields = [("protocol", json!("TCP")), ("reason", json!("application_unhealthy"))];
    sidecar.records_with(1, &fields).await;
    let echoed = client::raw(&mut open, b"still here\n").await;
    assert!(String::from_utf8_lossy(&echoed).contains("still here"), "{echoed:?}");
}

/// A connection whose server has greeted.
async fn greeted(address: SocketAddr) -> Option<tokio::net::TcpStream> {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let heard = client::raw(&mut stream, b"").await;
    (heard == palisade_tests::tcp::GREETING).then_some(stream)
}

/// Two ledgers in a mesh with a control plane, and one that pays.
struct Pair {
    world: World,
    apps: [Patient; 2],
    ledgers: [Sidecar; 2],
    web: Sidecar,
}

impl Pair {
    async fn start() -> Self {
        let world = World::start(PALISADE).await;
        world.apply(OPEN).await;
        let apps = [Patient::start(Health::Well).await, Patient::start(Health::Well).await];
        let mut ledgers = Vec::new();
        for (name, app) in ["ledger-0", "ledger-1"].into_iter().zip(&apps) {
            let builder = world.sidecar_named("payments/ledger", name).await.serve(8080, app.address());
            ledgers.push(quick(builder, "http:/healthz").start().await);
        }
        let web = world.sidecar("payments/web").await.outbound().start().await;
        let pair = Self { world, apps, ledgers: ledgers.try_into().unwrap(), web };
        pair.until_known(2).await;
        pair
    }

    /// Waits until the caller's sidecar knows so many instances.
    async fn until_known(&self, count: u64) {
        until("the caller to know of instances", || async {
            let page: Value = serde_json::from_str(&self.web.admin("/config").await.text()).unwrap();
            let all = page["configuration"]["destinations"].as_array().cloned().unwrap_or_default();
            let known = all.iter().find(|destination| destination["host"] == "ledger.payments");
            if known.is_some_and(|known| known["endpoints"] == count) { Ok(()) } else { Err(page) }
        })
        .await;
    }

    /// What `palisade proxies` shows of the first ledger.
    async fn shown(&self) -> Value {
        let first = self.ledgers[0].inbound(8080).to_string();
        let all = self.world.proxies().await;
        let serves = |proxy: &Value| proxy["serves"][0]["address"] == first;
        all.into_iter().find(serves).unwrap_or_else(|| panic!("not registered: {first}"))
    }
}

/// Payments without pause, one after the other on each of a few connections of their own.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    callers: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(proxy: SocketAddr) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let caller = |_| {
            let (stop, sent) = (stop.clone(), sent.clone());
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let id = sent.fetch_add(1, Ordering::Relaxed).to_string();
                    let mut request = client::request("POST", LEDGER, "pay");
                    request.headers_mut().insert("x-id", id.parse().unwrap());
                    let answer = client::try_send(proxy, request).await;
                    if !matches!(&answer, Ok(answer) if answer.status == 200) {
                        failures.push(format!("{id}: {answer:?}"));
                    }
                }
                failures
            })
        };
        let callers = (0..16).map(caller).collect();
        Self { stop, sent, callers }
    }

    /// Waits until so many more were sent.
    async fn goes_on(&self, count: usize) {
        let goal = self.sent.load(Ordering::Relaxed) + count;
        until("more payments", || async {
            let sent = self.sent.load(Ordering::Relaxed);
            if sent >= goal { Ok(()) } else { Err(sent) }
        })
        .await;
    }

    /// Every payment was answered with 200, and came to one of the two once.
    async fn ends_well(self, apps: &[Patient; 2]) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for caller in self.callers {
            failures.extend(caller.await.unwrap());
        }
        let sent = self.sent.load(Ordering::Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {sent} failed: {:?}",
            failures.len(),
            &failures[..failures.len().min(3)]
        );
        let mut done = apps[0].done();
        for (id, count) in apps[1].done() {
            *done.entry(id).or_default() += count;
        }
        assert_eq!(done.len(), sent, "each arrived");
        assert!(done.values().all(|count| *count == 1), "and none twice");
        println!("{sent} payments, each delivered once");
    }
}

#[tokio::test]
async fn no_payment_is_lost_while_one_of_two_instances_is_withdrawn_and_comes_back() {
    let pair = Pair::start().await;
    let load = Load::start(pair.web.http_proxy());
    for (ailment, cause) in [(Health::Ill(500), "status 500"), (Health::Hangs, "no answer within 1s")] {
        load.goes_on(100).await;
        pair.apps[0].becomes(ailment).await;
        pair.until_known(1).await;
        let shown = pair.shown().await;
        assert_eq!((&shown["connected"], &shown["ready"]), (&json!(true), &json!(false)));
        assert_eq!(shown["application"]["healthy"], false);
        let told = shown["application"]["cause"].as_str().unwrap();
        assert!(told.starts_with("http:/healthz at 127.0.0.1:") && told.ends_with(cause), "{told}");
        let table = pair.world.operator(&["proxies"]).await.stdout;
        assert!(table.contains(&format!("unhealthy: {told}")), "{table}");
        let before = pair.apps[0].done().len();
        load.goes_on(100).await;
        assert_eq!(pair.apps[0].done().len(), before, "nobody calls it");
        pair.apps[0].becomes(Health::Well).await;
        pair.until_known(2).await;
        assert_eq!(pair.shown().await["application"], json!({"healthy": true, "cause": null}));
        until("it to be called again", || async {
            let now = pair.apps[0].done().len();
            if now > before { Ok(()) } else { Err(now) }
        })
        .await;
    }
    let control_plane = pair.world.control_plane.as_ref().unwrap().log();
    assert!(
        control_plane.contains("application's health") && control_plane.contains("status 500"),
        "{control_plane}"
    );
    load.ends_well(&pair.apps).await;
}

#[tokio::test]
async fn without_a_control_plane_the_sidecar_refuses_by_itself_and_callers_pay_elsewhere() {
    let mut pair = Pair::start().await;
    let load = Load::start(pair.web.http_proxy());
    load.goes_on(50).await;
    pair.world.kill_control_plane().await;
    pair.apps[0].becomes(Health::Ill(500)).await;
    until_told(&pair.ledgers[0], Some("status")).await;
    let before = pair.apps[0].done().len();
    load.goes_on(100).await;
    assert_eq!(pair.apps[0].done().len(), before);
    // Callers remember it, so that it is hardly asked.
    let refused = pair.ledgers[0].records_with(1, &[("reason", json!("application_unhealthy"))]).await.len();
    let sent = load.sent.load(Ordering::Relaxed);
    assert!(refused * 3 < sent, "{refused} of {sent}");
    // What it missed it hears when it is back.
    pair.world.start_control_plane().await;
    pair.until_known(1).await;
    load.ends_well(&pair.apps).await;
}

#[tokio::test]
async fn what_is_under_way_goes_on_while_its_instance_is_withdrawn() {
    let pair = Pair::start().await;
    pair.apps[1].becomes(Health::Ill(500)).await;
    pair.until_known(1).await;
    let proxy = pair.web.http_proxy();
    let held = tokio::spawn(async move {
        client::send(proxy, client::request("POST", "http://ledger.payments:8080/hold", "pay")).await
    });
    until("the request to be there", || async {
        let done = pair.apps[0].done();
        if done.len() == 1 { Ok(()) } else { Err(done) }
    })
    .await;
    pair.apps[0].becomes(Health::Ill(500)).await;
    pair.until_known(0).await;
    let refused = client::post(proxy, LEDGER, "pay").await;
    assert_eq!(refused.status, 503, "nobody is left");
    pair.apps[0].release();
    assert_eq!(held.await.unwrap().status, 200);
}
