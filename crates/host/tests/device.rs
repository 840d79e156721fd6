//! Handles on a device: order of freeing, checks in front of the backend, failures.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use camelid_core::backend::{BufferDesc, BufferUsage, ErrorCode, Placement};
use camelid_core::graph::{Graph, GraphBuilder, Symbol, SymbolRange, SymbolValues, ValueId};
use camelid_core::{Bytes, DType};
use camelid_host::{Buffer, DeviceHandle, HostError, Plan};
use common::{f32, open, range, weight};

fn desc(name: &str, size: usize) -> BufferDesc {
    BufferDesc { name: name.into(), size, usage: BufferUsage::State }
}

type Bound = (ValueId, Buffer, usize);

/// `y = x w^T` with `x [T, 4]`, `w [3, 4]`, and the names the tests use.
fn linear() -> (Graph, ValueId, ValueId, ValueId) {
    let mut g = GraphBuilder::new(range());
    let x = g.input("x", f32(&[Symbol::T.into(), 4.into()])).unwrap();
    let w = g.weight("w", f32(&[3.into(), 4.into()])).unwrap();
    let y = g.linear(x, w, None).unwrap();
    g.output("y", y).unwrap();
    (g.finish(), x, w, y)
}

/// Buffers that fit [`linear`]: x 128 bytes, w, y 96.
fn buffers(device: &DeviceHandle) -> (Buffer, Buffer, Buffer) {
    let (w, placement) = device.load_weight(weight("w", f32(&[3.into(), 4.into()]))).unwrap();
    assert_eq!(placement, Placement::Repacked);
    (device.alloc(desc("x", 128)).unwrap(), w, device.alloc(desc("y", 96)).unwrap())
}

fn compiled(device: &DeviceHandle) -> Plan {
    let (graph, x, w, y) = linear();
    let (bx, bw, by) = buffers(device);
    device.compile(&graph, &[(x, bx, 0), (w, bw, 0), (y, by, 0)]).unwrap()
}

#[test]
fn plans_go_before_their_buffers_and_those_before_the_device() {
    let (device, script) = open();
    let plan = compiled(&device);
    drop(device);
    plan.run(&SymbolValues::new(8, 1, 1, 64)).unwrap();
    script.take_calls();
    drop(plan);
    assert_eq!(script.take_calls(), ["free_plan 4", "free 2", "free 1", "free 3", "close"]);
}

#[test]
fn a_buffer_lives_as_long_as_its_last_clone_or_plan() {
    let (device, script) = open();
    let buffer = device.alloc(desc("x", 8)).unwrap();
    let clone = buffer.clone();
    drop(buffer);
    clone.write(4, &[1, 2, 3, 4]).unwrap();
    let mut back = [0; 4];
    clone.read(4, &mut back).unwrap();
    assert_eq!(back, [1, 2, 3, 4]);
    drop(clone);
    assert_eq!(script.take_calls(), ["alloc x 8", "write 1 4 4", "read 1 4 4", "free 1"]);
    drop(device);
    assert_eq!(script.take_calls(), ["close"]);
}

#[test]
fn handles_may_be_used_from_any_thread() {
    fn shared<T: Send + Sync>(_: &T) {}
    let (device, _script) = open();
    let plan = compiled(&device);
    shared(&plan);
    let buffer = device.alloc(desc("x", 400)).unwrap();
    thread::scope(|scope| {
        for i in 0..4u8 {
            let buffer = &buffer;
            scope.spawn(move || (0..100).for_each(|j| buffer.write(usize::from(i) * 100 + j, &[i]).unwrap()));
        }
    });
    let mut all = [9; 400];
    buffer.read(0, &mut all).unwrap();
    assert!(all.iter().enumerate().all(|(i, b)| usize::from(*b) == i / 100));
}

#[test]
fn ranges_that_leave_a_buffer_never_reach_the_device() {
    let (device, script) = open();
    let (a, b) = (device.alloc(desc("a", 16)).unwrap(), device.alloc(desc("b", 8)).unwrap());
    script.take_calls();
    let error = a.write(12, &[0; 5]).unwrap_err().to_string();
    assert_eq!(error, "fake: write `a`: 5 bytes at offset 12 do not fit in its 16 bytes");
    for error in [
        a.write(usize::MAX, &[0; 2]).unwrap_err(),
        a.write(17, &[]).unwrap_err(),
        a.read(0, &mut [0; 17]).unwrap_err(),
        device.copy((&b, 0), (&a, 0), 9).unwrap_err(),
        device.copy((&a, 0), (&b, 0), 9).unwrap_err(),
        device.copy((&b, 1), (&a, usize::MAX), 1).unwrap_err(),
    ] {
        assert!(matches!(error, HostError::OutOfBounds { .. }), "{error}");
    }
    let error = device.copy((&a, 3), (&a, 0), 4).unwrap_err().to_string();
    assert!(error.contains("copy inside `a`: 4 bytes from offset 0 to offset 3 overlap"), "{error}");
    assert!(script.take_calls().is_empty());
    device.copy((&a, 4), (&a, 0), 4).unwrap();
    device.copy((&b, 0), (&a, 8), 8).unwrap();
    device.copy((&b, 8), (&a, 16), 0).unwrap();
    a.write(16, &[]).unwrap();
    assert_eq!(script.take_calls(), ["copy 1+4 1+0 4", "copy 2+0 1+8 8"], "nothing to copy is no call");
}

