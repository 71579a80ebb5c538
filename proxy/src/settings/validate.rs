//! What must hold between options, whoever set them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::edge::EdgeSettings;
use super::limit_store::LimitStoreSettings;
use super::parse::host_and_port;
use super::{Settings, Source};

mod health;

/// Several load balancers need minutes to forget an address; more is a mistake in the unit.
const DRAIN_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(5);
/// Long uploads; an orchestrator kills earlier anyway.
const DRAIN_DEADLINE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);
/// Below, reading the files would cost more than it gains.
const RELOAD_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
/// More than any machine has cores for.
const WORKERS: RangeInclusive<usize> = 1..=1024;
/// Below, a client on a slow link fails; above, waiting costs an attacker nothing.
const CLIENT_DEADLINE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
/// Below, a pause in a conversation ends it; above, silence holds a request's place for days.
const STREAM_IDLE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(24);
/// A week: what lasts for longer is no request.
const REQUEST_DURATION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24 * 7);
/// More than a process has file descriptors for.
const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;

/// One thing wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("{option} {address} is not a loopback address: {why}; use 127.0.0.1 or [::1]")]
    NotLoopback { option: &'static str, address: SocketAddr, why: &'static str },
    #[error("{first} and {second} both want {address}; give one of them another port")]
    SameAddress { first: String, second: String, address: SocketAddr },
    #[error("port {0} is served twice; each --serve names another port")]
    ServedTwice(u16),
    #[error(
        "--serve {port}: app={app} is where {listener} listens, so calls would go round; the application listens elsewhere"
    )]
    Loop { port: u16, app: SocketAddr, listener: String },
    #[error("--serve {0}: app= has port 0; name the port that the application listens on")]
    AppPort(u16),
    #[error(
        "--health-check is about the application of a --serve, and there is none; give --serve, or leave it out"
    )]
    NothingToCheck,
    #[error(
        "--adaptive-concurrency is about requests to a --serve that is not of protocol tcp, and there is none; leave it out"
    )]
    NothingToLimit,
    #[error(
        "--health-check {0} names no port, and several are served; name one that the application listens on, for \
         example http:8080/healthz"
    )]
    HealthPort(String),
    #[error(
        "--health-check {check} asks at {address}, where {listener} listens; name a port that the application listens on"
    )]
    HealthLoop { check: String, address: SocketAddr, listener: String },
    #[error("--health-check-header: a check by grpc or tcp has no headers; leave it out")]
    HealthHeaders,
    #[error("{option} is {value:?}; it must lie between {min:?} and {max:?}")]
    Range { option: &'static str, value: Duration, min: Duration, max: Duration },
    #[error("{option} is {value}; it must lie between {min} and {max}")]
    Count { option: &'static str, value: usize, min: usize, max: usize },
    #[error(
        "--handshakes-max is {handshakes}, more than --connections-max, which is {connections}: unfinished handshakes are connections too"
    )]
    HandshakesAboveConnections { handshakes: usize, connections: usize },
    #[error("--workers is {0}; it must lie between 1 and 1024")]
    Workers(usize),
    #[error("--control-plane {0:?} is no address: write HOST:PORT, for example mesh.corp.example:15012")]
    ControlPlane(String),
    #[error(
        "--advertise {0} cannot be reached from other hosts; give an address of this host, or leave the option out"
    )]
    Advertise(IpAddr),
    #[error("port {0} is listened on twice; each --listen names another port")]
    ListenedTwice(u16),
    #[error("--trusted-hops is {0}; it must lie between 0 and {max}", max = EdgeSettings::TRUSTED_HOPS_MAX)]
    TrustedHops(u8),
    #[error("nothing to do: give --listen")]
    NothingAtEdge,
    #[error("nothing to do: give at least one of --serve, --outbound-proxy and --outbound-port")]
    Nothing,
}

/// All that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError(pub Vec<SettingError>);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

/// One listener that the settings ask for.
struct Listener {
    name: String,
    address: SocketAddr,
}

