use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::*;
use crate::clock::from_seconds;

pub(super) const NOW: i64 = 1_800_000_000;

pub(super) struct Fixture {
    _dir: tempfile::TempDir,
    pub(super) path: PathBuf,
}

impl Fixture {
    pub(super) async fn new() -> (Self, Store) {
        let dir = tempfile::tempdir().unwrap();
        let data = crate::data_dir::DataDir::open(&dir.path().join("data")).unwrap();
        data.create_file("store.sqlite3").unwrap();
        let path = data.join("store.sqlite3");
        let store = Store::create(&path, "the-id").await.unwrap();
        (Self { _dir: dir, path }, store)
    }
}

fn token(id: &str, uses: i64) -> TokenRow {
    TokenRow {
        id: id.into(),
        secret_sha256: vec![7; 32],
        namespace: "payments".into(),
        service_account: "ledger".into(),
        labels: "{}".into(),
        svid_ttl_seconds: None,
        uses,
        uses_left: uses,
        created_by: "me".into(),
        created_at: NOW,
        expires_at: NOW + 10,
        revoked: false,
    }
}

fn issue(n: usize) -> Result<(NewInstance, Issuance, usize), &'static str> {
    let instance = NewInstance {
        id: format!("ledger-{n}"),
        spiffe_id: "spiffe://corp.example/ns/payments/sa/ledger".into(),
        labels: "{}".into(),
        svid_ttl_seconds: None,
        join_token: "t".into(),
        created_at: NOW,
        not_after: NOW + 100,
    };
    let issuance = Issuance {
        serial: format!("{n:X}"),
        spiffe_id: instance.spiffe_id.clone(),
        instance: Some(instance.id.clone()),
        how: How::Attest,
        peer: "127.0.0.1:1".into(),
        not_before: NOW,
        not_after: NOW + 100,
        at: NOW,
    };
    Ok((instance, issuance, n))
}

pub(super) fn change(action: Action, name: &str, text: &str) -> Change {
    let key =
        ObjectKey { kind: "AuthorizationPolicy".into(), namespace: "payments".into(), name: name.into() };
    Change { action, key, text: text.into() }
}

pub(super) fn by(author: &str, at: i64) -> Authorship<'_> {
    Authorship { author, now: from_seconds(at), message: "", rollback_of: None }
}

#[tokio::test]
async fn keeps_objects_and_versions_over_a_restart() {
    let (fixture, store) = Fixture::new().await;
    assert_eq!(store.objects().await.unwrap(), (0, Vec::new()));
    let changes = [change(Action::Created, "a", "one"), change(Action::Created, "b", "two")];
    assert_eq!(store.commit(&changes, by("me", NOW)).await.unwrap(), 1);
    assert_eq!(store.commit(&[change(Action::Updated, "a", "three")], by("you", NOW + 1)).await.unwrap(), 2);
    assert_eq!(store.commit(&[change(Action::Deleted, "b", "")], by("you", NOW + 2)).await.unwrap(), 3);
    store.close().await;

    let store = Store::open(&fixture.path, "the-id").await.unwrap();
    let (version, rows) = store.objects().await.unwrap();
    assert_eq!((version, rows.len()), (3, 1));
    assert_eq!(
        (rows[0].text.as_str(), rows[0].version, rows[0].author.as_str(), rows[0].at),
        ("three", 2, "you", NOW + 1)
    );
}

#[tokio::test]
async fn a_change_that_cannot_be_written_leaves_no_version() {
    let (_fixture, store) = Fixture::new().await;
    let twice = [change(Action::Created, "a", "one"), change(Action::Created, "a", "two")];
    assert!(store.commit(&twice, by("me", NOW)).await.is_err());
    assert_eq!(store.objects().await.unwrap(), (0, Vec::new()));
}

#[tokio::test]
async fn the_files_can_be_read_by_one_user_only() {
    let (fixture, store) = Fixture::new().await;
    store.commit(&[change(Action::Created, "a", "one")], by("me", NOW)).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", fixture.path.display());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o077, 0, "{path}");
    }
}

#[tokio::test]
async fn a_store_cut_anywhere_is_refused_and_left_as_it_is() {
    let (fixture, store) = Fixture::new().await;
    for n in 0..50 {
        store
            .commit(&[change(Action::Created, &n.to_string(), &"x".repeat(500))], by("me", NOW))
            .await
            .unwrap();
    }
    store.close().await;
    let whole = fs::read(&fixture.path).unwrap();
    for length in [whole.len() / 2, whole.len() / 2 + 100, whole.len() - 4096, 4096, 100, 50, 0] {
        fs::write(&fixture.path, &whole[..length]).unwrap();
        let error = Store::open(&fixture.path, "the-id").await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{length}: {error:?}");
        assert!(error.to_string().contains("Restore"), "{error}");
        assert_eq!(fs::read(&fixture.path).unwrap(), &whole[..length], "{length}");
    }
    fs::write(&fixture.path, b"this is no database at all, but long enough to look like one").unwrap();
    assert!(matches!(Store::open(&fixture.path, "the-id").await, Err(StoreError::Damaged { .. })));
    fs::write(&fixture.path, &whole).unwrap();
    assert_eq!(Store::open(&fixture.path, "the-id").await.unwrap().objects().await.unwrap().0, 50);
}

