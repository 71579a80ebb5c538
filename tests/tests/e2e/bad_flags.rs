//! Command lines that cannot be run: what is wrong, where, what to do; exit code 2; nothing is started.

use palisade_tests::World;
use tokio::net::TcpListener;

use crate::PALISADE;
use crate::fleet::assert_refused;

const CONTROL_PLANE: &[&str] = &["control-plane", "--listen", "127.0.0.1:0", "--data-dir", "data"];

#[tokio::test]
async fn a_control_plane_is_refused_what_it_cannot_run_with() {
    let world = World::of_files(PALISADE);
    let data = world.data_dir().display().to_string();
    let rows: &[(&[&str], &[&str])] = &[
        (&[], &["--trust-domain"]),
        (&["--trust-domain", "not a domain"], &["--trust-domain", "not a domain"]),
        (&["--trust-domain", "UPPER.example"], &["--trust-domain", "UPPER.example"]),
        (&["--trust-domain", "test.mesh", "--svid-ttl", "1s"], &["--svid-ttl", "5m"]),
        (&["--trust-domain", "test.mesh", "--svid-ttl", "25h"], &["--svid-ttl", "24h"]),
        (&["--trust-domain", "test.mesh", "--svid-ttl", "an hour"], &["--svid-ttl", "an hour"]),
        (&["--trust-domain", "test.mesh", "--admin", "0.0.0.0:0"], &["--admin", "loopback"]),
        (&["--trust-domain", "test.mesh", "--listen-on", "1"], &["--listen-on"]),
    ];
    for (options, words) in rows {
        let base: Vec<&str> =
            CONTROL_PLANE.iter().map(|arg| if *arg == "data" { &data } else { *arg }).collect();
        let done = world.palisade(&[&base, *options].concat()).await;
        assert_refused(&done, 2, words);
        assert!(!world.data_dir().join("ca").exists(), "{options:?} made a certificate authority");
    }
}

#[tokio::test]
async fn a_proxy_is_refused_what_it_cannot_run_with() {
    let world = World::of_files(PALISADE);
    let rows: &[(&[&str], &[&str])] = &[
        (&[], &["--control-plane"]),
        (&["--control-plane", "127.0.0.1:1"], &["--serve", "--outbound-proxy"]),
        (&["--control-plane", "127.0.0.1", "--outbound-proxy", "127.0.0.1:0"], &["127.0.0.1", "HOST:PORT"]),
        (
            &["--control-plane", "127.0.0.1:1", "--outbound-proxy", "0.0.0.0:0"],
            &["--outbound-proxy", "loopback"],
        ),
        (&["--control-plane", "127.0.0.1:1", "--serve", "99999"], &["--serve", "99999"]),
        (&["--control-plane", "127.0.0.1:1", "--serve", "80,protocol=smtp"], &["smtp", "http"]),
        (&["--control-plane", "127.0.0.1:1", "--serve", "80,app=10.0.0.1:80"], &["10.0.0.1:80", "loopback"]),
        (&["--control-plane", "127.0.0.1:1", "--outbound-port", "127.0.0.1:0"], &["--outbound-port"]),
        (
            &["--control-plane", "127.0.0.1:1", "--outbound-proxy", "127.0.0.1:0", "--workers", "0"],
            &["--workers"],
        ),
        (
            &["--control-plane", "127.0.0.1:1", "--outbound-proxy", "127.0.0.1:0", "--join-token", "x"],
            &["join token", "palisade token create"],
        ),
    ];
    for (options, words) in rows {
        let base = ["proxy", "--admin", "127.0.0.1:0"];
        let done = world.palisade(&[&base[..], options].concat()).await;
        assert_refused(&done, 2, words);
    }
    let done = world
        .palisade(&["proxy", "--admin", "0.0.0.0:0", "--control-plane", "127.0.0.1:1", "--outbound-proxy"])
        .await;
    assert_refused(&done, 2, &["--admin", "loopback"]);
}

