use std::time::UNIX_EPOCH;

use palisade_identity::SpiffeId;
use palisade_policy::kind::service_entry::Protocol;
use palisade_proto::v1::peer_authentication::Mode;

use super::*;

const GRACE: Duration = Duration::from_secs(5);
const RESTART_GRACE: Duration = Duration::from_secs(60);

fn workload(account: &str) -> Workload {
    let id = SpiffeId::parse(&format!("spiffe://corp.example/ns/payments/sa/{account}")).unwrap();
    Workload { id, labels: BTreeMap::from([("app".into(), account.into())]) }
}

fn served(number: u16, address: &str) -> Served {
    Served { number, name: "http".into(), protocol: Protocol::Http, address: address.parse().unwrap() }
}

fn about(serves: &[Served]) -> About {
    About { binary_version: "1".into(), hostname: "h".into(), serves: serves.to_vec() }
}

fn later() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(2_000_000_000)
}

fn empty() -> Registry {
    Registry::new([], GRACE, RESTART_GRACE)
}

fn join(registry: &Registry, id: &str, serves: &[Served]) -> (StreamId, watch::Receiver<Option<StopReason>>) {
    registry.connect(id, &workload("ledger"), later(), about(serves), UNIX_EPOCH)
}

/// Addresses published now.
fn endpoints(registry: &Registry) -> Vec<String> {
    registry.sweep(UNIX_EPOCH);
    let services = registry.services();
    services
        .iter()
        .flat_map(|s| &s.endpoints)
        .flat_map(|e| e.addresses.values())
        .map(ToString::to_string)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn publishes_an_endpoint_once_the_proxy_is_ready() {
    let registry = empty();
    let (stream, _stop) = join(&registry, "a", &[served(8080, "10.0.0.1:1")]);
    assert!(endpoints(&registry).is_empty());
    assert_eq!(registry.services().len(), 1, "the service is known without endpoints");
    registry.set_ready("a", stream, true, None);
    assert_eq!(endpoints(&registry), ["10.0.0.1:1"]);
    registry.set_ready("a", stream, false, None);
    assert!(endpoints(&registry).is_empty());
}

#[tokio::test(start_paused = true)]
async fn withdraws_at_once_when_draining_and_stays_withdrawn() {
    let registry = empty();
    let (stream, _stop) = join(&registry, "a", &[served(8080, "10.0.0.1:1")]);
    registry.set_ready("a", stream, true, None);
    registry.drain("a", stream);
    assert!(endpoints(&registry).is_empty());
    registry.set_ready("a", stream, true, None);
    assert!(endpoints(&registry).is_empty());
    registry.disconnect("a", stream);
    assert!(endpoints(&registry).is_empty());
}

#[tokio::test(start_paused = true)]
async fn keeps_the_endpoints_of_a_lost_proxy_for_the_grace_only() {
    let registry = empty();
    let (stream, _stop) = join(&registry, "a", &[served(8080, "10.0.0.1:1")]);
    registry.set_ready("a", stream, true, None);
    registry.disconnect("a", stream);
    tokio::time::advance(GRACE - Duration::from_millis(1)).await;
    assert_eq!(endpoints(&registry).len(), 1);
    assert!(registry.next_deadline().is_some());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(endpoints(&registry).is_empty());
    assert!(registry.next_deadline().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_withdraws_nothing_but_must_confirm() {
    let registry = empty();
    let port = served(8080, "10.0.0.1:1");
    let (stream, _stop) = join(&registry, "a", std::slice::from_ref(&port));
    registry.set_ready("a", stream, true, None);
    registry.disconnect("a", stream);
    let (second, _stop) = join(&registry, "a", std::slice::from_ref(&port));
    assert_eq!(endpoints(&registry).len(), 1);
    tokio::time::advance(GRACE).await;
    assert!(endpoints(&registry).is_empty(), "it never said that it is ready");
    registry.set_ready("a", second, true, None);
    tokio::time::advance(GRACE * 10).await;
    assert_eq!(endpoints(&registry).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_with_other_addresses_starts_anew() {
    let registry = empty();
    let (stream, _stop) = join(&registry, "a", &[served(8080, "10.0.0.1:1")]);
    registry.set_ready("a", stream, true, None);
    let (_, _stop) = join(&registry, "a", &[served(8080, "10.0.0.1:2")]);
    assert!(endpoints(&registry).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_second_stream_replaces_the_first_and_outlives_its_end() {
    let registry = empty();
    let port = served(8080, "10.0.0.1:1");
    let (first, stop) = join(&registry, "a", std::slice::from_ref(&port));
    let (second, _stop) = join(&registry, "a", std::slice::from_ref(&port));
    assert_eq!(*stop.borrow(), Some(StopReason::Replaced));
    registry.set_ready("a", second, true, None);
    registry.set_ready("a", first, false, None);
    registry.drain("a", first);
    registry.disconnect("a", first);
    tokio::time::advance(GRACE * 2).await;
    assert_eq!(endpoints(&registry).len(), 1);
    assert_eq!(registry.connected(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn eviction_ends_the_stream_and_withdraws() {
    let registry = empty();
    let (stream, stop) = join(&registry, "a", &[served(8080, "10.0.0.1:1")]);
    registry.set_ready("a", stream, true, None);
    registry.evict("a", "broken");
    assert_eq!(*stop.borrow(), Some(StopReason::Evicted("broken".into())));
    assert!(endpoints(&registry).is_empty());
    registry.set_ready("a", stream, true, None);
    assert!(endpoints(&registry).is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_endpoints_wait_for_their_proxies() {
    let known = |id: &str, serves| (id.to_owned(), workload("ledger"), later(), serves);
    let registry = Registry::new(
        [
            known("a", vec![served(8080, "10.0.0.1:1")]),
            known("b", vec![served(8080, "10.0.0.2:1")]),
            known("c", vec![]),
        ],
        GRACE,
        RESTART_GRACE,
    );
    assert_eq!(endpoints(&registry), ["10.0.0.1:1", "10.0.0.2:1"]);
    let (stream, _stop) = join(&registry, "a", &[served(8080, "10.0.0.1:1")]);
    registry.set_ready("a", stream, true, None);
    tokio::time::advance(RESTART_GRACE).await;
    assert_eq!(endpoints(&registry), ["10.0.0.1:1"]);
}

#[tokio::test(start_paused = true)]
async fn instances_of_one_account_are_one_service_with_the_union_of_ports() {
    let registry = empty();
    let (a, _s1) = join(&registry, "a", &[served(8080, "10.0.0.1:1")]);
    let (b, _s2) = join(&registry, "b", &[served(8080, "10.0.0.2:1"), served(9090, "10.0.0.2:2")]);
    registry.set_ready("a", a, true, None);
    registry.set_ready("b", b, true, None);
    let services = registry.services();
    assert_eq!(services.len(), 1);
    assert_eq!((services[0].name.as_str(), services[0].namespace.as_str()), ("ledger", "payments"));
    assert_eq!(services[0].ports.iter().map(|p| p.number).collect::<Vec<_>>(), [8080, 9090]);
    assert_eq!(services[0].endpoints.len(), 2);
    assert_eq!(services[0].identities, BTreeMap::from([(workload("ledger").id, ())]).into_keys().collect());
}

#[tokio::test(start_paused = true)]
async fn forgets_an_instance_when_its_certificate_has_ended() {
    let registry = empty();
    registry.issued("a", &workload("ledger"), UNIX_EPOCH + Duration::from_secs(10));
    registry.sweep(UNIX_EPOCH + Duration::from_secs(9));
    assert_eq!(registry.proxies().len(), 1);
    registry.sweep(UNIX_EPOCH + Duration::from_secs(10));
    assert!(registry.proxies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_for_its_version_and_all_before() {
    let registry = empty();
    let (stream, _stop) = join(&registry, "a", &[]);
    let answer = |version, refused| Answer { version, digest: vec![1], at: Instant::now(), refused };
    registry.answer("a", stream, answer(3, None));
    assert!(registry.answer_for("a", 3).unwrap().1.is_some());
    assert!(registry.answer_for("a", 4).unwrap().1.is_none());
    registry.answer("a", stream, answer(4, Some(vec![v1::Finding::default()])));
    let proxy = registry.proxies().remove(0);
    assert_eq!((proxy.acked_version, proxy.nacked.len()), (3, 1));
    registry.answer("a", stream, answer(5, None));
    assert!(registry.proxies()[0].nacked.is_empty());
}

#[tokio::test(start_paused = true)]
async fn knows_the_name_of_a_workload_that_only_calls() {
    let registry = empty();
    let (_stream, _stop) = join(&registry, "a", &[]);
    assert!(registry.services().is_empty());
    assert_eq!(registry.known_workloads(), ["ledger.payments"]);
}

const BOUNDS: Bounds = Bounds { age_max: Duration::from_secs(60), callers_max: 2 };

/// A report of port 8080: watched for so many seconds, plaintext from `sources` (last byte, seconds ago).
fn calls(watched: u64, sources: &[(u8, u64)]) -> Calls {
    let source = |(last, ago): &(u8, u64)| Source {
        address: [10, 0, 0, *last].into(),
        calls: 1,
        ago: Duration::from_secs(*ago),
    };
    let port = PortCalls {
        mode: Mode::Permissive,
        mutual_tls: 1,
        plaintext: u64::try_from(sources.len()).unwrap(),
        refused: 0,
        plaintext_ago: sources.iter().map(|(_, ago)| Duration::from_secs(*ago)).min(),
        sources: sources.iter().map(source).collect(),
        more: false,
    };
    Calls { at: Instant::now(), watched: Duration::from_secs(watched), ports: BTreeMap::from([(8080, port)]) }
}

fn called(registry: &Registry) -> v1::ServiceCalls {
    let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let [port] = <[_; 1]>::try_from(registry.calls(now, BOUNDS)).unwrap();
    port
}

#[tokio::test(start_paused = true)]
async fn a_service_was_watched_since_all_of_its_instances_were() {
    let registry = empty();
    let (a, _s1) = join(&registry, "a", &[served(8080, "10.0.0.1:1")]);
    let (b, _s2) = join(&registry, "b", &[served(8080, "10.0.0.2:1")]);
    assert_eq!((called(&registry).instances, called(&registry).reporting), (2, 0));
    registry.called("a", a, calls(100, &[]));
    let half = called(&registry);
    assert_eq!((half.reporting, half.watched_seconds, half.watched_since.as_str()), (1, None, ""));
    registry.called("b", b, calls(30, &[]));
    tokio::time::advance(Duration::from_secs(5)).await;
    let both = called(&registry);
    assert_eq!((both.reporting, both.watched_seconds, both.mutual_tls), (2, Some(35), 2));
    assert_eq!(both.watched_since, "1970-01-12T13:46:05Z");
    // A proxy that stopped to report is one without a report.
    tokio::time::advance(BOUNDS.age_max).await;
    assert_eq!((called(&registry).reporting, called(&registry).watched_seconds), (0, None));
}

#[tokio::test(start_paused = true)]
async fn of_callers_in_plaintext_the_last_are_shown_and_stay_when_their_instance_goes() {
    let registry = empty();
    let (a, _s1) = join(&registry, "a", &[served(8080, "10.0.0.1:1")]);
    let (b, _s2) = join(&registry, "b", &[served(8080, "10.0.0.2:1")]);
    registry.called("a", a, calls(100, &[(1, 50), (2, 9)]));
    registry.called("b", b, calls(100, &[(1, 3), (3, 70)]));
    registry.disconnect("a", a);
    tokio::time::advance(GRACE).await;
    registry.sweep(UNIX_EPOCH);
    let port = called(&registry);
    assert_eq!((port.instances, port.plaintext, port.plaintext_seconds_ago), (1, 4, Some(8)));
    let callers = port.callers.iter().map(|c| (c.address.as_str(), c.calls, c.seconds_ago));
    assert_eq!(callers.collect::<Vec<_>>(), [("10.0.0.1", 2, 8), ("10.0.0.2", 1, 14)]);
    assert!(port.more_callers);
    // What an ended stream still says counts for nothing.
    registry.called("a", a, calls(1, &[]));
    assert_eq!(called(&registry).plaintext, 4);
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_application_is_ill_is_withdrawn_whatever_its_proxy_says_of_itself_and_comes_back()
{
    let registry = empty();
    let port = served(8080, "10.0.0.1:1");
    let (stream, _stop) = join(&registry, "a", std::slice::from_ref(&port));
    let ill = |cause: &str| Some(v1::Application { healthy: false, cause: cause.into() });
    let well = Some(v1::Application { healthy: true, cause: String::new() });
    assert!(registry.set_ready("a", stream, false, ill("no good check yet")), "nothing was known");
    assert!(!registry.set_ready("a", stream, false, ill("no connection")), "it is as ill as it was");
    assert!(endpoints(&registry).is_empty());
    assert!(registry.set_ready("a", stream, true, well.clone()));
    assert_eq!(endpoints(&registry), ["10.0.0.1:1"]);
    assert!(registry.set_ready("a", stream, true, ill("status 500")));
    assert!(endpoints(&registry).is_empty(), "ready and ill is not ready");
    assert_eq!(registry.count(), Counts { connected: 1, ready: 0, unhealthy: 1 });
    let shown = registry.proxies().remove(0);
    assert_eq!((shown.ready, shown.application), (false, ill("status 500")));

    registry.disconnect("a", stream);
    assert_eq!(registry.proxies()[0].application, None, "of one that is away nothing is known");
    let (stream, _stop) = join(&registry, "a", std::slice::from_ref(&port));
    assert!(endpoints(&registry).is_empty(), "a reconnect makes nobody well");
    registry.set_ready("a", stream, true, well);
    assert_eq!(endpoints(&registry).len(), 1);
}
