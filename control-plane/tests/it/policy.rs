use palisade_proto::v1;
use palisade_proto::v1::change::Action;
use tonic::Code;

use crate::world::{World, allow};

#[tokio::test(flavor = "multi_thread")]
async fn apply_says_what_it_changed_and_by_whom() {
    let world = World::new().await;
    let one = allow("one", "ledger", "payments");
    let created = world.apply(&one).await;
    assert_eq!((created.version, created.changes[0].action()), (1, Action::Created));
    let unchanged = world.apply(&one).await;
    assert_eq!((unchanged.version, unchanged.changes[0].action()), (1, Action::Unchanged));
    let updated = world.apply(&allow("one", "ledger", "audit")).await;
    assert_eq!((updated.version, updated.changes[0].action()), (2, Action::Updated));

    let got = world.admin().await.get(v1::GetRequest::default()).await.unwrap().into_inner();
    assert_eq!((got.version, got.objects.len()), (2, 1));
    let object = &got.objects[0];
    assert_eq!((object.version, object.changed_by.as_str()), (2, "spiffe://corp.example/operator/admin"));
    assert!(object.text.contains("sa/audit") && object.changed_at.ends_with('Z'));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_and_a_bad_document_change_nothing() {
    let world = World::new().await;
    let one = allow("one", "ledger", "payments");
    let dry = world.apply_with(&one, true, 0).await;
    assert_eq!((dry.version, dry.changes[0].action()), (0, Action::Created));
    for bad in [
        format!(
            "{one}---\n{}",
            allow("two", "ledger", "payments").replace("AuthorizationPolicy", "AuthorisationPolicy")
        ),
        format!("{one}---\n{one}"),
        "kind: [".to_owned(),
    ] {
        let refused = world.apply(&bad).await;
        assert!(refused.findings.iter().any(|f| f.severity == "error"), "{bad}");
        assert_eq!((refused.version, refused.changes.len()), (0, 0), "{bad}");
    }
    let twice = world.apply(&format!("{one}---\n{one}")).await;
    assert_eq!(twice.findings[0].code, palisade_policy::finding::code::DUPLICATE_OBJECT);
    assert!(
        world.admin().await.get(v1::GetRequest::default()).await.unwrap().into_inner().objects.is_empty()
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_is_of_one_named_object() {
    let world = World::new().await;
    world.apply(&allow("one", "ledger", "payments")).await;
    let request = |kind: &str, name: &str| v1::DeleteRequest {
        kind: kind.into(),
        namespace: "payments".into(),
        name: name.into(),
        ..v1::DeleteRequest::default()
    };
    let mut admin = world.admin().await;
    for (kind, name, code) in [
        ("AuthorizationPolicy", "two", Code::NotFound),
        ("AuthorizationPolicy", "", Code::InvalidArgument),
        ("Policy", "one", Code::InvalidArgument),
        ("", "one", Code::InvalidArgument),
    ] {
        assert_eq!(admin.delete(request(kind, name)).await.unwrap_err().code(), code, "{kind} {name}");
    }
    let deleted = admin.delete(request("AuthorizationPolicy", "one")).await.unwrap().into_inner();
    assert_eq!(deleted.version, 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_faults_deletes_experiments_and_nothing_else() {
    let world = World::new().await;
    let experiment = |name: &str| {
        format!(
            "apiVersion: palisade.mesh/v1\nkind: FaultExperiment\nmetadata: {{name: {name}, namespace: payments}}\nspec: \
             {{callers: ['*'], hosts: [ledger], startsAt: 2026-11-30T12:00:00Z, duration: 5m, fault: {{reset: {{}}}}}}\n"
        )
    };
    let all = ["one", "two", "three"].map(|name| format!("---\n{}", experiment(name))).concat();
    world.apply(&(all + "---\n" + &allow("one", "ledger", "payments"))).await;
    let request = |names: &[&str], all: bool| v1::StopFaultsRequest {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        all,
        ..v1::StopFaultsRequest::default()
    };
    let mut admin = world.admin().await;
    for (names, all, code) in [
        (&[][..], false, Code::InvalidArgument),
        (&["payments/one"], true, Code::InvalidArgument),
        (&["payments/nobody"], false, Code::NotFound),
        (&["one"], false, Code::NotFound),
        (&["other/one"], false, Code::NotFound),
    ] {
        let refused = admin.stop_faults(request(names, all)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{names:?} {all}");
    }
    let named = |answer: &v1::ApplyResponse| {
        let changes = answer.changes.iter().map(|c| (c.action(), c.kind.clone(), c.name.clone()));
        changes.collect::<Vec<_>>()
    };
    let gone = |name: &str| (Action::Deleted, "FaultExperiment".to_owned(), name.to_owned());
    let some = admin.stop_faults(request(&["payments/one", "payments/nobody"], false)).await.unwrap();
    assert_eq!((some.get_ref().version, named(some.get_ref())), (2, vec![gone("one")]));
    let rest = admin.stop_faults(request(&[], true)).await.unwrap().into_inner();
    assert_eq!((rest.version, named(&rest)), (3, vec![gone("three"), gone("two")]));
    let none = admin.stop_faults(request(&[], true)).await.unwrap().into_inner();
    assert_eq!((none.version, named(&none)), (3, vec![]));
    let left = admin.get(v1::GetRequest::default()).await.unwrap().into_inner().objects;
    assert_eq!(left.iter().map(|o| o.kind.as_str()).collect::<Vec<_>>(), ["AuthorizationPolicy"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_a_new_version_that_is_as_the_old_one_was() {
    let world = World::new().await;
    world.apply(&allow("one", "ledger", "payments")).await;
    world.apply(&allow("one", "ledger", "audit")).await;
    world.apply(&allow("two", "ledger", "audit")).await;
    let mut admin = world.admin().await;
    let rollback = |version: u64, base: Option<u64>, dry_run: bool| v1::RollbackRequest {
        version,
        base_version: base,
        dry_run,
        message: "as before".into(),
        ..v1::RollbackRequest::default()
    };
    for (version, base, code) in
        [(0, None, Code::NotFound), (4, None, Code::NotFound), (1, Some(2), Code::FailedPrecondition)]
    {
        assert_eq!(admin.rollback(rollback(version, base, false)).await.unwrap_err().code(), code);
    }
    let dry = admin.rollback(rollback(1, Some(3), true)).await.unwrap().into_inner();
    assert_eq!((dry.version, dry.changes.len()), (3, 2));
    let done = admin.rollback(rollback(1, Some(3), false)).await.unwrap().into_inner();
    let actions: Vec<_> = done.changes.iter().map(|c| (c.name.as_str(), c.action())).collect();
    assert_eq!((done.version, actions), (4, vec![("one", Action::Updated), ("two", Action::Deleted)]));

    let at = |version| v1::GetRequest { version, ..v1::GetRequest::default() };
    let old = admin.get(at(1)).await.unwrap().into_inner();
    let now = admin.get(at(0)).await.unwrap().into_inner();
    assert_eq!((old.version, now.version, now.objects.len()), (1, 4, 1));
    assert_eq!(old.objects[0].text, now.objects[0].text);
    assert_eq!(admin.get(at(5)).await.unwrap_err().code(), Code::NotFound);

    let history = admin.history(v1::HistoryRequest::default()).await.unwrap().into_inner().versions;
    let newest = &history[0];
    assert_eq!((history.len(), newest.version, newest.rollback_of), (4, 4, 1));
    assert_eq!((newest.message.as_str(), newest.changes.len()), ("as before", 2));
    assert_eq!(newest.author, "spiffe://corp.example/operator/admin");
    // Back to what is in force already: nothing is made.
    let same = admin.rollback(rollback(1, None, false)).await.unwrap().into_inner();
    assert_eq!((same.version, same.changes.len()), (4, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_deletes_what_the_files_do_not_have_and_nothing_when_one_is_wrong() {
    let world = World::new().await;
    world
        .apply(&format!("{}---\n{}", allow("one", "ledger", "audit"), allow("two", "ledger", "audit")))
        .await;
    let mut admin = world.admin().await;
    let prune = |text: String| v1::ApplyRequest {
        files: vec![v1::SourceFile { name: "all.yaml".into(), text }],
        prune: true,
        ..v1::ApplyRequest::default()
    };
    let bad = format!("{}---\nkind: Nothing\n", allow("one", "ledger", "audit"));
    let refused = admin.apply(prune(bad)).await.unwrap().into_inner();
    assert_eq!((refused.version, refused.changes.len()), (1, 0));
    assert!(refused.findings.iter().any(|f| f.severity == "error"), "{refused:?}");
    let done = admin.apply(prune(allow("one", "ledger", "audit"))).await.unwrap().into_inner();
    let actions: Vec<_> = done.changes.iter().map(|c| (c.name.as_str(), c.action())).collect();
    assert_eq!(actions, [("one", Action::Unchanged), ("two", Action::Deleted)]);
    let long = v1::ApplyRequest { message: "x".repeat(1025), ..v1::ApplyRequest::default() };
    assert_eq!(admin.apply(long).await.unwrap_err().code(), Code::InvalidArgument);
    world.stop().await;
}

/// What a generator leaves that failed, or a wrong directory: with nothing in force everybody may call everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_without_a_single_object_does_not_open_the_mesh() {
    let world = World::new().await;
    world.apply(&allow("one", "ledger", "audit")).await;
    let mut admin = world.admin().await;
    for files in [vec![], vec![""], vec!["# nothing\n"], vec!["---\n---\n", "\n"]] {
        for dry_run in [true, false] {
            let files =
                files.iter().map(|text| v1::SourceFile { name: "all.yaml".into(), text: (*text).into() });
            let request = v1::ApplyRequest {
                files: files.collect(),
                prune: true,
                dry_run,
                ..v1::ApplyRequest::default()
            };
            let refused = admin.apply(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(refused.message().contains("nothing was changed"), "{refused:?}");
        }
    }
    let in_force = admin.get(v1::GetRequest::default()).await.unwrap().into_inner();
    assert_eq!((in_force.version, in_force.objects.len()), (1, 1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_applies_leave_no_task_behind() {
    let world = World::new().await;
    let mut proxy = world.join("ledger").await.stream(&world, &[]).await;
    let mut admin = world.admin().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let mut before = 0;
    for n in 0..1000_u32 {
        let text = allow("one", "ledger", if n % 2 == 0 { "payments" } else { "audit" });
        let files = vec![v1::SourceFile { name: "one.yaml".into(), text }];
        let request = v1::ApplyRequest { files, ..v1::ApplyRequest::default() };
        let version = admin.apply(request).await.unwrap().into_inner().version;
        assert_eq!(version, u64::from(n) + 1);
        while proxy.snapshot().await.0.version < version {}
        if n == 50 {
            before = metrics.num_alive_tasks();
        }
    }
    assert!(metrics.num_alive_tasks() <= before + 2, "{before} -> {}", metrics.num_alive_tasks());
    world.stop().await;
}
