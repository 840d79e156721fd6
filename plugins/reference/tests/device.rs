//! The device's functions with wrong arguments: each an error that names what is wrong, none a panic, and the device
//! goes on working after it.

mod common;

use camelid_core::backend::{
    Backend, BackendError, Binding, BufferDesc, BufferId, BufferUsage, DeviceKind, ErrorCode, LinkedBackend, Location,
    Options, Placement, PlanId, Support, Weight,
};
use camelid_core::dtype::VENDOR_ID_START;
use camelid_core::graph::{Graph, GraphBuilder, Symbol, SymbolValues, TensorType, ValueId};
use camelid_core::{Bytes, DType, Device};
use camelid_reference::ReferenceBackend;

use common::*;

fn buffer(device: &mut dyn Device, name: &str, size: usize) -> BufferId {
    device.alloc(&BufferDesc { name: name.into(), size, usage: BufferUsage::Input }).unwrap()
}

fn weight(name: &str, ty: TensorType, data: Vec<u8>) -> Weight {
    Weight { name: name.into(), ty, data: Bytes::from(data), may_repack: true }
}

fn at(buffer: BufferId, offset: usize) -> Location {
    Location { buffer, offset }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, BackendError>, code: ErrorCode, parts: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.code, code, "{error}");
    for part in parts {
        assert!(error.message.contains(part), "`{part}` is not in: {error}");
    }
}

#[track_caller]
fn invalid<T: std::fmt::Debug>(result: Result<T, BackendError>, parts: &[&str]) {
    refused(result, ErrorCode::Invalid, parts);
}

#[test]
fn it_is_registered_and_describes_itself() {
    let found: Vec<_> = camelid_core::inventory::iter::<LinkedBackend>().filter(|b| b.name == "reference").collect();
    assert_eq!(found.len(), 1);
    let backend = (found[0].make)();
    assert_eq!((backend.name(), backend.version()), ("reference", env!("CARGO_PKG_VERSION")));
    let devices = backend.devices().unwrap();
    assert_eq!(devices.list.len(), 1);
    assert_eq!((devices.list[0].name.as_str(), devices.list[0].kind), ("Reference CPU", DeviceKind::Cpu));
}

#[test]
fn options_and_the_index_are_checked() {
    let open = |index, key: &str, value: &str| {
        let mut options = Options::default();
        options.set(key, value);
        ReferenceBackend.open(index, &options).map(|_| ())
    };
    open(0, "threads", "1").unwrap();
    open(0, "threads", "1024").unwrap();
    ReferenceBackend.open(0, &Options::default()).map(|_| ()).unwrap();
    invalid(open(0, "threads", "0"), &["threads", "= 0", "1..=1024"]);
    invalid(open(0, "threads", "1025"), &["1025"]);
    invalid(open(0, "threads", "-1"), &["threads", "-1"]);
    invalid(open(0, "thread", "1"), &["unknown option `thread`", "threads"]);
    invalid(open(1, "threads", "1"), &["no device 1"]);
}

#[test]
fn memory_is_written_read_and_copied_inside_its_bounds_only() {
    let mut device = open(1);
    let (a, b) = (buffer(&mut *device, "a", 10), buffer(&mut *device, "b", 4));
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
    let unknown = BufferId(999);
    invalid(device.write(unknown, 0, &[]), &["no buffer 999"]);
    invalid(device.read(unknown, 0, &mut []), &["no buffer 999"]);
    invalid(device.copy(at(unknown, 0), at(a, 0), 0), &["no buffer 999"]);
    device.free(b);
    invalid(device.read(b, 0, &mut []), &["was freed"]);
    device.free(b);
    device.free(unknown);
    assert_ne!(buffer(&mut *device, "c", 1), b, "ids are not used again");
    device.sync().unwrap();
}

#[test]
fn too_much_memory_is_an_error_and_the_device_goes_on() {
    let mut device = open(1);
    for size in [usize::MAX, usize::MAX - 8, 1 << 60] {
        let desc = BufferDesc { name: "kv cache: layer 3 keys".into(), size, usage: BufferUsage::State };
        refused(device.alloc(&desc), ErrorCode::OutOfMemory, &["kv cache: layer 3 keys", &size.to_string()]);
    }
    buffer(&mut *device, "small", 8);
}

