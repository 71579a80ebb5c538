//! Keys that have the right shape and must not be trusted.

/// The shortest modulus, in bits (NIST SP 800-131A).
pub(super) const RSA_BITS_MIN: usize = 2048;
/// The longest: a verification costs by its square, and callers ask for verifications.
pub(super) const RSA_BITS_MAX: usize = 8192;

/// Primes by which moduli from Infineon's broken generator (ROCA, CVE-2017-15361) are recognized: modulo each of
/// them, such a modulus is a power of 65537. One of 2^27 honest moduli has this mark.
const ROCA_PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Encodings of points of small order on Curve25519, the sign bit left out: under such a "key", signatures exist that
/// nobody made.
const SMALL_ORDER: [[u8; 32]; 7] = [
    edge([0; 32], 0x00, 0x00),
    edge([0; 32], 0x01, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    edge([0xff; 32], 0xec, 0x7f),
    edge([0xff; 32], 0xed, 0x7f),
    edge([0xff; 32], 0xee, 0x7f),
];

const fn edge(fill: [u8; 32], first: u8, last: u8) -> [u8; 32] {
    let mut bytes = fill;
    let [a, .., z] = &mut bytes;
    *a = first;
    *z = last;
    bytes
}

/// Whether a modulus has a length that is served. Big-endian, no leading zeros.
pub(super) fn rsa_length_is_served(modulus: &[u8]) -> bool {
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = (modulus.len() * 8).saturating_sub(usize::try_from(unused).unwrap_or(8));
    (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits)
}

/// Whether the exponent is odd and at least 65537, and short enough to be cheap (FIPS 186-5 section 5.4).
pub(super) fn exponent_is_served(exponent: &[u8]) -> bool {
    let value = match exponent.len() {
        3..=4 => exponent.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte)),
        _ => return false,
    };
    value >= 65_537 && value % 2 == 1
}

/// Whether a modulus has the mark of CVE-2017-15361.
pub(super) fn is_roca(modulus: &[u8]) -> bool {
    ROCA_PRIMES.iter().all(|prime| {
        let rest = modulus.iter().fold(0u32, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let step = 65_537 % prime;
        let mut power = 1;
        for _ in 0..*prime {
            if power == rest {
                return true;
            }
            power = power * step % prime;
        }
        false
    })
}

/// Whether an Ed25519 public key is a point of small order.
pub(super) fn is_small_order(key: &[u8; 32]) -> bool {
    let mut key = *key;
    let [.., last] = &mut key;
    *last &= 0x7f;
    SMALL_ORDER.contains(&key)
}