#[tokio::test]
async fn another_store_in_its_place_is_refused() {
    let (fixture, store) = Fixture::new().await;
    store.close().await;
    assert!(matches!(Store::open(&fixture.path, "another-id").await, Err(StoreError::Damaged { .. })));
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let (fixture, store) = Fixture::new().await;
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99999, 'later', 1, x'00', 0)")
        .execute(&store.writer)
        .await
        .unwrap();
    store.close().await;
    assert!(matches!(Store::open(&fixture.path, "the-id").await, Err(StoreError::Newer { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_concurrent_uses_exactly_the_allowed_number_wins() {
    let (_fixture, store) = Fixture::new().await;
    for uses in [1_usize, 3] {
        let id = format!("token-{uses}");
        assert!(store.create_token(&token(&id, i64::try_from(uses).unwrap()), 10).await.unwrap());
        let barrier = Arc::new(tokio::sync::Barrier::new(16));
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let (store, barrier, id) = (store.clone(), barrier.clone(), id.clone());
                tokio::spawn(async move {
                    barrier.wait().await;
                    store.redeem(&id, from_seconds(NOW), || issue(uses * 100 + n)).await.unwrap()
                })
            })
            .collect();
        let mut won = 0;
        for task in tasks {
            if matches!(task.await.unwrap(), Redeem::Done(_)) {
                won += 1;
            }
        }
        assert_eq!(won, uses);
        assert_eq!(store.token(&id).await.unwrap().unwrap().uses_left, 0);
    }
    assert_eq!(store.live_instances(from_seconds(NOW)).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_failed_issue_gives_the_use_back() {
    let (_fixture, store) = Fixture::new().await;
    store.create_token(&token("t", 1), 10).await.unwrap();
    let failed = store.redeem("t", from_seconds(NOW), || Err::<(_, _, ()), _>("weak key")).await.unwrap();
    assert!(matches!(failed, Redeem::Failed("weak key")));
    assert_eq!(store.token("t").await.unwrap().unwrap().uses_left, 1);
    assert!(matches!(store.redeem("t", from_seconds(NOW), || issue(1)).await.unwrap(), Redeem::Done(1)));
}

#[tokio::test]
async fn unknown_expired_revoked_and_spent_tokens_do_not_count_as_used() {
    let (_fixture, store) = Fixture::new().await;
    for id in ["expired", "revoked"] {
        store.create_token(&token(id, 1), 10).await.unwrap();
    }
    assert!(store.revoke_token("revoked").await.unwrap());
    assert!(!store.revoke_token("unknown").await.unwrap());
    for (id, at) in [("expired", NOW + 10), ("expired", NOW + 11), ("revoked", NOW), ("unknown", NOW)] {
        let result = store.redeem(id, from_seconds(at), || issue(1)).await.unwrap();
        assert!(matches!(result, Redeem::Spent), "{id}");
    }
    assert!(matches!(
        store.redeem("expired", from_seconds(NOW + 9), || issue(1)).await.unwrap(),
        Redeem::Done(_)
    ));
}

#[tokio::test]
async fn an_evicted_instance_is_not_renewed() {
    let (_fixture, store) = Fixture::new().await;
    store.create_token(&token("t", 1), 10).await.unwrap();
    store.redeem("t", from_seconds(NOW), || issue(1)).await.unwrap();
    let (_, next, _) = issue(2).unwrap();
    let next = Issuance { how: How::Renew, instance: Some("ledger-1".into()), not_after: NOW + 900, ..next };
    assert!(store.renew("ledger-1", &next).await.unwrap());
    assert_eq!(store.instance_of("2").await.unwrap().unwrap().not_after, NOW + 900);

    assert!(store.revoked_serials(from_seconds(NOW)).await.unwrap().is_empty());
    assert!(store.evict("ledger-1", "me", "broken", from_seconds(NOW)).await.unwrap());
    let revoked = store.revoked_serials(from_seconds(NOW)).await.unwrap();
    assert_eq!(revoked, ["1".to_owned(), "2".to_owned()].into(), "the certificate before the last, too");
    let revoked = store.revoked_serials(from_seconds(NOW + 899)).await.unwrap();
    assert_eq!(revoked, ["2".to_owned()].into(), "and none that has ended");
    assert!(!store.renew("ledger-1", &Issuance { serial: "3".into(), ..next }).await.unwrap());
    assert!(store.instance_of("3").await.unwrap().is_none());
    assert_eq!(store.instance_of("1").await.unwrap().unwrap().evicted_reason.as_deref(), Some("broken"));
    assert!(store.live_instances(from_seconds(NOW)).await.unwrap().is_empty());
    assert!(!store.evict("unknown", "me", "", from_seconds(NOW)).await.unwrap());
}

#[tokio::test]
async fn housekeeping_removes_only_what_is_old() {
    let (_fixture, store) = Fixture::new().await;
    store.create_token(&token("t", 2), 10).await.unwrap();
    store.redeem("t", from_seconds(NOW), || issue(1)).await.unwrap();
    assert_eq!(store.remove_spent_tokens(from_seconds(NOW + 10)).await.unwrap(), 0);
    assert_eq!(store.remove_old_issuances(from_seconds(NOW + 100)).await.unwrap(), 0);
    assert!(store.instance_of("1").await.unwrap().is_some());
    assert_eq!(store.remove_spent_tokens(from_seconds(NOW + 11)).await.unwrap(), 1);
    assert_eq!(store.remove_old_issuances(from_seconds(NOW + 101)).await.unwrap(), 1);
    assert!(store.instance_of("1").await.unwrap().is_none());
}

#[tokio::test]
async fn the_number_of_tokens_is_bounded() {
    let (_fixture, store) = Fixture::new().await;
    assert!(store.create_token(&token("a", 1), 1).await.unwrap());
    assert!(!store.create_token(&token("b", 1), 1).await.unwrap());
}