#[test]
#[cfg(debug_assertions)]
fn fresh_memory_is_not_zero_in_debug_builds() {
    let mut device = open(1);
    let fresh = buffer(&mut *device, "fresh", 8);
    let mut bytes = [0; 8];
    device.read(fresh, 0, &mut bytes).unwrap();
    assert!(floats(DType::F32, &bytes).iter().all(|v| v.is_nan()));
}

#[test]
fn weights_stay_where_they_are_and_are_never_written() {
    let mut device = open(1);
    let ty = ty(DType::Q8_0, &[2.into(), 32.into()]);
    // A memory map gives bytes at any alignment.
    let data = Bytes::from(vec![7; 69]).slice(1..69).unwrap();
    let loaded = device.load_weight(Weight { name: "w".into(), ty, data, may_repack: true }).unwrap();
    assert_eq!(loaded.placement, Placement::Aliased);
    invalid(device.write(loaded.buffer, 0, &[1]), &["`w`", "never written"]);
    let other = buffer(&mut *device, "other", 68);
    invalid(device.copy(at(loaded.buffer, 0), at(other, 0), 1), &["`w`", "never written"]);
    device.copy(at(other, 0), at(loaded.buffer, 0), 68).unwrap();
    let mut bytes = [0; 68];
    device.read(other, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 68]);
}

#[test]
fn a_weight_must_have_the_size_of_its_type() {
    let mut device = open(1);
    let matrix = ty(DType::Q8_0, &[2.into(), 32.into()]);
    invalid(device.load_weight(weight("w", matrix, vec![0; 67])), &["`w`", "q8_0 [2, 32]", "68 bytes", "67"]);
    let ragged = tokens_by(DType::F32, 4);
    invalid(device.load_weight(weight("w", ragged, vec![])), &["`w`", "[T, 4]", "fixed dimensions"]);
    let huge = ty(DType::F32, &[usize::MAX.into(), 4.into()]);
    invalid(device.load_weight(weight("w", huge, vec![])), &["`w`"]);
    let vendor = ty(DType::vendor(VENDOR_ID_START, 1, 1).unwrap(), &[4.into()]);
    let result = device.load_weight(weight("w", vendor, vec![0; 4]));
    refused(result, ErrorCode::Unsupported, &["`w`", "vendor:0x80000000", "q4_k"]);
}

/// `y [T, 3] = linear(x [T, 2], w [3, 2])`.
fn linear() -> Graph {
    let mut g = GraphBuilder::new(up_to(SymbolValues::new(4, 1, 1, 1)));
    let x = g.input("x", tokens_by(DType::F32, 2)).unwrap();
    let w = g.weight("w", ty(DType::F32, &[3.into(), 2.into()])).unwrap();
    g.set_scope("layer");
    let y = g.linear(x, w, None).unwrap();
    g.output("y", y).unwrap();
    g.finish()
}

fn bind(value: ValueId, buffer: BufferId, offset: usize) -> Binding {
    Binding { value, location: at(buffer, offset) }
}

#[test]
fn bindings_are_checked_one_by_one() {
    let (mut device, graph) = (open(1), linear());
    let ids: Vec<ValueId> = graph.bound_values().map(|(id, _)| id).collect();
    let [x, w, y] = ids[..] else { panic!("x, w and y are bound") };
    let w_type = graph.value(w).ty;
    let ws = device.load_weight(weight("w", w_type, f32_bytes(&[1.0; 6]))).unwrap().buffer;
    let (xs, ys) = (buffer(&mut *device, "xs", 36), buffer(&mut *device, "ys", 48));
    let good = [bind(x, xs, 4), bind(w, ws, 0), bind(y, ys, 0)];
    let mut compile = |bindings: &[Binding]| device.compile(&graph, bindings);
    compile(&good).unwrap();

    invalid(compile(&[good[0], good[1]]), &["`%2` (f32 [T, 3]) is not bound"]);
    invalid(compile(&[good[0], good[1], good[2], good[0]]), &["`x` is bound twice"]);
    invalid(compile(&[bind(ValueId(77), xs, 0)]), &["value 77", "3 values"]);
    invalid(compile(&[bind(x, BufferId(50), 0)]), &["no buffer 50"]);
    invalid(compile(&[bind(x, xs, 5)]), &["`x` (f32 [T, 2])", "32 bytes", "`xs`", "36 bytes", "offset 5"]);
    invalid(compile(&[bind(x, xs, usize::MAX)]), &["`x`"]);
    invalid(compile(&[bind(x, ws, 0)]), &["`x`", "`w`", "only weights"]);
    invalid(compile(&[good[0], bind(w, xs, 0)]), &["`w`", "`xs`", "load_weight"]);
    invalid(compile(&[good[0], bind(w, ws, 4)]), &["`w`", "offset 4", "offset 0"]);
    invalid(compile(&[bind(x, ys, 16), good[1], good[2]]), &["`%2`", "`x`", "`ys`", "is written"]);

    let other_type = ty(DType::F32, &[2.into(), 3.into()]);
    let others = device.load_weight(weight("other", other_type, f32_bytes(&[1.0; 6]))).unwrap().buffer;
    let result = device.compile(&graph, &[bind(w, others, 0)]);
    invalid(result, &["`w` is f32 [3, 2]", "`other`", "f32 [2, 3]"]);
}

