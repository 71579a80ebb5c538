//! The CA: a root that signs intermediates, an intermediate that signs SVIDs from its own template.
