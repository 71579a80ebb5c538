//! The policy documents of `palisade init` and of the demo, built in so that the binary works anywhere.

/// A file name and its text.
pub type Document = (&'static str, &'static str);

/// What every mesh starts with.
pub const INIT: [Document; 3] = [
    ("mesh.yaml", include_str!("../../examples/init/mesh.yaml")),
    ("default-deny.yaml", include_str!("../../examples/init/default-deny.yaml")),
    ("mtls-strict.yaml", include_str!("../../examples/init/mtls-strict.yaml")),
];

/// Who may call whom among the demo's services.
pub const FINTECH: [Document; 2] = [
    ("ledger.yaml", include_str!("../../examples/fintech/ledger.yaml")),
    ("notifications.yaml", include_str!("../../examples/fintech/notifications.yaml")),
];

/// Applied while the demo runs.
pub const NOTIFICATIONS_READ_LEDGER: Document = (
    "notifications-read-ledger.yaml",
    include_str!("../../examples/fintech/extra/notifications-read-ledger.yaml"),
);