#[test]
fn a_value_inside_the_graph_cannot_be_bound() {
    let mut g = GraphBuilder::new(up_to(SymbolValues::new(4, 1, 1, 1)));
    let x = g.input("x", tokens_by(DType::F32, 2)).unwrap();
    let sum = g.add(x, x).unwrap();
    let y = g.add(sum, x).unwrap();
    g.output("y", y).unwrap();
    let mut device = open(1);
    let xs = buffer(&mut *device, "xs", 32);
    invalid(device.compile(&g.finish(), &[bind(x, xs, 0), bind(sum, xs, 0)]), &["`%1`", "the device finds it a place"]);
}

#[test]
fn values_that_are_only_read_may_share_bytes() {
    let mut g = GraphBuilder::new(up_to(SymbolValues::new(2, 1, 1, 1)));
    let [a, b] = ["a", "b"].map(|n| g.input(n, tokens_by(DType::F32, 2)).unwrap());
    let table = g.state("table", ty(DType::F32, &[2.into(), 2.into()])).unwrap();
    let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
    let sum = g.add(a, b).unwrap();
    g.scatter_rows(table, sum, index).unwrap();
    let graph = g.finish();
    let mut device = open(1);
    let one = buffer(&mut *device, "one", 64);
    let good = [bind(a, one, 0), bind(b, one, 8), bind(table, one, 24), bind(index, one, 40)];
    let plan = device.compile(&graph, &good).unwrap();
    device.write(one, 0, &f32_bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])).unwrap();
    device.write(one, 40, &i32_bytes(&[1, 0])).unwrap();
    device.run(plan, &SymbolValues::new(2, 0, 0, 0)).unwrap();
    let mut bytes = [0; 16];
    device.read(one, 24, &mut bytes).unwrap();
    assert_eq!(floats(DType::F32, &bytes), [8.0, 10.0, 4.0, 6.0]);
    for wrong in [20, 36] {
        let bindings = [good[0], good[1], bind(table, one, wrong), good[3]];
        invalid(device.compile(&graph, &bindings), &["`table`", "share bytes", "`one`"]);
    }
}

#[test]
fn what_is_not_supported_is_refused_by_compile_as_by_supports() {
    let vendor = DType::vendor(VENDOR_ID_START + 1, 32, 20).unwrap();
    let mut g = GraphBuilder::new(up_to(SymbolValues::new(4, 1, 1, 1)));
    let x = g.input("x", tokens_by(DType::F32, 32)).unwrap();
    let w = g.weight("w", ty(vendor, &[3.into(), 32.into()])).unwrap();
    g.set_scope("model.layers.3.mlp");
    g.linear(x, w, None).unwrap();
    let graph = g.finish();
    let mut device = open(1);
    assert!(matches!(device.supports(&graph, graph.node_ids().next().unwrap()), Support::No { .. }));
    let signature = "linear(x f32 [T, 32], w vendor:0x80000001 [3, 32]) at model.layers.3.mlp";
    refused(device.compile(&graph, &[]), ErrorCode::Unsupported, &[signature, "supported are f32, f16, bf16, q4_0"]);
}

