//! The suite on the reference backend, as a third party's package runs it on its own.

camelid_conformance::conformance_main!(|| Box::new(camelid_reference::ReferenceBackend));
