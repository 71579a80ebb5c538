//! The control thread of a proxy against real files, real sockets and a scripted control plane.

mod files;
mod support;
