//! Every bound of this crate, with its reason.

use std::time::Duration;

/// Certificates in a chain that a peer or a file may present: a leaf, its intermediates and the root. A chain has
/// three here, and rarely five with a company's own PKI; more only cost work before anything is proved.
pub const CHAIN_CERTIFICATES_MAX: usize = 8;

/// Roots in one trust bundle. A rotation needs two or three.
pub const BUNDLE_ROOTS_MAX: usize = 64;

/// Bytes of a PEM file of certificates or a key: far more than any chain or bundle within the bounds above needs.
pub const PEM_BYTES_MAX: usize = 1 << 20;

/// Bytes of a certificate signing request: an RSA-8192 request with some extensions has about 3 KiB.
pub const CSR_BYTES_MAX: usize = 16 << 10;

/// The weakest RSA key accepted, in bits (CA/Browser Forum Baseline Requirements 6.1.5; NIST SP 800-131A).
pub const RSA_BITS_MIN: usize = 2048;

/// The longest RSA key accepted, in bits: verification costs grow with the square, and rustls-webpki stops here too.
pub const RSA_BITS_MAX: usize = 8192;

/// How far back certificates are dated, so that a peer whose clock is late accepts a fresh one.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// The shortest life of a certificate: below, renewal cannot keep up.
pub const SVID_TTL_MIN: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Life of a root.
pub const ROOT_LIFE: Duration = DAY.saturating_mul(3650);

/// Life of an intermediate.
pub const INTERMEDIATE_LIFE: Duration = DAY.saturating_mul(365);

/// Random bits in a serial number: the most that fit in the 20 octets RFC 5280 (4.1.2.2) allows without a sign.
pub const SERIAL_BITS: usize = 159;