impl Settings {
    /// Checks all that must hold between options; reports everything at once.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let mut errors = Vec::new();
        let listeners = self.listeners();
        self.check_loopback(&mut errors);
        self.check_serves(&listeners, &mut errors);
        check_addresses(&listeners, &mut errors);
        self.check_ranges(&mut errors);
        self.check_caps(&mut errors);
        self.check_source(&mut errors);
        self.check_health(&listeners, &mut errors);
        self.check_concurrency(&mut errors);
        match &self.edge {
            Some(edge) => check_edge(edge, &mut errors),
            None if self.serves.is_empty()
                && self.outbound_proxy.is_none()
                && self.outbound_ports.is_empty() =>
            {
                errors.push(SettingError::Nothing);
            }
            None => {}
        }
        if errors.is_empty() { Ok(()) } else { Err(SettingsError(errors)) }
    }

    fn listeners(&self) -> Vec<Listener> {
        let admin = Listener { name: "--admin".into(), address: self.admin };
        let proxy = self.outbound_proxy.map(|address| Listener { name: "--outbound-proxy".into(), address });
        let ports = self
            .outbound_ports
            .iter()
            .map(|p| Listener { name: format!("--outbound-port {}:{}", p.host, p.port), address: p.listen });
        let serves = self
            .serves
            .iter()
            .map(|s| Listener { name: format!("--serve {} listen=", s.port), address: s.listen });
        let edge = self.edge.iter().flat_map(|edge| &edge.listens);
        let listens = edge.map(|l| Listener { name: format!("--listen {} bind=", l.port), address: l.bind });
        [admin].into_iter().chain(proxy).chain(ports).chain(serves).chain(listens).collect()
    }

    fn check_loopback(&self, errors: &mut Vec<SettingError>) {
        let mut check = |option, address: SocketAddr, why| {
            if !address.ip().is_loopback() {
                errors.push(SettingError::NotLoopback { option, address, why });
            }
        };
        check("--admin", self.admin, "its answers are for this host alone");
        let lends = "whoever reaches it calls with this workload's identity";
        if let Some(address) = self.outbound_proxy {
            check("--outbound-proxy", address, lends);
        }
        for port in &self.outbound_ports {
            check("--outbound-port", port.listen, lends);
        }
        for serve in &self.serves {
            check("--serve app=", serve.app, "calls leave mutual TLS there, and must not leave the host");
        }
    }

    fn check_serves(&self, listeners: &[Listener], errors: &mut Vec<SettingError>) {
        let mut ports = BTreeSet::new();
        for serve in &self.serves {
            if !ports.insert(serve.port) {
                errors.push(SettingError::ServedTwice(serve.port));
            }
            if serve.app.port() == 0 {
                errors.push(SettingError::AppPort(serve.port));
            } else if let Some(listener) = listeners.iter().find(|l| overlap(l.address, serve.app)) {
                errors.push(SettingError::Loop {
                    port: serve.port,
                    app: serve.app,
                    listener: listener.name.clone(),
                });
            }
        }
    }

    fn check_ranges(&self, errors: &mut Vec<SettingError>) {
        let mut check = |option, value, range| errors.extend(out_of_range(option, value, range));
        check("--drain-delay", self.drain.withdraw_delay, DRAIN_DELAY);
        check("--drain-deadline", self.drain.deadline, DRAIN_DEADLINE);
        let limits = &self.limits;
        check("--handshake-timeout", limits.handshake_timeout, CLIENT_DEADLINE);
        check("--header-timeout", limits.header_read_timeout, CLIENT_DEADLINE);
        check("--idle-timeout", limits.client_idle_timeout, CLIENT_DEADLINE);
        if let Some(timeout) = limits.response_stall_timeout {
            check("--slow-reader-timeout", timeout, CLIENT_DEADLINE);
        }
        if let Some(timeout) = limits.body_timeout {
            check("--body-timeout", timeout, CLIENT_DEADLINE);
        }
        check("--stream-idle-timeout", limits.stream_idle_timeout, STREAM_IDLE);
        if let Some(longest) = limits.request_duration_max {
            check("--request-duration-max", longest, REQUEST_DURATION);
        }
        check("--tcp-idle-timeout", limits.tcp_idle_timeout, STREAM_IDLE);
        if let Source::Files { reload_interval, .. } = &self.source {
            check("--reload-interval", *reload_interval, RELOAD_INTERVAL);
        }
        if let Some(store) = &self.limit_store {
            check("--limit-store-timeout", store.timeout, LimitStoreSettings::TIMEOUT);
        }
        if !WORKERS.contains(&self.workers) {
            errors.push(SettingError::Workers(self.workers));
        }
    }

    fn check_caps(&self, errors: &mut Vec<SettingError>) {
        let (connections, handshakes) = (self.limits.connections_max, self.limits.handshakes_max);
        let requests = usize::try_from(self.limits.requests_max).unwrap_or(usize::MAX);
        for (option, value) in [
            ("--connections-max", connections),
            ("--handshakes-max", handshakes),
            ("--requests-max", requests),
        ] {
            if !CONNECTIONS.contains(&value) {
                let (min, max) = CONNECTIONS.into_inner();
                errors.push(SettingError::Count { option, value, min, max });
            }
        }
        if handshakes > connections {
            errors.push(SettingError::HandshakesAboveConnections { handshakes, connections });
        }
    }

    fn check_source(&self, errors: &mut Vec<SettingError>) {
        let Source::ControlPlane { address, advertise, .. } = &self.source else {
            return;
        };
        if host_and_port(address).is_none() {
            errors.push(SettingError::ControlPlane(address.clone()));
        }
        if let Some(ip) = advertise.filter(|ip| ip.is_unspecified() || ip.is_multicast()) {
            errors.push(SettingError::Advertise(ip));
        }
    }
}

