use palisade_policy::kind::peer_authentication::MtlsMode;
use palisade_policy::kind::{Named, PeerAuthenticationSpec};

use super::WireError;
use super::scalar::{each_port, enumeration, meta, named, unspecified};
use crate::v1;
use crate::v1::peer_authentication::Mode;

impl From<MtlsMode> for Mode {
    fn from(mode: MtlsMode) -> Self {
        match mode {
            MtlsMode::Unset => Self::Unset,
            MtlsMode::Disable => Self::Disable,
            MtlsMode::Permissive => Self::Permissive,
            MtlsMode::Strict => Self::Strict,
        }
    }
}

fn mode_to_wire(mode: MtlsMode) -> i32 {
    Mode::from(mode).into()
}

impl TryFrom<Mode> for MtlsMode {
    type Error = WireError;

    fn try_from(mode: Mode) -> Result<Self, WireError> {
        match mode {
            Mode::Unspecified => Err(unspecified("mode")),
            Mode::Unset => Ok(Self::Unset),
            Mode::Disable => Ok(Self::Disable),
            Mode::Permissive => Ok(Self::Permissive),
            Mode::Strict => Ok(Self::Strict),
        }
    }
}

fn mode_from_wire(number: i32) -> Result<MtlsMode, WireError> {
    enumeration::<Mode>("mode", number)?.try_into()
}

impl From<&Named<PeerAuthenticationSpec>> for v1::PeerAuthentication {
    fn from(object: &Named<PeerAuthenticationSpec>) -> Self {
        let ports = &object.spec.port_level;
        Self {
            meta: meta(&object.meta),
            selector: object.spec.selector.clone(),
            mode: mode_to_wire(object.spec.mode),
            port_level: ports.iter().map(|(port, mode)| (u32::from(*port), mode_to_wire(*mode))).collect(),
        }
    }
}

impl TryFrom<v1::PeerAuthentication> for Named<PeerAuthenticationSpec> {
    type Error = WireError;

    fn try_from(object: v1::PeerAuthentication) -> Result<Self, WireError> {
        let spec = PeerAuthenticationSpec {
            selector: object.selector,
            mode: mode_from_wire(object.mode)?,
            port_level: each_port("port_level", object.port_level, mode_from_wire)?,
        };
        named(object.meta, spec)
    }
}
