//! The reference backend as a plugin.

#![deny(missing_docs)]

camelid_sdk::export_backend!("reference", || Box::new(camelid_reference::ReferenceBackend));
