//! What plans cost: memory between the nodes, copies, and what a kernel that fails leaves behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;

use camelid_sdk::core::DType;
use camelid_sdk::core::backend::ErrorCode;
use camelid_sdk::core::graph::{Graph, GraphBuilder, Symbol};
use camelid_sdk::kernels::testing;

use crate::rig::*;

/// `y = x * x * .. * x`, with `n` products.
fn power(n: usize) -> Graph {
    let mut g = GraphBuilder::new(up_to(8, 0));
    let x = g.input("x", tokens_by(4)).unwrap();
    let mut y = x;
    for _ in 0..n {
        y = g.mul(y, x).unwrap();
    }
    g.output("y", y).unwrap();
    g.finish()
}

#[test]
fn a_long_chain_needs_two_pieces_and_gives_them_back() {
    let (mut device, counts) = particular();
    let graph = power(40);
    let bindings = bind(&mut *device, &graph, &[], None);
    let (pieces, bytes) = (counts.pieces.load(Relaxed), counts.bytes.load(Relaxed));
    let plan = device.compile(&graph, &bindings).unwrap();
    assert_eq!(counts.pieces.load(Relaxed) - pieces, 2);
    assert_eq!(counts.bytes.load(Relaxed) - bytes, 2 * 8 * 4 * 4, "as large as eight tokens need");
    device.write(buffer(&graph, &bindings, "x"), 0, &f32_bytes(&[1.0; 32])).unwrap();
    for tokens in [8, 1, 8] {
        device.run(plan, &step(tokens, 0)).unwrap();
    }
    assert_eq!(counts.pieces.load(Relaxed) - pieces, 2, "a step makes no memory");
    device.free_plan(plan);
    assert_eq!(counts.pieces.load(Relaxed), pieces);
    for binding in bindings {
        device.free(binding.location.buffer);
    }
    assert_eq!(counts.pieces.load(Relaxed), 0);
}

#[test]
fn copies_of_operands_live_for_one_node() {
    let (mut device, counts) = particular();
    let graph = power(40);
    let bindings = bind(&mut *device, &graph, &[("x", f32_bytes(&[1.0; 32]))], Some(4)); // where no kernel can read x
    let pieces = counts.pieces.load(Relaxed);
    let plan = device.compile(&graph, &bindings).unwrap();
    assert!(counts.pieces.load(Relaxed) - pieces <= 4, "two for the chain, two for the operands of the first node");
    device.run(plan, &step(8, 0)).unwrap();
    let y = read(&mut *device, &graph, &bindings, output(&graph, "y"), &step(8, 0));
    assert_eq!(floats(&y), [1.0; 32]);
}

#[test]
fn evaluate_gives_everything_back_and_says_what_is_missing() {
    let mut g = GraphBuilder::new(up_to(2, 0));
    let x = g.input("x", tokens_by(2)).unwrap();
    let w = g.weight("w", ty(DType::F32, &[1.into(), 2.into()])).unwrap();
    let y = g.linear(x, w, None).unwrap();
    g.output("y", y).unwrap();
    let graph = g.finish();
    let (mut device, counts) = particular();
    let mut evaluate = |contents: &[(&str, Vec<u8>)]| {
        let results = testing::evaluate(&mut *device, &graph, contents, &step(2, 0));
        assert_eq!(counts.pieces.load(Relaxed), 0);
        results.map(|results| floats(&results[0])).map_err(|error| error.message)
    };
    let (x, w) = (("x", f32_bytes(&[1.0, 2.0, 3.0, 4.0])), ("w", f32_bytes(&[1.0, -1.0])));
    assert_eq!(evaluate(&[x.clone(), w.clone()]), Ok(vec![-1.0, -1.0]));
    assert_eq!(evaluate(std::slice::from_ref(&x)).unwrap_err(), "weight `w` (f32 [1, 2]) has no contents");
    let error = evaluate(&[x.clone(), w.clone(), ("v", vec![])]).unwrap_err();
    assert_eq!(error, "contents of `v`: the graph has no bound value of this name");
    let error = evaluate(&[("x", vec![0; 17]), w]).unwrap_err();
    assert!(error.starts_with("write of 17 bytes at offset 0 leaves buffer `x`"), "{error}");
}

