//! Camelid's conformance suite as tests of this package: `cargo test --test conformance`, or `cargo nextest run`.

camelid_conformance::conformance_main!(|| Box::new(camelid_example::Example), claims = "conformance.toml");