fn out_of_range(
    option: &'static str,
    value: Duration,
    range: RangeInclusive<Duration>,
) -> Option<SettingError> {
    let (min, max) = range.into_inner();
    (value < min || value > max).then_some(SettingError::Range { option, value, min, max })
}

fn check_edge(edge: &EdgeSettings, errors: &mut Vec<SettingError>) {
    if edge.listens.is_empty() {
        errors.push(SettingError::NothingAtEdge);
    }
    let mut ports = BTreeSet::new();
    for listen in edge.listens.iter().filter(|listen| !ports.insert(listen.port)) {
        errors.push(SettingError::ListenedTwice(listen.port));
    }
    if edge.trusted_hops > EdgeSettings::TRUSTED_HOPS_MAX {
        errors.push(SettingError::TrustedHops(edge.trusted_hops));
    }
}

fn check_addresses(listeners: &[Listener], errors: &mut Vec<SettingError>) {
    for (i, second) in listeners.iter().enumerate() {
        if let Some(first) = listeners.iter().take(i).find(|first| overlap(first.address, second.address)) {
            errors.push(SettingError::SameAddress {
                first: first.name.clone(),
                second: second.name.clone(),
                address: second.address,
            });
        }
    }
}

/// Whether two sockets cannot be bound at once. Port 0 is a port of the system's choice.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_host
}

#[cfg(test)]
mod tests {
    use super::super::{DrainSettings, LocalPort, Serve, defaults};
    use super::*;

    pub(super) fn settings() -> Settings {
        Settings {
            source: Source::ControlPlane {
                address: "mesh.corp.example:15012".into(),
                join_token: None,
                state_dir: None,
                advertise: None,
            },
            serves: vec![Serve::parse("8080").unwrap()],
            health: None,
            adaptive_concurrency: None,
            outbound_proxy: Some(defaults::OUTBOUND_PROXY),
            outbound_ports: vec![LocalPort::parse("127.0.0.1:9001=ledger.payments:8080").unwrap()],
            edge: None,
            limit_store: None,
            trace: None,
            admin: defaults::ADMIN,
            access_log: None,
            workers: 2,
            drain: DrainSettings {
                withdraw_delay: defaults::DRAIN_DELAY,
                deadline: defaults::DRAIN_DEADLINE,
            },
            limits: super::super::limits::Limits::default(),
            ready_file: None,
        }
    }

    pub(super) fn check(change: impl FnOnce(&mut Settings), part: &str) {
        let mut changed = settings();
        change(&mut changed);
        let error = changed.validate().unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }

    #[test]
    fn accepts_the_defaults_and_several_ports_of_the_systems_choice() {
        settings().validate().unwrap();
        let mut zero = settings();
        zero.admin.set_port(0);
        zero.outbound_proxy = Some("[::1]:0".parse().unwrap());
        zero.serves = ["1,listen=0.0.0.0:0", "2,listen=0.0.0.0:0"].map(|s| Serve::parse(s).unwrap()).into();
        zero.validate().unwrap();
    }

    #[test]
    fn refuses_what_leaves_the_host() {
        check(|s| s.admin = "0.0.0.0:15000".parse().unwrap(), "--admin 0.0.0.0:15000 is not a loopback");
        check(|s| s.outbound_proxy = Some("10.0.0.1:15001".parse().unwrap()), "--outbound-proxy");
        check(|s| s.outbound_ports[0].listen = "[::]:9001".parse().unwrap(), "--outbound-port");
        check(|s| s.serves[0].app = "10.0.0.1:8080".parse().unwrap(), "--serve app= 10.0.0.1:8080");
    }

