//! Fields that several messages have.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use palisade_identity::SpiffeId;
use palisade_policy::kind::service_entry::Protocol;
use palisade_policy::kind::{Meta, Named};

use super::WireError;
use crate::v1;

pub(super) fn port(field: &str, number: u32) -> Result<u16, WireError> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(WireError::new(field, format!("{number} is no port"))),
    }
}

/// A port where 0 stands for "absent".
pub(super) fn optional_port(field: &str, number: u32) -> Result<Option<u16>, WireError> {
    if number == 0 { Ok(None) } else { port(field, number).map(Some) }
}

pub(super) fn optional_text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// A duration beyond the range of u64 is refused on both sides.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn spiffe_id(field: &str, text: &str) -> Result<SpiffeId, WireError> {
    SpiffeId::parse(text).map_err(|error| WireError::new(field, format!("{text:?} is no SPIFFE id: {error}")))
}

pub(super) fn address(field: &str, text: &str) -> Result<SocketAddr, WireError> {
    text.parse().map_err(|_| WireError::new(field, format!("{text:?} is no ip:port")))
}

/// An enum value; unknown ones come from a newer control plane and are refused.
pub(super) fn enumeration<T: TryFrom<i32>>(field: &str, number: i32) -> Result<T, WireError> {
    T::try_from(number)
        .map_err(|_| WireError::new(field, format!("{number} is a value this version does not know")))
}

pub(super) fn unspecified(field: &str) -> WireError {
    WireError::new(field, "is not set")
}

/// Every item of a list, with its index in the path of an error.
pub(super) fn each<W, M>(
    field: &str,
    items: Vec<W>,
    convert: impl Fn(W) -> Result<M, WireError>,
) -> Result<Vec<M>, WireError> {
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| convert(item).map_err(|error| error.within(&format!("{field}[{index}]"))))
        .collect()
}

/// Every value of a map by port.
pub(super) fn each_port<W, M>(
    field: &str,
    items: BTreeMap<u32, W>,
    convert: impl Fn(W) -> Result<M, WireError>,
) -> Result<BTreeMap<u16, M>, WireError> {
    items
        .into_iter()
        .map(|(number, item)| {
            let field = format!("{field}[{number}]");
            Ok((port(&field, number)?, convert(item).map_err(|error| error.within(&field))?))
        })
        .collect()
}

pub(super) fn named<T>(meta: Option<v1::Meta>, spec: T) -> Result<Named<T>, WireError> {
    let meta = meta.ok_or_else(|| unspecified("meta"))?;
    if meta.name.is_empty() || meta.namespace.is_empty() {
        return Err(WireError::new("meta", "needs a namespace and a name"));
    }
    let meta = Meta {
        namespace: meta.namespace,
        name: meta.name,
        labels: meta.labels,
        annotations: meta.annotations,
    };
    Ok(Named { meta, spec })
}

pub(super) fn meta(meta: &Meta) -> Option<v1::Meta> {
    Some(v1::Meta {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        labels: meta.labels.clone(),
        annotations: meta.annotations.clone(),
    })
}

impl From<Protocol> for v1::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http => Self::Http,
            Protocol::Http2 => Self::Http2,
            Protocol::Grpc => Self::Grpc,
            Protocol::Tcp => Self::Tcp,
        }
    }
}

impl TryFrom<v1::Protocol> for Protocol {
    type Error = WireError;

    fn try_from(protocol: v1::Protocol) -> Result<Self, WireError> {
        match protocol {
            v1::Protocol::Unspecified => Err(unspecified("protocol")),
            v1::Protocol::Http => Ok(Self::Http),
            v1::Protocol::Http2 => Ok(Self::Http2),
            v1::Protocol::Grpc => Ok(Self::Grpc),
            v1::Protocol::Tcp => Ok(Self::Tcp),
        }
    }
}

/// A protocol by its number on the wire.
pub(super) fn protocol(number: i32) -> Result<Protocol, WireError> {
    enumeration::<v1::Protocol>("protocol", number)?.try_into()
}