#[test]
fn values_in_buffers_of_their_own_are_never_copied() {
    let (mut device, counts) = particular();
    let mut g = GraphBuilder::new(up_to(8, 0));
    let x = g.input("x", tokens_by(4)).unwrap();
    let table = g.state("table", ty(DType::F32, &[8.into(), 4.into()])).unwrap();
    let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
    let y = g.add(x, x).unwrap();
    let y = g.reshape(y, &[Symbol::T.into(), 2.into(), 2.into()]).unwrap();
    let y = g.reshape(y, &[Symbol::T.into(), 4.into()]).unwrap();
    let table = g.scatter_rows(table, y, index).unwrap();
    let z = g.gather_rows(table, index).unwrap();
    g.output("z", z).unwrap();
    let graph = g.finish();
    let contents = [("x", f32_bytes(&[1.0; 4])), ("index", i32_bytes(&[7]))];
    let bindings = bind(&mut *device, &graph, &contents, None);
    let plan = device.compile(&graph, &bindings).unwrap();
    device.run(plan, &step(1, 0)).unwrap();
    assert_eq!(counts.copies.load(Relaxed), 0);
    let z = read(&mut *device, &graph, &bindings, output(&graph, "z"), &step(1, 0));
    assert_eq!(floats(&z), [2.0; 4]);
}

#[test]
fn too_little_memory_is_an_error_of_compile_and_the_device_goes_on() {
    for mut device in devices() {
        // Between the nodes 2^23 rows of 2^24 numbers: more bytes than there are addresses to give.
        let mut g = GraphBuilder::new(up_to(1 << 23, 0));
        let table = g.weight("w", ty(DType::F32, &[1.into(), (1 << 24).into()])).unwrap();
        let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
        g.gather_rows(table, index).unwrap();
        let graph = g.finish();
        let contents = [("w", vec![0; 4 << 24])];
        let bindings = bind(&mut *device, &graph, &contents, None);
        let error = device.compile(&graph, &bindings).unwrap_err();
        assert_eq!(error.code, ErrorCode::OutOfMemory);
        let bytes = (1usize << 49).to_string();
        assert!(error.message.contains("values between operations") && error.message.contains(&bytes), "{error}");

        let graph = power(3);
        let bindings = bind(&mut *device, &graph, &[("x", f32_bytes(&[2.0; 32]))], None);
        let plan = device.compile(&graph, &bindings).unwrap();
        device.run(plan, &step(8, 0)).unwrap();
    }
}

#[test]
fn a_kernel_that_panics_loses_what_it_was_writing_and_no_more() {
    for (mut device, counts) in [host(), particular()] {
        let graph = power(1); // y is written straight to its buffer
        let bindings = bind(&mut *device, &graph, &[("x", f32_bytes(&[f32::NAN; 32]))], None);
        let plan = device.compile(&graph, &bindings).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| device.run(plan, &step(1, 0))));
        assert!(result.is_err(), "the panic is the caller's to catch");
        let lost = |result: Result<(), camelid_sdk::core::backend::BackendError>| {
            let error = result.unwrap_err();
            assert_eq!(error.code, ErrorCode::DeviceLost, "{error}");
            assert!(error.message.contains("lost when a kernel panicked"), "{error}");
        };
        let y = buffer(&graph, &bindings, "%1");
        lost(device.run(plan, &step(1, 0)));
        lost(device.write(y, 0, &[0]));
        lost(device.read(y, 0, &mut [0]));
        let mut x = [0; 4];
        device.read(buffer(&graph, &bindings, "x"), 0, &mut x).unwrap();
        assert!(f32::from_le_bytes(x).is_nan());
        device.free(y);
        device.free_plan(plan);
        let before = counts.evals.load(Relaxed);
        let contents = [("x", f32_bytes(&[1.0; 32]))];
        let bindings = bind(&mut *device, &graph, &contents, None);
        let plan = device.compile(&graph, &bindings).unwrap();
        device.run(plan, &step(1, 0)).unwrap();
        assert_eq!(counts.evals.load(Relaxed), before + 1);
    }
}