    #[test]
    fn refuses_two_listeners_on_one_port() {
        check(|s| s.serves.push(Serve::parse("9090").unwrap()), "both want 0.0.0.0:15006");
        check(|s| s.serves[0].listen = "0.0.0.0:15000".parse().unwrap(), "--admin and --serve 8080");
        check(|s| s.serves.push(Serve::parse("8080,listen=0.0.0.0:1").unwrap()), "served twice");
    }

    #[test]
    fn refuses_an_application_behind_its_own_sidecar_twice() {
        check(|s| s.serves[0].listen = "0.0.0.0:8080".parse().unwrap(), "calls would go round");
        check(|s| s.serves[0].app.set_port(0), "app= has port 0");
    }

    #[test]
    fn refuses_numbers_out_of_range() {
        check(|s| s.drain.withdraw_delay = Duration::from_mins(6), "--drain-delay is 360s");
        check(|s| s.drain.deadline = Duration::from_hours(2), "--drain-deadline");
        check(|s| s.workers = 0, "--workers is 0");
        check(
            |s| s.limits.header_read_timeout = Duration::ZERO,
            "--header-timeout is 0ns; it must lie between 100ms",
        );
        check(|s| s.limits.response_stall_timeout = Some(Duration::ZERO), "--slow-reader-timeout");
        check(|s| s.limits.body_timeout = Some(Duration::ZERO), "--body-timeout");
        check(|s| s.limits.tcp_idle_timeout = Duration::ZERO, "--tcp-idle-timeout");
        check(|s| s.limits.stream_idle_timeout = Duration::from_hours(25), "--stream-idle-timeout");
        check(|s| s.limits.request_duration_max = Some(Duration::ZERO), "--request-duration-max");
        check(|s| s.limits.requests_max = 0, "--requests-max is 0; it must lie between 1 and 1000000");
        check(|s| s.limits.handshakes_max = 0, "--handshakes-max is 0; it must lie between 1 and 1000000");
        check(|s| s.limits.connections_max = 2_000_000, "--connections-max is 2000000");
        check(|s| s.limits.connections_max = 10, "more than --connections-max, which is 10");
        let store = |timeout| LimitStoreSettings {
            address: "redis://127.0.0.1".parse().unwrap(),
            user: None,
            password_file: None,
            ca: None,
            timeout,
        };
        check(|s| s.limit_store = Some(store(Duration::ZERO)), "--limit-store-timeout");
        check(|s| s.limit_store = Some(store(Duration::from_secs(6))), "--limit-store-timeout");
    }

    #[test]
    fn refuses_an_edge_that_listens_nowhere_or_twice_on_a_port() {
        let edge = |listens: &[&str], trusted_hops| EdgeSettings {
            listens: listens.iter().map(|text| text.parse().unwrap()).collect(),
            credentials: None,
            trusted_hops,
            follow_traces: false,
            proxy_protocol_from: Vec::new(),
        };
        check(|s| s.edge = Some(edge(&[], 0)), "give --listen");
        check(|s| s.edge = Some(edge(&["443", "443,bind=127.0.0.1:1"], 0)), "port 443 is listened on twice");
        check(|s| s.edge = Some(edge(&["443,bind=0.0.0.0:15000"], 0)), "--admin and --listen 443");
        check(|s| s.edge = Some(edge(&["443"], 17)), "--trusted-hops is 17");
        let mut good = settings();
        good.serves.clear();
        good.outbound_ports.clear();
        good.outbound_proxy = None;
        good.edge = Some(edge(&["443,bind=0.0.0.0:0", "80,bind=0.0.0.0:0"], 16));
        good.validate().unwrap();
    }

    #[test]
    fn refuses_addresses_that_mean_nothing() {
        let source = |address: &str, advertise: Option<&str>| Source::ControlPlane {
            address: address.into(),
            join_token: None,
            state_dir: None,
            advertise: advertise.map(|ip| ip.parse().unwrap()),
        };
        check(|s| s.source = source("https://mesh:15012", None), "is no address");
        check(|s| s.source = source("mesh", None), "is no address");
        check(|s| s.source = source("mesh:1", Some("0.0.0.0")), "--advertise 0.0.0.0");
    }

    #[test]
    fn reports_everything_at_once() {
        let mut wrong = settings();
        wrong.admin = "0.0.0.0:15000".parse().unwrap();
        wrong.workers = 0;
        wrong.serves.clear();
        wrong.outbound_proxy = None;
        wrong.outbound_ports.clear();
        assert_eq!(wrong.validate().unwrap_err().0.len(), 3);
    }
}
