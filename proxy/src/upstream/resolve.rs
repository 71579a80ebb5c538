//! Names to addresses, kept for a while, and the last good answer kept for longer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::connect::ConnectError;
use crate::settings::limits::Limits;

type Name = (Arc<str>, u16);

/// One worker's answers.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    answers: RefCell<HashMap<Name, Answer>>,
}

#[derive(Clone, Debug)]
struct Answer {
    addresses: Rc<[SocketAddr]>,
    asked: Instant,
}

impl Resolver {
    /// The addresses of a name: never empty. Asks the system's resolver when the answer at hand is older than
    /// `dns_refresh`; when that fails, the last good answer stands.
    pub(crate) async fn resolve(
        &self,
        host: &Arc<str>,
        port: u16,
        limits: &Limits,
    ) -> Result<Rc<[SocketAddr]>, ConnectError> {
        let name = (host.clone(), port);
        let known = self.answers.borrow().get(&name).cloned();
        if let Some(answer) = &known
            && answer.asked.elapsed() < limits.dns_refresh
        {
            return Ok(answer.addresses.clone());
        }
        let asked = Instant::now();
        match (ask(host, port, limits).await, known) {
            (Ok(addresses), _) => {
                self.answers.borrow_mut().insert(name, Answer { addresses: addresses.clone(), asked });
                Ok(addresses)
            }
            (Err(error), Some(last_good)) => {
                tracing::warn!(%host, %error, "name not resolved; the last good addresses are kept");
                let addresses = last_good.addresses.clone();
                self.answers.borrow_mut().insert(name, Answer { asked, ..last_good });
                Ok(addresses)
            }
            (Err(error), None) => Err(ConnectError::Resolve(Arc::new(error))),
        }
    }

    /// Forgets names that no destination of late has asked for.
    pub(crate) fn tidy(&self, limits: &Limits) {
        self.answers.borrow_mut().retain(|_, answer| answer.asked.elapsed() < limits.dns_refresh * 20);
    }
}

async fn ask(host: &str, port: u16, limits: &Limits) -> io::Result<Rc<[SocketAddr]>> {
    let lookup = tokio::net::lookup_host((host, port));
    let addresses: Rc<[SocketAddr]> = tokio::time::timeout(limits.dns_timeout, lookup)
        .await
        .map_err(|_elapsed| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))??
        .collect();
    if addresses.is_empty() {
        Err(io::Error::new(io::ErrorKind::NotFound, "no address"))
    } else {
        Ok(addresses)
    }
}
