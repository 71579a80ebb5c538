use std::borrow::Cow;

use super::tests::{Fixture, NOW, by, change};
use super::*;
use crate::clock::from_seconds;

async fn names_at(store: &Store, version: u64) -> Option<Vec<(String, String)>> {
    let rows = store.objects_at(version).await.unwrap()?;
    Some(rows.into_iter().map(|row| (row.key.name, row.text)).collect())
}

fn pairs(texts: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

/// 1: a and b; 2: a anew; 3: b gone; 4: c.
async fn four_versions(store: &Store) {
    let first = [change(Action::Created, "a", "one"), change(Action::Created, "b", "two")];
    store.commit(&first, by("me", NOW)).await.unwrap();
    store.commit(&[change(Action::Updated, "a", "three")], by("you", NOW + 1)).await.unwrap();
    store.commit(&[change(Action::Deleted, "b", "")], by("you", NOW + 2)).await.unwrap();
    let why = Authorship { author: "me", now: from_seconds(NOW + 3), message: "why", rollback_of: Some(1) };
    store.commit(&[change(Action::Created, "c", "four")], why).await.unwrap();
}

#[tokio::test]
async fn every_version_can_be_read_as_it_was() {
    let (_fixture, store) = Fixture::new().await;
    four_versions(&store).await;
    assert_eq!(names_at(&store, 1).await, pairs(&[("a", "one"), ("b", "two")]));
    assert_eq!(names_at(&store, 2).await, pairs(&[("a", "three"), ("b", "two")]));
    assert_eq!(names_at(&store, 3).await, pairs(&[("a", "three")]));
    assert_eq!(names_at(&store, 4).await, pairs(&[("a", "three"), ("c", "four")]));
    for unknown in [0, 5, u64::MAX >> 1] {
        assert_eq!(names_at(&store, unknown).await, None, "{unknown}");
    }
    assert_eq!(store.objects_at(4).await.unwrap().unwrap(), store.objects().await.unwrap().1);
}

#[tokio::test]
async fn the_history_says_who_when_why_and_what() {
    let (_fixture, store) = Fixture::new().await;
    four_versions(&store).await;
    let rows = store.versions(None, 2).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.version).collect::<Vec<_>>(), [4, 3]);
    let newest = &rows[0];
    assert_eq!((newest.author.as_str(), newest.at, newest.message.as_str()), ("me", NOW + 3, "why"));
    assert_eq!(newest.rollback_of, Some(1));
    assert_eq!((rows[1].changes[0].0, rows[1].changes[0].1.name.as_str()), (Action::Deleted, "b"));
    let rows = store.versions(Some(3), 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| (row.version, row.changes.len())).collect::<Vec<_>>(), [(2, 1), (1, 2)]);
}

#[tokio::test]
async fn a_shortened_history_keeps_whole_states_and_the_version_in_force() {
    for (kept, oldest) in [
        (Kept { versions: 2, bytes: 1000 }, 3),
        (Kept { versions: 10, bytes: 4 }, 3),
        (Kept { versions: 10, bytes: 0 }, 4),
        (Kept { versions: 0, bytes: 0 }, 4),
        (Kept { versions: 10, bytes: 1000 }, 1),
    ] {
        let (fixture, store) = Fixture::new().await;
        four_versions(&store).await;
        let mut whole = Vec::new();
        for version in 1..=4 {
            whole.push(names_at(&store, version).await);
        }
        let in_force = store.objects().await.unwrap();
        assert_eq!(store.shorten_history(kept).await.unwrap(), oldest - 1, "{kept:?}");
        assert_eq!(store.shorten_history(kept).await.unwrap(), 0, "{kept:?}");
        store.close().await;
        let store = Store::open(&fixture.path, "the-id").await.unwrap();
        for (version, before) in (1..=4).zip(whole) {
            let expected = if version < oldest { None } else { before };
            assert_eq!(names_at(&store, version).await, expected, "{kept:?}, version {version}");
        }
        assert_eq!(store.objects().await.unwrap(), in_force, "{kept:?}");
        assert_eq!(store.versions(None, 10).await.unwrap().last().unwrap().version, oldest, "{kept:?}");
        // Numbers are never used twice.
        let next = store.commit(&[change(Action::Created, "d", "five")], by("me", NOW)).await.unwrap();
        assert_eq!((next, names_at(&store, 5).await.unwrap().len()), (5, 3));
    }
}

#[tokio::test]
async fn a_store_of_the_first_format_is_brought_to_this_one_with_its_history() {
    let (fixture, store) = Fixture::new().await;
    store.close().await;
    std::fs::write(&fixture.path, b"").unwrap();
    let pool = SqlitePoolOptions::new().connect_with(options(&fixture.path)).await.unwrap();
    let first =
        Migrator { migrations: Cow::Owned(vec![MIGRATIONS.migrations[0].clone()]), ..Migrator::DEFAULT };
    first.run(&pool).await.unwrap();
    for statement in [
        "INSERT INTO meta VALUES ('store_id', 'the-id')",
        "INSERT INTO versions (author, at) VALUES ('me', 1), ('you', 2)",
        "INSERT INTO history VALUES (1, 'created', 'AuthorizationPolicy', 'payments', 'a', 'one')",
        "INSERT INTO history VALUES (1, 'created', 'AuthorizationPolicy', 'payments', 'b', 'zwölf')",
        "INSERT INTO history VALUES (2, 'deleted', 'AuthorizationPolicy', 'payments', 'a', NULL)",
        "INSERT INTO objects VALUES ('AuthorizationPolicy', 'payments', 'b', 'zwölf', 1)",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;

    let store = Store::open(&fixture.path, "the-id").await.unwrap();
    assert_eq!(names_at(&store, 1).await, pairs(&[("a", "one"), ("b", "zwölf")]));
    assert_eq!(names_at(&store, 2).await, pairs(&[("b", "zwölf")]));
    let rows = store.versions(None, 10).await.unwrap();
    assert_eq!((rows.len(), rows[0].author.as_str(), rows[0].message.as_str()), (2, "you", ""));
    let bytes: Vec<i64> = sqlx::query_scalar("SELECT bytes FROM versions ORDER BY version")
        .fetch_all(&store.readers)
        .await
        .unwrap();
    assert_eq!(bytes, [9, 0]);
    assert_eq!(store.commit(&[change(Action::Created, "c", "x")], by("me", NOW)).await.unwrap(), 3);
}
