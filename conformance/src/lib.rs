//! Camelid's conformance suite.