#[tokio::test]
async fn a_port_in_use_is_named_and_costs_no_join_token() {
    let world = World::start(PALISADE).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let token = world.token("payments/ledger", &[]).await;
    let control_plane = world.address().to_string();
    let base = ["proxy", "--control-plane", &control_plane, "--join-token", &token];
    let free = "127.0.0.1:0";
    let serve = format!("8080,listen={address},app=127.0.0.1:9");
    for options in [
        ["--admin", &address, "--outbound-proxy", free],
        ["--admin", free, "--outbound-proxy", &address],
        ["--admin", free, "--serve", &serve],
    ] {
        let done = world.palisade(&[&base[..], &options].concat()).await;
        assert_refused(&done, 1, &[&address, "another"]);
    }
    world.attest(&token).await.unwrap();

    let data = world.folder().join("other").display().to_string();
    let base = ["control-plane", "--trust-domain", "test.mesh", "--data-dir", &data];
    for options in [["--listen", &address, "--admin", free], ["--listen", free, "--admin", &address]] {
        let done = world.palisade(&[&base[..], &options].concat()).await;
        assert_refused(&done, 1, &[&address, "in use"]);
    }
}

#[tokio::test]
async fn operators_commands_say_what_they_lack() {
    let world = World::start(PALISADE).await;
    let server = world.address().to_string();
    let operator = world.data_dir().join("operator").display().to_string();
    let nowhere = world.folder().join("nowhere").display().to_string();
    let rows: &[(&[&str], i32, &[&str])] = &[
        (&["get"], 2, &["--server"]),
        (&["get", "--server", &server, "--operator-dir", &nowhere], 2, &["nowhere", "--operator-dir"]),
        (&["get", "--server", "127.0.0.1:1", "--operator-dir", &operator], 1, &["127.0.0.1:1", "running"]),
        (&["get", "EnvoyFilter", "--server", &server, "--operator-dir", &operator], 2, &["EnvoyFilter"]),
        (&["apply", &nowhere, "--server", &server, "--operator-dir", &operator], 2, &["nowhere"]),
        (
            &[
                "token",
                "create",
                "-n",
                "a/b",
                "--service-account",
                "a",
                "--server",
                &server,
                "--operator-dir",
                &operator,
            ],
            2,
            &["a/b"],
        ),
        (
            &[
                "token",
                "create",
                "-n",
                "a",
                "--service-account",
                "a b",
                "--server",
                &server,
                "--operator-dir",
                &operator,
            ],
            2,
            &["a b"],
        ),
        (
            &[
                "token",
                "create",
                "-n",
                "a",
                "--service-account",
                "a",
                "--ttl",
                "0s",
                "--server",
                &server,
                "--operator-dir",
                &operator,
            ],
            2,
            &["--ttl"],
        ),
        (
            &["token", "revoke", "0123456789abcdef", "--server", &server, "--operator-dir", &operator],
            1,
            &["token"],
        ),
        (
            &[
                "delete",
                "PeerAuthentication",
                "none",
                "-n",
                "a",
                "--server",
                &server,
                "--operator-dir",
                &operator,
            ],
            1,
            &["there is no PeerAuthentication a/none"],
        ),
        (
            &["delete", "PeerAuthentication", "none", "--server", &server, "--operator-dir", &operator],
            2,
            &["in which namespace?", "NAMESPACE/none"],
        ),
        (
            &[
                "get",
                "PeerAuthentication",
                "a/none",
                "-n",
                "b",
                "--server",
                &server,
                "--operator-dir",
                &operator,
            ],
            2,
            &["a/none is in the namespace a", "--namespace says b"],
        ),
    ];
    for (args, code, words) in rows {
        eprintln!("{args:?}");
        assert_refused(&world.palisade(args).await, *code, words);
    }
    // Another mesh's control plane is not this operator's.
    let other = World::start(PALISADE).await;
    let stranger = other.data_dir().join("operator").display().to_string();
    let done = world.palisade(&["get", "--server", &server, "--operator-dir", &stranger]).await;
    assert_refused(&done, 1, &["--operator-dir"]);
}