#[test]
fn a_device_is_not_asked_for_empty_memory() {
    let (device, script) = open();
    let empty = device.alloc(desc("none", 0)).unwrap();
    assert_eq!((empty.size(), script.take_calls()), (0, vec!["alloc none 1".to_owned()]));
    assert!(matches!(empty.write(0, &[1]), Err(HostError::OutOfBounds { size: 0, .. })));
}

#[test]
fn weights_are_checked_and_stay_weights() {
    let (device, script) = open();
    let ty = f32(&[3.into(), 4.into()]);
    let mut short = weight("model.norm", ty);
    short.data = Bytes::from(vec![0; 47]);
    let error = device.load_weight(short).unwrap_err().to_string();
    let rule = "the type takes 48 bytes, but there are 47; the file is damaged";
    assert_eq!(error, format!("fake: load weight `model.norm` (f32 [3, 4]): {rule}"));
    let mut symbolic = weight("w", ty);
    symbolic.ty = f32(&[Symbol::T.into(), 4.into()]);
    assert!(device.load_weight(symbolic).unwrap_err().to_string().contains("dimension T changes"));
    let mut empty = weight("w", f32(&[0.into(), 4.into()]));
    assert!(device.load_weight(empty.clone()).unwrap_err().to_string().contains("no elements"));
    empty.ty = f32(&[usize::MAX.into(), 4.into()]);
    assert!(device.load_weight(empty).unwrap_err().to_string().contains("overflows"));
    assert!(script.take_calls().is_empty());

    let (w, _) = device.load_weight(weight("w", ty)).unwrap();
    let plain = device.alloc(desc("plain", 48)).unwrap();
    for (error, operation) in [
        (w.write(0, &[0]).unwrap_err(), "write"),
        (w.read(0, &mut [0]).unwrap_err(), "read"),
        (device.copy((&w, 0), (&plain, 0), 4).unwrap_err(), "copy to"),
        (device.copy((&plain, 0), (&w, 0), 4).unwrap_err(), "copy from"),
    ] {
        assert!(error.to_string().starts_with(&format!("fake: {operation} `w`: a loaded weight")), "{error}");
    }
}

#[test]
fn every_bound_value_needs_one_buffer_that_fits() {
    let (device, script) = open();
    let (graph, x, w, y) = linear();
    let (bx, bw, by) = buffers(&device);
    let (other_w, _) = device.load_weight(weight("v", f32(&[4.into(), 3.into()]))).unwrap();
    let small = device.alloc(desc("small", 127)).unwrap();
    let inner = ValueId(99);
    script.take_calls();
    let cases: Vec<(Vec<Bound>, &str)> = vec![
        (vec![(x, bx.clone(), 0), (w, bw.clone(), 0)], "value `y`: it (f32 [T, 3]) is bound to no buffer"),
        (
            vec![(x, bx.clone(), 0), (x, bx.clone(), 0), (w, bw.clone(), 0), (y, by.clone(), 0)],
            "value `x`: it is bound twice",
        ),
        (
            vec![(x, small, 0), (w, bw.clone(), 0), (y, by.clone(), 0)],
            "value `x`: it takes 128 bytes (f32 [T, 4] at the range's maximum), but `small` has 127 and it lies at offset 0",
        ),
        (vec![(x, bx.clone(), 4), (w, bw.clone(), 0), (y, by.clone(), 0)], "`x` has 128 and it lies at offset 4"),
        (vec![(x, bx.clone(), usize::MAX - 3), (w, bw.clone(), 0), (y, by.clone(), 0)], "but `x` has 128"),
        (
            vec![(x, bx.clone(), 2), (w, bw.clone(), 0), (y, by.clone(), 0)],
            "no whole number of its elements of 4 bytes",
        ),
        (
            vec![(x, bw.clone(), 0), (w, bw.clone(), 0), (y, by.clone(), 0)],
            "value `x`: it is no weight, but `w` is one",
        ),
        (
            vec![(x, bx.clone(), 0), (w, by.clone(), 0), (y, by.clone(), 0)],
            "value `w`: it is a weight, but `y` is plain",
        ),
        (
            vec![(x, bx.clone(), 0), (w, other_w, 0), (y, by.clone(), 0)],
            "value `w`: it is a weight of type f32 [3, 4], but `v` was loaded as f32 [4, 3]",
        ),
        (vec![(x, bx.clone(), 0), (w, bw.clone(), 0), (y, bx.clone(), 0)], "shares memory with"),
        (vec![(inner, bx.clone(), 0)], "value `%99`: the graph has no such value"),
    ];
    for (bindings, expected) in cases {
        let error = device.compile(&graph, &bindings).unwrap_err().to_string();
        assert!(error.starts_with("fake: compile: value") && error.contains(expected), "{error}\n{expected}");
    }
    assert!(script.take_calls().iter().all(|call| call.starts_with("free ")), "the device compiled none of them");
    device.compile(&graph, &[(x, bx, 0), (w, bw, 0), (y, by, 0)]).unwrap();
    assert!(script.take_calls()[0].starts_with("compile 1 nodes, 3 bindings"));
}

