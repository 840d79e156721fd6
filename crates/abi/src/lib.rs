//! The C ABI between Camelid and a backend plugin.
