//! rustls configurations for mesh mutual TLS.