#[test]
fn values_may_lie_side_by_side_but_not_across_each_other() {
    let (device, _script) = open();
    let mut g = GraphBuilder::new(range());
    let ty = f32(&[Symbol::T.into(), 2.into()]); // 64 bytes at most
    let (a, b) = (g.input("a", ty).unwrap(), g.input("b", ty).unwrap());
    let sum = g.add(a, b).unwrap();
    let product = g.mul(sum, b).unwrap();
    g.output("product", product).unwrap();
    let graph = g.finish();
    let arena = device.alloc(desc("arena", 256)).unwrap();
    let bind = |at: [usize; 3]| {
        let bindings: Vec<_> = [a, b, product].into_iter().zip(at).map(|(v, o)| (v, arena.clone(), o)).collect();
        device.compile(&graph, &bindings)
    };
    bind([0, 64, 128]).unwrap();
    bind([192, 0, 128]).unwrap();
    bind([0, 32, 96]).expect("inputs may share what is only read");
    for overlapping in [[0, 64, 124], [64, 0, 60], [0, 0, 32], [128, 0, 64 + 4], [0, 128, 0]] {
        let error = bind(overlapping).unwrap_err().to_string();
        assert!(error.contains("shares memory with"), "{overlapping:?}: {error}");
    }
    let unneeded = [(a, arena.clone(), 0), (b, arena.clone(), 64), (product, arena.clone(), 128), (sum, arena, 192)];
    let error = device.compile(&graph, &unneeded).unwrap_err().to_string();
    assert!(error.contains("computed inside the graph"), "{error}");
}

#[test]
fn tied_weights_share_a_buffer() {
    let (device, script) = open();
    let mut g = GraphBuilder::new(range());
    let ty = f32(&[4.into(), 4.into()]);
    let x = g.input("x", f32(&[Symbol::T.into(), 4.into()])).unwrap();
    let (w, v) = (g.weight("w", ty).unwrap(), g.weight("v", ty).unwrap());
    let y = g.linear(x, w, None).unwrap();
    let z = g.linear(y, v, None).unwrap();
    g.output("z", z).unwrap();
    let (tied, _) = device.load_weight(weight("w", ty)).unwrap();
    let (bx, bz) = (device.alloc(desc("x", 128)).unwrap(), device.alloc(desc("z", 128)).unwrap());
    let plan = device.compile(&g.finish(), &[(x, bx, 0), (w, tied.clone(), 0), (v, tied, 0), (z, bz, 0)]).unwrap();
    script.take_calls();
    drop(plan);
    assert_eq!(script.take_calls().iter().filter(|c| *c == "free 1").count(), 1, "freed once");
}

#[test]
fn buffers_of_another_device_are_refused() {
    let ((device, script), (other, _other_script)) = (open(), open());
    let (mine, theirs) = (device.alloc(desc("mine", 128)).unwrap(), other.alloc(desc("theirs", 128)).unwrap());
    script.take_calls();
    let (graph, x, ..) = linear();
    for error in [
        device.copy((&mine, 0), (&theirs, 0), 1).unwrap_err(),
        device.copy((&theirs, 0), (&mine, 0), 1).unwrap_err(),
        device.compile(&graph, &[(x, theirs.clone(), 0)]).unwrap_err(),
    ] {
        assert!(matches!(&error, HostError::ForeignBuffer { buffer, .. } if buffer == "theirs"), "{error}");
    }
    assert!(script.take_calls().is_empty());
}

#[test]
fn a_step_outside_the_range_is_refused() {
    let (device, script) = open();
    let plan = compiled(&device);
    script.take_calls();
    let error = plan.run(&SymbolValues::new(9, 1, 1, 1)).unwrap_err().to_string();
    assert_eq!(error, "fake: run: T is 9, but the plan was compiled for 1 to 8");
    assert!(plan.run(&SymbolValues::new(1, 1, 0, 1)).unwrap_err().to_string().contains("O is 0"));
    assert!(script.take_calls().is_empty());
    plan.run(&SymbolValues::new(1, 1, 1, 1)).unwrap();
    assert_eq!(script.take_calls(), ["run 4"]);
}

