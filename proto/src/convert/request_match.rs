use palisade_policy::kind::request_match::MatchItem;

use crate::v1;

impl From<&MatchItem> for v1::RequestMatch {
    fn from(item: &MatchItem) -> Self {
        Self {
            hosts: item.hosts.clone(),
            methods: item.methods.clone(),
            paths: item.paths.clone(),
            routes: item.routes.clone(),
        }
    }
}

/// Every text is possible; what it means is judged when the item is compiled.
impl From<v1::RequestMatch> for MatchItem {
    fn from(wire: v1::RequestMatch) -> Self {
        Self { hosts: wire.hosts, methods: wire.methods, paths: wire.paths, routes: wire.routes }
    }
}
