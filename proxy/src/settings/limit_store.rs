//! The store that proxies count in together: Redis or Valkey.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::parse::host_and_port;

/// What limits of scope `mesh` are counted in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStoreSettings {
    pub address: StoreAddress,
    /// `None`: the server's default user.
    pub user: Option<String>,
    /// Read at every new connection, so that a password can be changed in place.
    pub password_file: Option<PathBuf>,
    /// PEM roots that the server is checked against. `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// From a request's question to the store's answer.
    pub timeout: Duration,
}

impl LimitStoreSettings {
    /// A question to the store is part of a request: a store that needs seconds is away.
    pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(5);
}

/// `redis://HOST[:PORT][/DB]`, or `rediss://` for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreAddress {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub db: u16,
}

/// Why a text is no `--limit-store` value. It is not repeated: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreAddressError {
    #[error("it begins with redis:// or rediss://, for example rediss://limits.corp.example:6379/0")]
    Scheme,
    #[error(
        "it holds a user or a password, which other users of this host could read; give --limit-store-user and \
         --limit-store-password-file"
    )]
    Credentials,
    #[error(
        "it has no host and port that can be read: write HOST:PORT, for example redis://127.0.0.1:6379/0"
    )]
    Host,
    #[error(
        "after the host stands the number of a database, or nothing, for example redis://127.0.0.1:6379/0"
    )]
    Database,
}

impl FromStr for StoreAddress {
    type Err = StoreAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (tls, rest) = match text.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(StoreAddressError::Scheme),
        };
        if rest.contains('@') {
            return Err(StoreAddressError::Credentials);
        }
        let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
        let db = if db.is_empty() { Ok(0) } else { db.parse() };
        let db = db.map_err(|_no_number| StoreAddressError::Database)?;
        let with_port = if has_port(authority) { authority.to_owned() } else { format!("{authority}:6379") };
        let (host, port) = host_and_port(&with_port).ok_or(StoreAddressError::Host)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Ok(Self { tls, host, port, db })
    }
}

/// The colons of an IPv6 address stand within brackets.
fn has_port(authority: &str) -> bool {
    authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'))
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, host, port, db } = self;
        let scheme = if *tls { "rediss" } else { "redis" };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}/{db}")
        } else {
            write!(f, "{scheme}://{host}:{port}/{db}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_of_stores() {
        let rows = [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
            ("redis://127.0.0.1:7000", "redis://127.0.0.1:7000/0"),
            ("rediss://Limits.Corp.example:6380/3", "rediss://limits.corp.example:6380/3"),
            ("redis://[::1]:6379/", "redis://[::1]:6379/0"),
            ("redis://[::1]", "redis://[::1]:6379/0"),
        ];
        for (text, shown) in rows {
            assert_eq!(text.parse::<StoreAddress>().map(|address| address.to_string()).as_deref(), Ok(shown));
        }
    }

    #[test]
    fn refuses_what_is_no_address_and_never_repeats_a_password() {
        let rows = [
            ("127.0.0.1:6379", StoreAddressError::Scheme),
            ("http://127.0.0.1:6379", StoreAddressError::Scheme),
            ("redis://:hunter2@127.0.0.1", StoreAddressError::Credentials),
            ("redis://palisade@127.0.0.1", StoreAddressError::Credentials),
            ("redis://", StoreAddressError::Host),
            ("redis://:6379", StoreAddressError::Host),
            ("redis://a:b", StoreAddressError::Host),
            ("redis://a:0", StoreAddressError::Host),
            ("redis://a/x", StoreAddressError::Database),
            ("redis://a/70000", StoreAddressError::Database),
            ("redis://a/1?protocol=3", StoreAddressError::Database),
        ];
        for (text, why) in rows {
            assert_eq!(text.parse::<StoreAddress>(), Err(why), "{text}");
        }
        assert!(!StoreAddressError::Credentials.to_string().contains("hunter2"));
    }
}