#[test]
fn an_empty_range_is_refused() {
    let (device, _script) = open();
    let g = GraphBuilder::new(SymbolRange { min: range().max, max: range().min });
    let error = device.compile(&g.finish(), &[]).unwrap_err().to_string();
    assert_eq!(error, "fake: compile: the range of T is empty: its least value 8 is above its largest 1");
}

#[test]
fn failures_name_the_call_and_leave_the_device_usable() {
    let (device, script) = open();
    script.failing.lock().unwrap().insert("alloc", ErrorCode::OutOfMemory);
    let error = device.alloc(desc("kv cache: layer 3 keys", 64)).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OutOfMemory));
    let text = error.to_string();
    assert_eq!(text, "fake: allocate `kv cache: layer 3 keys` (64 bytes): out of memory: alloc fails as told");
    script.failing.lock().unwrap().clear();
    device.alloc(desc("x", 64)).unwrap();
    device.sync().unwrap();
    script.failing.lock().unwrap().insert("compile", ErrorCode::Unsupported);
    let (graph, x, w, y) = linear();
    let (bx, bw, by) = buffers(&device);
    script.take_calls();
    let error = device.compile(&graph, &[(x, bx, 0), (w, bw, 0), (y, by, 0)]).unwrap_err().to_string();
    assert_eq!(error, "fake: compile (1 nodes): not supported: compile fails as told");
    assert_eq!(script.take_calls().len(), 1 + 3, "the bindings' buffers are freed");
}

#[test]
fn a_lost_device_is_only_freed_and_closed() {
    let (device, script) = open();
    let plan = compiled(&device);
    script.failing.lock().unwrap().insert("run", ErrorCode::DeviceLost);
    let step = SymbolValues::new(1, 1, 1, 1);
    assert!(plan.run(&step).unwrap_err().to_string().contains("device lost: run fails as told"));
    script.failing.lock().unwrap().clear();
    script.take_calls();
    let error = plan.run(&step).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::DeviceLost));
    assert!(error.to_string().contains("lost earlier (run fails as told); open it again"), "{error}");
    device.alloc(desc("x", 1)).unwrap_err();
    device.place(&linear().0, Default::default()).unwrap_err();
    drop((plan, device));
    assert_eq!(script.take_calls(), ["free_plan 4", "free 2", "free 1", "free 3", "close"]);
}

#[test]
fn after_a_panic_in_the_backend_calls_are_errors() {
    let (device, script) = open();
    let plan = compiled(&device);
    *script.panicking.lock().unwrap() = Some("run");
    let step = SymbolValues::new(1, 1, 1, 1);
    catch_unwind(AssertUnwindSafe(|| plan.run(&step))).unwrap_err();
    *script.panicking.lock().unwrap() = None;
    script.take_calls();
    let error = plan.run(&step).unwrap_err().to_string();
    assert!(error.starts_with("fake: run: an earlier call into the backend panicked"), "{error}");
    assert!(matches!(device.sync(), Err(HostError::Poisoned { .. })));
    drop((plan, device));
    assert_eq!(script.take_calls(), ["close"], "its state is unknown: it is only closed");
}

#[test]
fn an_id_given_out_twice_is_the_backends_fault_and_freed_once() {
    let (device, script) = open();
    let first = device.alloc(desc("first", 8)).unwrap();
    *script.next_id.lock().unwrap() = 0;
    let error = device.alloc(desc("second", 8)).unwrap_err().to_string();
    assert!(error.starts_with("fake: allocate `second` (8 bytes): it returned buffer id 1"), "{error}");
    script.take_calls();
    drop(first);
    assert_eq!(script.take_calls(), ["free 1"]);
    *script.next_id.lock().unwrap() = 0;
    device.alloc(desc("third", 8)).expect("an id may come again once it was freed");
}

#[test]
fn elements_of_two_bytes_may_start_at_any_second_byte() {
    let (device, _script) = open();
    let mut g = GraphBuilder::new(range());
    let ty = camelid_core::graph::TensorType::new(DType::F16, &[Symbol::T.into(), 4.into()]).unwrap();
    let a = g.input("a", ty).unwrap();
    let y = g.cast(a, DType::F32).unwrap();
    g.output("y", y).unwrap();
    let graph = g.finish();
    let (ba, by) = (device.alloc(desc("a", 66)).unwrap(), device.alloc(desc("y", 128)).unwrap());
    device.compile(&graph, &[(a, ba.clone(), 2), (y, by.clone(), 0)]).unwrap();
    device.compile(&graph, &[(a, ba, 1), (y, by, 0)]).unwrap_err();
}
