//! What does not fit: every message names what is wrong, and the device goes on.

use std::fmt::Debug;

use camelid_sdk::Device;
use camelid_sdk::core::backend::{
    BackendError, Binding, BufferDesc, BufferId, BufferUsage, ErrorCode, Location, PlanId, Support, Weight,
};
use camelid_sdk::core::dtype::VENDOR_ID_START;
use camelid_sdk::core::graph::{Graph, GraphBuilder, Symbol, TensorType, ValueId};
use camelid_sdk::core::{Bytes, DType};

use crate::rig::*;

fn alloc(device: &mut dyn Device, name: &str, size: usize) -> BufferId {
    device.alloc(&BufferDesc { name: name.into(), size, usage: BufferUsage::Input }).unwrap()
}

fn weight(name: &str, ty: TensorType, data: Vec<u8>) -> Weight {
    Weight { name: name.into(), ty, data: Bytes::from(data), may_repack: true }
}

fn at(buffer: BufferId, offset: usize) -> Location {
    Location { buffer, offset }
}

#[track_caller]
fn refused<T: Debug>(result: Result<T, BackendError>, code: ErrorCode, parts: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.code, code, "{error}");
    for part in parts {
        assert!(error.message.contains(part), "`{part}` is not in: {error}");
    }
}

#[track_caller]
fn invalid<T: Debug>(result: Result<T, BackendError>, parts: &[&str]) {
    refused(result, ErrorCode::Invalid, parts);
}

