//! The fast backend for processors as a plugin.

#![deny(missing_docs)]

camelid_sdk::export_backend!("cpu", || Box::new(camelid_cpu::CpuBackend));
