use aws_lc_rs::constant_time::verify_slices_are_equal;

/// Somebody who can log in. Passwords in source are for a demo only.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    pub(super) name: &'static str,
    password: &'static str,
    /// What they may do, as RFC 6749 writes it.
    pub(super) scope: &'static str,
}

const USERS: [User; 3] = [
    User { name: "alice", password: "wonderland", scope: "accounts:read payments:write" },
    User { name: "bob", password: "builder", scope: "accounts:read payments:write" },
    User { name: "rita", password: "library", scope: "accounts:read" },
];

/// Nothing for an unknown name and for a wrong password alike.
pub(super) fn find(name: &str, password: &str) -> Option<&'static User> {
    let user = USERS.iter().find(|user| user.name == name)?;
    verify_slices_are_equal(user.password.as_bytes(), password.as_bytes()).ok()?;
    Some(user)
}
