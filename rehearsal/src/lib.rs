//! Plays a Rehearsal: sends requests, breaks what the document says, watches what becomes of them, mends everything again,
//! and says what held.
//!
//! What is judged and how ([`sample`], [`judge`], [`evidence`], [`report`]) knows no sockets and no clock; time is an argument. [`load`],
//! [`observe`] and [`command`] reach outside; [`play`], [`step`] and [`wait`] hold the two together.

mod command;
mod evidence;
mod faults;
mod judge;
mod load;
mod observe;
mod play;
pub mod report;
mod sample;
mod step;
mod wait;

pub use faults::Faults;
pub use play::Stage;
