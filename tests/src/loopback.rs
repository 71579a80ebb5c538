//! Loopback addresses that nobody else uses.

use std::net::{IpAddr, Ipv4Addr};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// An address of 127.0.0.0/8 that this run has given to nobody else.
///
/// A listener that must come back at its old port takes it here: on 127.0.0.1 another test, or the source port of any
/// connection, may have taken the port while the listener was away. Where the system has no loopback address but
/// 127.0.0.1, that is what there is.
pub fn own_address() -> IpAddr {
    static GIVEN: AtomicU16 = AtomicU16::new(1);
    if !cfg!(target_os = "linux") {
        return Ipv4Addr::LOCALHOST.into();
    }
    let [high, low] = GIVEN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    // Two runs at once on one machine: told apart by their process ids. 127.0 stays free for everybody.
    let run = u8::try_from(process::id() % 250).unwrap_or(0) + 1;
    Ipv4Addr::new(127, run, high, low).into()
}