#[test]
fn memory_is_written_read_and_copied_inside_its_bounds_only() {
    for mut device in devices() {
        let (a, b) = (alloc(&mut *device, "a", 10), alloc(&mut *device, "b", 4));
        device.write(a, 0, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        device.copy(at(b, 1), at(a, 7), 3).unwrap();
        device.copy(at(a, 5), at(a, 0), 5).unwrap();
        let mut all = [0; 10];
        device.read(a, 0, &mut all).unwrap();
        assert_eq!(all, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
        device.read(b, 1, &mut all[..3]).unwrap();
        assert_eq!(all[..3], [7, 8, 9]);
        device.write(a, 10, &[]).unwrap();
        invalid(device.write(a, 9, &[1, 2]), &["write of 2 bytes at offset 9", "`a`", "10 bytes"]);
        invalid(device.write(a, usize::MAX, &[1, 2]), &["`a`"]);
        invalid(device.read(b, 2, &mut all[..3]), &["read of 3 bytes at offset 2", "`b`", "4 bytes"]);
        invalid(device.copy(at(b, 0), at(a, 6), 5), &["copy of 5 bytes at offset 6", "`a`"]);
        invalid(device.copy(at(b, 2), at(a, 0), 3), &["copy of 3 bytes at offset 2", "`b`"]);
        for (to, from) in [(0, 0), (1, 0), (4, 0), (0, 4)] {
            invalid(device.copy(at(a, to), at(a, from), 5), &["`a`", "overlaps"]);
        }
        invalid(device.write(BufferId(999), 0, &[]), &["no buffer 999"]);
        invalid(device.copy(at(BufferId(999), 0), at(a, 0), 0), &["no buffer 999"]);
        device.free(b);
        invalid(device.read(b, 0, &mut []), &["was freed"]);
        device.free(b);
        assert_ne!(alloc(&mut *device, "c", 1), b, "ids are not used again");
        device.sync().unwrap();
    }
}

#[test]
fn weights_have_the_size_of_their_type_and_are_never_written() {
    for mut device in devices() {
        let matrix = ty(DType::F32, &[2.into(), 2.into()]);
        let data = Bytes::from(vec![7; 17]).slice(1..17).unwrap(); // a memory map gives bytes at any alignment
        let loaded =
            device.load_weight(Weight { name: "w".into(), ty: matrix, data, may_repack: true }).unwrap().buffer;
        let other = alloc(&mut *device, "other", 16);
        invalid(device.write(loaded, 0, &[1]), &["`w`", "never written"]);
        invalid(device.copy(at(loaded, 0), at(other, 0), 1), &["`w`", "never written"]);
        device.copy(at(other, 0), at(loaded, 0), 16).unwrap();
        let mut bytes = [0; 16];
        device.read(other, 0, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 16]);
        invalid(device.load_weight(weight("w", matrix, vec![0; 15])), &["`w`", "f32 [2, 2]", "16 bytes", "15"]);
        invalid(device.load_weight(weight("w", tokens_by(2), vec![])), &["`w`", "[T, 2]", "fixed dimensions"]);
        let huge = ty(DType::F32, &[usize::MAX.into(), 4.into()]);
        invalid(device.load_weight(weight("w", huge, vec![])), &["`w`", "size that fits"]);
        for dtype in [DType::Q4_K, DType::vendor(VENDOR_ID_START, 256, 1).unwrap()] {
            let result = device.load_weight(weight("w", ty(dtype, &[256.into()]), vec![]));
            refused(result, ErrorCode::Unsupported, &["`w`", &dtype.to_string(), "supported: f32, i32"]);
        }
    }
}

/// `y [T, 3] = linear(x [T, 2], w [3, 2])`.
fn linear() -> Graph {
    let mut g = GraphBuilder::new(up_to(4, 0));
    let x = g.input("x", tokens_by(2)).unwrap();
    let w = g.weight("w", ty(DType::F32, &[3.into(), 2.into()])).unwrap();
    g.set_scope("layer");
    let y = g.linear(x, w, None).unwrap();
    g.output("y", y).unwrap();
    g.finish()
}

fn bound(value: ValueId, buffer: BufferId, offset: usize) -> Binding {
    Binding { value, location: at(buffer, offset) }
}

#[test]
fn bindings_are_checked_one_by_one() {
    for mut device in devices() {
        let graph = linear();
        let ids: Vec<ValueId> = graph.bound_values().map(|(id, _)| id).collect();
        let [x, w, y] = ids[..] else { panic!("x, w and y are bound") };
        let ws = device.load_weight(weight("w", graph.value(w).ty, vec![0; 24])).unwrap().buffer;
        let others = ty(DType::F32, &[2.into(), 3.into()]);
        let others = device.load_weight(weight("other", others, vec![0; 24])).unwrap().buffer;
        let (xs, ys) = (alloc(&mut *device, "xs", 36), alloc(&mut *device, "ys", 48));
        let good = [bound(x, xs, 4), bound(w, ws, 0), bound(y, ys, 0)];
        let mut compile = |bindings: &[Binding]| device.compile(&graph, bindings);
        compile(&good).unwrap();
        invalid(compile(&good[..2]), &["`%2` (f32 [T, 3]) is not bound"]);
        invalid(compile(&[good[0], good[1], good[2], good[0]]), &["`x` is bound twice"]);
        invalid(compile(&[bound(ValueId(77), xs, 0)]), &["value 77", "3 values"]);
        invalid(compile(&[bound(x, BufferId(50), 0)]), &["no buffer 50"]);
        invalid(compile(&[bound(x, xs, 5)]), &["`x` (f32 [T, 2])", "32 bytes", "`xs`", "31", "offset 5"]);
        invalid(compile(&[bound(x, xs, usize::MAX)]), &["`x`"]);
        invalid(compile(&[bound(x, ws, 0)]), &["`x`", "`w`", "only weights"]);
        invalid(compile(&[good[0], bound(w, xs, 0)]), &["`w`", "`xs`", "load_weight"]);
        invalid(compile(&[good[0], bound(w, ws, 4)]), &["`w`", "offset 4", "offset 0"]);
        invalid(compile(&[bound(x, ys, 16), good[1], good[2]]), &["`%2`", "`x`", "`ys`", "is written"]);
        invalid(compile(&[bound(w, others, 0)]), &["`w` is f32 [3, 2]", "`other`", "f32 [2, 3]"]);
    }
}

#[test]
fn a_value_inside_the_graph_cannot_be_bound() {
    let mut g = GraphBuilder::new(up_to(4, 0));
    let x = g.input("x", tokens_by(2)).unwrap();
    let sum = g.add(x, x).unwrap();
    let y = g.add(sum, x).unwrap();
    g.output("y", y).unwrap();
    let (mut device, _) = host();
    let xs = alloc(&mut *device, "xs", 32);
    let result = device.compile(&g.finish(), &[bound(x, xs, 0), bound(sum, xs, 0)]);
    invalid(result, &["`%1`", "the device finds it a place"]);
}

#[test]
fn what_is_not_claimed_is_refused_by_compile_as_by_supports() {
    for device in &mut devices() {
        let mut g = GraphBuilder::new(up_to(4, 0));
        let x = g.input("x", ty(DType::F16, &[Symbol::T.into(), 2.into()])).unwrap();
        g.set_scope("model.layers.3.mlp");
        g.add(x, x).unwrap();
        g.swiglu(x, x).unwrap();
        let graph = g.finish();
        let answers: Vec<_> = graph.node_ids().map(|node| device.supports(&graph, node)).collect();
        assert!(matches!(&answers[0], Support::No { reason } if reason.ends_with("supported: f32")), "{answers:?}");
        assert!(matches!(&answers[1], Support::Lower { reason } if reason.contains("supported: add, mul")));
        let signature = "add(a f16 [T, 2], b f16 [T, 2]) at model.layers.3.mlp: operand `a` of type f16";
        refused(device.compile(&graph, &[]), ErrorCode::Unsupported, &[signature, "supported: f32"]);

        let mut g = GraphBuilder::new(up_to(4, 0));
        let x = g.input("x", tokens_by(2)).unwrap();
        g.swiglu(x, x).unwrap();
        refused(device.compile(&g.finish(), &[]), ErrorCode::Unsupported, &["swiglu(", "it is to be lowered"]);
    }
}

#[test]
fn values_too_large_to_count_are_refused() {
    let mut g = GraphBuilder::new(up_to(usize::MAX, 0));
    let x = g.input("x", ty(DType::F32, &[Symbol::T.into(), Symbol::O.into(), 4.into()])).unwrap();
    g.add(x, x).unwrap();
    let graph = g.finish();
    for mut device in devices() {
        invalid(device.compile(&graph, &[]), &["`x` (f32 [T, O, 4])", "more bytes than can be counted"]);
    }
}

#[test]
fn symbols_outside_the_range_and_what_is_gone_are_refused() {
    for mut device in devices() {
        let graph = linear();
        let bindings = bind(&mut *device, &graph, &[("w", vec![0; 24]), ("x", vec![0; 32])], None);
        let plan = device.compile(&graph, &bindings).unwrap();
        device.run(plan, &step(4, 0)).unwrap();
        device.run(plan, &step(0, 0)).unwrap();
        invalid(device.run(plan, &step(5, 0)), &["symbol T is 5", "0..=4"]);
        invalid(device.run(PlanId(99), &step(1, 0)), &["no plan 99"]);
        device.free(buffer(&graph, &bindings, "x"));
        invalid(device.run(plan, &step(1, 0)), &["`x`", "was freed"]);
        device.free_plan(plan);
        device.free_plan(plan);
        invalid(device.run(plan, &step(1, 0)), &["was freed"]);
    }
}

#[test]
fn an_error_of_a_kernel_names_the_node_and_the_next_step_works() {
    let mut g = GraphBuilder::new(up_to(4, 0));
    let table = g.weight("embed", ty(DType::F32, &[3.into(), 1.into()])).unwrap();
    let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
    g.set_scope("model.embed_tokens");
    let y = g.gather_rows(table, index).unwrap();
    g.output("y", y).unwrap();
    let graph = g.finish();
    for mut device in devices() {
        let contents = [("embed", f32_bytes(&[5.0, 6.0, 7.0])), ("index", i32_bytes(&[1, 3]))];
        let bindings = bind(&mut *device, &graph, &contents, None);
        let plan = device.compile(&graph, &bindings).unwrap();
        let signature = "gather_rows(table f32 [3, 1], index i32 [T]) at model.embed_tokens: row 3 of 3";
        invalid(device.run(plan, &step(2, 0)), &[signature]);
        device.write(buffer(&graph, &bindings, "index"), 0, &i32_bytes(&[1, 2])).unwrap();
        device.run(plan, &step(2, 0)).unwrap();
        assert_eq!(floats(&read(&mut *device, &graph, &bindings, y, &step(2, 0))), [6.0, 7.0]);
    }
}
