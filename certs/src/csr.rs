//! Certificate signing requests: made by the proxy, read by the CA.
