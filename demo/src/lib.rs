//! `palisade demo`: a small mesh of real processes, and scenes played on it.

pub mod yaml;
