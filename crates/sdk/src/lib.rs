//! What the author of a Camelid backend depends on.
