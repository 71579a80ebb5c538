//! What only the edge has: PROXY headers, and what outsiders say of themselves.

pub mod claims;
pub mod proxy_header;