#[test]
fn weights_cannot_be_changed_in_place() {
    let mut g = GraphBuilder::new(up_to(SymbolValues::new(4, 1, 1, 1)));
    let table = g.weight("table", ty(DType::F32, &[3.into(), 2.into()])).unwrap();
    let rows = g.input("rows", tokens_by(DType::F32, 2)).unwrap();
    let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
    g.scatter_rows(table, rows, index).unwrap();
    let result = open(1).compile(&g.finish(), &[]);
    refused(result, ErrorCode::Unsupported, &["scatter_rows", "`table` is a weight", "never written", "state"]);
}

#[test]
fn values_too_large_to_count_are_refused() {
    let mut g = GraphBuilder::new(up_to(SymbolValues::new(usize::MAX, 0, 0, 2)));
    let x = g.input("x", ty(DType::F32, &[Symbol::T.into(), Symbol::L.into(), 4.into()])).unwrap();
    g.add(x, x).unwrap();
    invalid(open(1).compile(&g.finish(), &[]), &["`x` (f32 [T, L, 4])", "more bytes than can be counted"]);
}

#[test]
fn a_step_that_needs_too_much_memory_is_an_error() {
    // 2^23 rows of 2^24 bf16: more bytes than there are addresses.
    let (rows, width) = (1 << 23, 1 << 24);
    let mut g = GraphBuilder::new(up_to(SymbolValues::new(rows, 0, 0, 0)));
    let table = g.weight("table", ty(DType::BF16, &[1.into(), width.into()])).unwrap();
    let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
    g.set_scope("wide");
    g.gather_rows(table, index).unwrap();
    let contents = Contents::from([("table".into(), vec![0; 2 * width])]);
    let mut rig = Rig::new(&g.finish(), &contents, 1);
    refused(rig.run(&SymbolValues::new(rows, 0, 0, 0)), ErrorCode::OutOfMemory, &["gather_rows at wide", "bytes"]);
    rig.run(&SymbolValues::new(1, 0, 0, 0)).unwrap();
}

#[test]
fn symbols_outside_the_range_and_plans_that_are_gone_are_refused() {
    let contents = Contents::from([("w".into(), f32_bytes(&[1.0; 6])), ("x".into(), f32_bytes(&[1.0; 8]))]);
    let mut rig = Rig::new(&linear(), &contents, 1);
    rig.run(&SymbolValues::new(4, 1, 1, 1)).unwrap();
    rig.run(&SymbolValues::new(0, 0, 0, 0)).unwrap();
    invalid(rig.run(&SymbolValues::new(5, 1, 1, 1)), &["symbol T is 5", "0..=4"]);
    let plan = rig.plan;
    invalid(rig.device.run(PlanId(99), &SymbolValues::new(1, 1, 1, 1)), &["no plan 99"]);
    rig.device.free(rig.buffers["x"].0);
    invalid(rig.run(&SymbolValues::new(1, 1, 1, 1)), &["`x`", "was freed"]);
    rig.device.free_plan(plan);
    rig.device.free_plan(plan);
    invalid(rig.device.run(plan, &SymbolValues::new(1, 1, 1, 1)), &["was freed"]);
}

#[test]
fn a_wrong_index_is_named_with_its_node_and_the_next_step_works() {
    let mut g = GraphBuilder::new(up_to(SymbolValues::new(4, 1, 1, 1)));
    let table = g.weight("embed", ty(DType::F32, &[3.into(), 1.into()])).unwrap();
    let tokens = g.step_input(camelid_core::graph::StepInput::Tokens).unwrap();
    g.set_scope("model.embed_tokens");
    let y = g.gather_rows(table, tokens).unwrap();
    g.output("y", y).unwrap();
    let contents = Contents::from([("embed".into(), f32_bytes(&[5.0, 6.0, 7.0]))]);
    let mut rig = Rig::new(&g.finish(), &contents, 1);
    let symbols = SymbolValues::new(2, 1, 1, 1);
    rig.write(&Contents::from([("tokens".into(), i32_bytes(&[1, 3]))]));
    invalid(rig.run(&symbols), &["gather_rows at model.embed_tokens", "`index`", "element 1 is 3", "0..3"]);
    rig.write(&Contents::from([("tokens".into(), i32_bytes(&[1, 2]))]));
    rig.run(&symbols).unwrap();
    assert_eq!(floats(DType::F32, &rig.read("%2", &symbols)), [6.0, 7.0]);
}
