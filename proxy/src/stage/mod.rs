//! Steps that pipelines share.

pub(crate) mod authenticate;
pub(crate) mod forward;
pub(crate) mod identify;
pub(crate) mod limit;
pub(crate) mod tunnel;
