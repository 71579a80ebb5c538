//! A connection to the store: TCP, TLS where it is asked for, the password, the script.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::bounded::{Bounded, Stream};
use super::script::{Question, SOURCE};
use super::{Answers, StoreFailure};
use crate::settings::limit_store::LimitStoreSettings;
use crate::settings::limits::Limits;
use crate::upstream::roots::client_config;

/// A password, and the file of roots. More is a mistake in the path.
const PASSWORD_BYTES_MAX: usize = 4 * 1024;
/// What the store may send unasked, its greetings included.
const UNASKED_BYTES_MAX: usize = 16 * 1024;

/// A working connection.
pub(super) struct Link {
    connection: MultiplexedConnection,
    /// By which the store knows the script.
    script: String,
    allowance: Arc<AtomicUsize>,
    answer_bytes_max: usize,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// Carries the bytes of a link; ends with its connection. Whoever drops it ends the link.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()>>>;

/// A failure, and what is known of it for the log.
#[derive(Debug, thiserror::Error)]
#[error("{failure}: {detail}")]
pub(super) struct Fault {
    pub(super) failure: StoreFailure,
    detail: String,
}

impl Fault {
    pub(super) fn new(failure: StoreFailure, detail: impl fmt::Display) -> Self {
        Self { failure, detail: detail.to_string() }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let failure = match error.kind() {
            ErrorKind::AuthenticationFailed => StoreFailure::Credentials,
            ErrorKind::Io => StoreFailure::Closed,
            ErrorKind::Server(_) | ErrorKind::Extension => StoreFailure::ErrorAnswer,
            _ => StoreFailure::BadAnswer,
        };
        Self::new(failure, error)
    }
}

impl Link {
    /// `in_flight`: how many questions are under way, this one included.
    pub(super) async fn ask(&self, question: &Question, in_flight: usize) -> Result<Answers, Fault> {
        let allowed = in_flight.saturating_mul(self.answer_bytes_max).saturating_add(UNASKED_BYTES_MAX);
        self.allowance.store(allowed, Ordering::Relaxed);
        let mut connection = self.connection.clone();
        let known = question.command("EVALSHA", &self.script).query_async(&mut connection).await;
        let value = match known {
            // The store forgot its scripts: the whole text once more, which it then remembers.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                question.command("EVAL", SOURCE).query_async(&mut connection).await
            }
            known => known,
        }?;
        let wrong = || Fault::new(StoreFailure::BadAnswer, "this is no answer to the script");
        question.read(&value).ok_or_else(wrong)
    }
}

/// Connects, and has the store know the script. The caller bounds the time.
pub(super) async fn connect(settings: &LimitStoreSettings, limits: &Limits) -> Result<(Link, Driver), Fault> {
    let mut info = RedisConnectionInfo::default().set_db(settings.address.db.into()).set_skip_set_lib_name();
    if let Some(user) = &settings.user {
        info = info.set_username(user);
    }
    if let Some(path) = &settings.password_file {
        info = info.set_password(&*password(path).await?);
    }
    let allowance = Arc::new(AtomicUsize::new(UNASKED_BYTES_MAX));
    let stream = Bounded::new(open(settings).await?, allowance.clone());
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_pipeline_buffer_size(limits.store_in_flight_max);
    let (mut connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
    let mut driver: Driver = Box::pin(driver);
    let mut load = redis::cmd("SCRIPT");
    load.arg("LOAD").arg(SOURCE);
    let script = tokio::select! {
        script = load.query_async::<String>(&mut connection) => script?,
        () = &mut driver => return Err(Fault::new(StoreFailure::Closed, "before the script was known")),
    };
    let answer_bytes_max = limits.store_answer_bytes_max;
    Ok((Link { connection, script, allowance, answer_bytes_max }, driver))
}

async fn password(path: &Path) -> Result<Zeroizing<String>, Fault> {
    let refused = |why: &dyn fmt::Display| {
        Fault::new(
            StoreFailure::Credentials,
            format!("--limit-store-password-file {}: {why}", path.display()),
        )
    };
    let text = tokio::fs::read_to_string(path).await.map(Zeroizing::new).map_err(|error| refused(&error))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err(refused(&"it holds no password of 1 to 4096 bytes"));
    }
    Ok(Zeroizing::new(password.to_owned()))
}

async fn open(settings: &LimitStoreSettings) -> Result<Box<dyn Stream>, Fault> {
    let address = &settings.address;
    let unreachable = |error: io::Error| Fault::new(StoreFailure::Unreachable, format!("{address}: {error}"));
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    if !address.tls {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(address.host.clone())
        .map_err(|error| Fault::new(StoreFailure::Unreachable, format!("{address}: {error}")))?;
    let config = client_config(settings.ca.as_deref(), "--limit-store-ca").await;
    let config = config
        .map_err(|error| Fault::new(StoreFailure::Credentials, format!("the store's roots: {error}")))?;
    let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(unreachable)?;
    Ok(Box::new(tls))
}
