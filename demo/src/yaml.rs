//! The policy documents of `palisade init` and of the demo, built in so that the binary works anywhere.

/// A file name and its text.
pub type Document = (&'static str, &'static str);

/// What every mesh starts with.
pub const INIT: [Document; 3] = [
    ("mesh.yaml", include_str!("../../examples/init/mesh.yaml")),
    ("default-deny.yaml", include_str!("../../examples/init/default-deny.yaml")),
    ("mtls-strict.yaml", include_str!("../../examples/init/mtls-strict.yaml")),
];

/// Who may call whom among the demo's services, how the ledger is called, and what the edge lets in.
pub const FINTECH: [Document; 7] = [
    ("ledger.yaml", include_str!("../../examples/fintech/ledger.yaml")),
    ("ledger-traffic.yaml", include_str!("../../examples/fintech/ledger-traffic.yaml")),
    ("notifications.yaml", include_str!("../../examples/fintech/notifications.yaml")),
    ("edge.yaml", include_str!("../../examples/fintech/edge.yaml")),
    ("edge-guards.yaml", include_str!("../../examples/fintech/edge-guards.yaml")),
    ("edge-limits.yaml", include_str!("../../examples/fintech/edge-limits.yaml")),
    ("edge-services.yaml", include_str!("../../examples/fintech/edge-services.yaml")),
];

/// Whose tokens the edge takes. Where their keys are differs from one run to the next.
pub const EDGE_USERS: Document = ("edge-users.yaml", include_str!("../../examples/fintech/edge-users.yaml"));

/// Applied while the demo runs.
pub const NOTIFICATIONS_READ_LEDGER: Document = (
    "notifications-read-ledger.yaml",
    include_str!("../../examples/fintech/extra/notifications-read-ledger.yaml"),
);

/// The same.
pub const LEDGER_RETRIES: Document =
    ("ledger-retries.yaml", include_str!("../../examples/faults/ledger-retries.yaml"));

/// All that scenes apply.
pub const EXTRA: [Document; 2] = [NOTIFICATIONS_READ_LEDGER, LEDGER_RETRIES];
