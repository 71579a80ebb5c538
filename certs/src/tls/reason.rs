//! Names for what ended a handshake: for decision records, metrics and logs. They are part of the interface.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::svid::SvidError;

/// The name of what went wrong.
pub fn reason(error: &Error) -> &'static str {
    match error {
        Error::NoCertificatesPresented => "noCertificate",
        Error::InvalidCertificate(error) => certificate_reason(error),
        Error::AlertReceived(alert) => alert_reason(*alert),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "notTls",
        Error::PeerIncompatible(_) => "incompatible",
        Error::NoApplicationProtocol => "noApplicationProtocol",
        Error::DecryptError => "badSignature",
        _ => "protocol",
    }
}

/// As `reason`, for the I/O error that an asynchronous handshake ends with.
pub fn io_reason(error: &io::Error) -> &'static str {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return reason(tls);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => "closed",
        io::ErrorKind::TimedOut => "timeout",
        io::ErrorKind::ConnectionRefused => "refused",
        _ => "io",
    }
}

fn certificate_reason(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "notYetValid",
        CertificateError::UnknownIssuer => "unknownRoot",
        CertificateError::BadSignature => "badSignature",
        CertificateError::BadEncoding => "malformed",
        CertificateError::Other(other) => match other.0.downcast_ref::<SvidError>() {
            Some(error) => error.reason(),
            None => "badCertificate",
        },
        _ => "badCertificate",
    }
}

/// What the other side says about us. It says little, on purpose.
fn alert_reason(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateRequired => "peerWantsCertificate",
        AlertDescription::CertificateExpired => "peerSaysExpired",
        AlertDescription::UnknownCA => "peerSaysUnknownRoot",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "peerRefusesCertificate",
        AlertDescription::NoApplicationProtocol => "noApplicationProtocol",
        AlertDescription::ProtocolVersion => "incompatible",
        _ => "peerAlert",
    }
}

impl SvidError {
    /// The name of the rule that was broken.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "notYetValid",
            Self::UnknownRoot => "unknownRoot",
            Self::NotPinned => "notPinned",
            Self::OtherTrustDomain { .. } => "wrongTrustDomain",
            Self::WrongIdentity { .. } => "wrongIdentity",
            Self::WrongPurpose | Self::NoExtendedKeyUsage => "wrongPurpose",
            Self::NoCertificate => "noCertificate",
            Self::NoUri | Self::SeveralUris | Self::SpiffeId(_) => "notAnSvid",
            Self::IsAuthority | Self::KeyUsage(_) => "notALeaf",
            Self::WeakKey(_) => "weakKey",
            Self::BadSignature => "badSignature",
            Self::Malformed | Self::ChainPem(_) | Self::KeyPem(_) => "malformed",
            Self::ChainTooLong(_) | Self::PathTooCostly => "chainTooLong",
            Self::IssuerNotAllowed => "issuerNotAllowed",
            Self::Key | Self::KeyMismatch | Self::Bundle(_) => "misconfigured",
            Self::Path(_) => "badCertificate",
        }
    }
}
