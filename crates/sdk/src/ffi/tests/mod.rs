//! Both sides against each other: a backend that does what a test tells it to, behind its own table of functions.
//!
//! These run under Miri: `cargo +nightly miri test -p camelid-sdk --lib`.

mod fake;

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use camelid_abi as abi;
use camelid_core::Bytes;
use camelid_core::DType;
use camelid_core::backend::{
    Backend, BackendError, Binding, BufferDesc, BufferId, BufferUsage, DeviceInfo, DeviceKind, ErrorCode, Location,
    Options, Placement, PlanId, Support, Weight,
};
use camelid_core::graph::{
    Graph, GraphBuilder, Shape, StepInput, Symbol, SymbolRange, SymbolValues, TensorType, ValueId,
};
use camelid_core::ops::{Activation, AttentionSpec, Op};

use self::fake::{Fake, Script};
use super::export::{API, plugin_of};
use super::functions::Functions;
use super::graph_in::graph_in;
use super::graph_out::GraphOut;
use super::import::{ConnectError, ManifestInfo, PluginBackend, adopt, check_manifest, connect};
use super::{loopback, struct_size};

fn ty(dtype: DType, dims: &[camelid_core::graph::Dim]) -> TensorType {
    TensorType::new(dtype, dims).unwrap()
}

fn range() -> SymbolRange {
    SymbolRange { min: SymbolValues::new(1, 1, 1, 1), max: SymbolValues::new(8, 3, 2, 64) }
}

/// A graph with every operation and attribute that can cross the border.
fn every_operation() -> Graph {
    let (t, f32) = (Symbol::T, DType::F32);
    let mut g = GraphBuilder::new(range());
    let x = g.input("x", ty(f32, &[t.into(), 64.into()])).unwrap();
    let w = g.weight("w", ty(DType::Q8_0, &[64.into(), 64.into()])).unwrap();
    let norm = g.weight("norm", ty(f32, &[64.into()])).unwrap();
    let tokens = g.step_input(StepInput::Tokens).unwrap();
    let table = g.weight("table", ty(DType::BF16, &[100.into(), 64.into()])).unwrap();
    g.set_scope("model.embed_tokens");
    let rows = g.push(Op::GatherRows, &[table, tokens]).unwrap()[0];
    g.set_scope("model.layers.0");
    let y = g.push(Op::Linear, &[x, w]).unwrap()[0];
    let rows = g.push(Op::Cast { to: f32 }, &[rows]).map_or(rows, |v| v[0]);
    let y = g.push(Op::Add, &[y, rows]).unwrap()[0];
    let y = g.push(Op::Mul, &[y, x]).unwrap()[0];
    let y = g.push(Op::RmsNorm { eps: 1e-5 }, &[y, norm]).unwrap()[0];
    for kind in Activation::ALL {
        g.push(Op::Activation(kind), &[y]).unwrap();
    }
    let c = g.push(Op::Copy, &[y]).unwrap()[0];
    let y2 = g.push(Op::Swiglu, &[c, y]).unwrap()[0];
    let two = g.push(Op::AddRmsNorm { eps: 1e-6 }, &[y2, y, norm]).unwrap();
    let s = g.push(Op::Softmax { scale: 0.25 }, &[two[0]]).unwrap()[0];
    let shape = Shape::new(&[t.into(), 4.into(), 16.into()]).unwrap();
    let r = g.push(Op::Reshape { shape }, &[s]).unwrap()[0];
    g.push(Op::Bmm { transpose_b: true }, &[r, r]).unwrap();
    g.push(Op::Cast { to: DType::F16 }, &[r]).unwrap();
    let q = g.push(Op::QkvLinear, &[x, w, w, w]).unwrap();
    let k_cache = g.state("k", ty(DType::F16, &[32.into(), 64.into()])).unwrap();
    let v_cache = g.state("v", ty(DType::F16, &[32.into(), 64.into()])).unwrap();
    let slot = g.step_input(StepInput::Slot).unwrap();
    let k_cache = g.push(Op::KvAppend, &[k_cache, q[1], slot]).unwrap()[0];
    let v_cache = g.push(Op::KvAppend, &[v_cache, q[2], slot]).unwrap()[0];
    let q_start = g.step_input(StepInput::QStart).unwrap();
    let seq_len = g.step_input(StepInput::SeqLen).unwrap();
    let blocks = g.step_input(StepInput::BlockTable { blocks: 4 }).unwrap();
    g.step_input(StepInput::Positions).unwrap();
    g.step_input(StepInput::OutRow).unwrap();
    g.step_input(StepInput::Embeds { hidden_size: 64 }).unwrap();
    g.step_input(StepInput::ContextRow { kv_heads: 2 }).unwrap();
    g.step_input(StepInput::ContextMask { window: None }).unwrap();
    g.step_input(StepInput::ContextMask { window: Some(9) }).unwrap();
    let spec =
        AttentionSpec { num_heads: 4, num_kv_heads: 4, head_dim: 16, block_size: 8, scale: 0.25, window: Some(5) };
    let a = g.push(Op::Attention(spec), &[q[0], k_cache, v_cache, q_start, seq_len, blocks]).unwrap()[0];
    g.output("hidden", a).unwrap();
    g.finish()
}

fn fake(script: &Arc<Script>) -> PluginBackend {
    loopback(Box::new(Fake(script.clone()))).unwrap()
}

fn linear() -> (Graph, Vec<Binding>) {
    let mut g = GraphBuilder::new(range());
    let x = g.input("x", ty(DType::F32, &[Symbol::T.into(), 4.into()])).unwrap();
    let w = g.weight("w", ty(DType::F32, &[2.into(), 4.into()])).unwrap();
    let y = g.push(Op::Linear, &[x, w]).unwrap()[0];
    g.output("y", y).unwrap();
    let place = |v: ValueId, offset| Binding { value: v, location: Location { buffer: BufferId(5), offset } };
    (g.finish(), vec![place(x, 0), place(w, 8), place(y, 64)])
}

#[test]
fn a_graph_comes_back_as_it_went() {
    let graph = every_operation();
    let out = GraphOut::new(&graph).unwrap();
    // SAFETY: made by this crate.
    let back = unsafe { graph_in(out.as_ptr()) }.unwrap().complete().unwrap();
    assert_eq!(back, graph);
}

#[test]
fn everything_that_is_asked_arrives() {
    let script = Arc::new(Script::default());
    let backend = fake(&script);
    assert_eq!((backend.name(), backend.version()), ("fake", "1.2.3"));
    let devices = backend.devices().unwrap();
    assert_eq!(devices.note.as_deref(), Some("one is asleep"));
    assert_eq!(
        devices.list,
        [DeviceInfo { name: "Ünit".into(), kind: DeviceKind::Accelerator, memory: Some(1 << 40) }]
    );

    let mut options = Options::default();
    options.set("thread", "2");
    let refused = backend.open(0, &options).err().unwrap();
    assert_eq!(refused, BackendError::invalid("unknown option `thread`; the options are: threads"));
    let mut device = backend.open(0, &Options::default()).unwrap();

    let desc = |size| BufferDesc { name: "kv".into(), size, usage: BufferUsage::State };
    let error = device.alloc(&desc(17)).unwrap_err();
    assert_eq!(error, BackendError::new(ErrorCode::OutOfMemory, "`kv`: 16 bytes there are"));
    let buffer = device.alloc(&desc(16)).unwrap();
    device.write(buffer, 3, &[1, 2, 3]).unwrap();
    device.copy(Location { buffer, offset: 8 }, Location { buffer, offset: 3 }, 3).unwrap();
    let mut bytes = [0; 4];
    device.read(buffer, 8, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 3, 0]);

    let (graph, mut bindings) = linear();
    for b in &mut bindings {
        b.location.buffer = buffer;
    }
    let plan = device.compile(&graph, &bindings).unwrap();
    device.run(plan, &SymbolValues::new(5, 2, 1, 9)).unwrap();
    device.sync().unwrap();
    device.free_plan(plan);
    device.free(buffer);
    let seen = script.seen.lock().unwrap().join("\n");
    assert!(seen.contains(&format!("{graph}")), "{seen}");
    assert!(seen.contains("buffer: BufferId(0), offset: 64"), "{seen}");
    assert!(seen.contains(&format!("{:?}", SymbolValues::new(5, 2, 1, 9))), "{seen}");

    drop((backend, device));
    assert_eq!((script.closed.load(Ordering::SeqCst), script.shut_down.load(Ordering::SeqCst)), (1, 1));
    let seen = script.seen.lock().unwrap();
    assert_eq!(&seen[seen.len() - 2..], ["device_close", "shutdown"]);
}

#[test]
fn the_device_answers_for_each_node_and_long_reasons_are_cut_at_a_character() {
    let script = Arc::new(Script::default());
    let device = fake(&script).open(0, &Options::default()).unwrap();
    let graph = every_operation();
    let answers = device.supports_all(&graph).unwrap();
    for (id, answer) in graph.node_ids().zip(answers) {
        assert_eq!(device.supports(&graph, id), answer);
        match graph.node(id).op {
            Op::Linear => assert_eq!(answer, Support::Yes),
            Op::Swiglu => assert_eq!(answer, Support::Lower { reason: "too new".into() }),
            _ => assert_eq!(answer, Support::No { reason: "ü".repeat(127) }),
        }
    }
}

#[test]
fn an_operation_of_a_newer_host_is_lowered_and_the_rest_answered() {
    let script = Arc::new(Script::default());
    let device = plugin_of(Box::new(Fake(script)));
    let (graph, _) = linear();
    let out = GraphOut::new(&graph).unwrap();
    // SAFETY: the pointers are those of the host's side, which this test stands for.
    unsafe {
        let mut known = *out.as_ptr();
        let mut node = **known.nodes;
        node.op = 9999;
        let nodes = [ptr::from_ref(&node)];
        known.nodes = nodes.as_ptr();
        let read = graph_in(&known).unwrap();
        assert!(read.nodes[0].as_ref().unwrap_err().contains("linear: operation 9999, version 1, is not known"));
        let error = read.complete().err().unwrap();
        assert_eq!(error.code, ErrorCode::Unsupported);

        let mut opened = ptr::null_mut();
        let status = (API.device_open.unwrap())(device, 0, ptr::null(), 0, &mut opened, ptr::null_mut());
        assert_eq!(status, abi::STATUS_OK);
        let mut reason = [0; 64];
        let mut answer = abi::Support {
            struct_size: struct_size::<abi::Support>(),
            verdict: 0,
            reason_capacity: 64,
            reserved: 0,
            reason: reason.as_mut_ptr(),
        };
        let answers = [ptr::from_mut(&mut answer)];
        let status = (API.graph_supports.unwrap())(opened, &known, answers.as_ptr(), ptr::null_mut());
        assert_eq!((status, (*answers[0]).verdict), (abi::STATUS_OK, abi::SUPPORT_LOWER));
        (API.device_close.unwrap())(opened);
        (API.shutdown.unwrap())(device);
    }
}

#[test]
fn a_graph_that_makes_no_sense_is_refused() {
    let (graph, _) = linear();
    let out = GraphOut::new(&graph).unwrap();
    // SAFETY: what is changed stays readable.
    unsafe {
        let refused = |change: &dyn Fn(&mut abi::Graph, &mut abi::Node, &mut abi::Value)| {
            let mut g = *out.as_ptr();
            let (mut node, mut value) = (**g.nodes, **g.values.add(2));
            change(&mut g, &mut node, &mut value);
            let nodes = [ptr::from_ref(&node)];
            let values = [*g.values, *g.values.add(1), ptr::from_ref(&value)];
            (g.nodes, g.values) = (nodes.as_ptr(), values.as_ptr());
            graph_in(&g).err().map_or_else(String::new, |e| e.message)
        };
        assert_eq!(refused(&|_, _, _| {}), "");
        assert!(refused(&|g, _, _| g.struct_size = 16).contains("struct_size 16"));
        assert!(refused(&|g, _, _| g.n_symbols = 3).contains("3 symbols"));
        assert!(refused(&|_, n, _| n.struct_size = 24).contains("struct_size 24"));
        assert!(refused(&|_, n, _| n.n_inputs = 1).contains("takes 2 to 3 operands"));
        assert!(refused(&|_, n, _| n.n_outputs = 0).contains("0 results"));
        assert!(refused(&|_, n, _| n.op = abi::OP_BMM).contains("0 bytes of attributes instead of 4"));
        assert!(refused(&|_, _, v| v.ty.dim[1] = 3).contains("said to be f32 [T, 3]"));
        assert!(refused(&|_, _, v| v.ty.dtype.id = 99).contains("dtype 99"));
        assert!(refused(&|g, _, _| g.n_values = 2).contains("results that are no values"));
        assert!(refused(&|g, _, _| g.outputs = ptr::null()).contains("outputs are null"));
        assert!(graph_in(ptr::null()).is_err());
    }
}

/// Everything a device is for, in the order of the table of functions; answers where it failed.
fn use_everything(backend: &PluginBackend) -> Vec<(&'static str, BackendError)> {
    let mut failed = Vec::new();
    let mut note = |function, result: Result<(), BackendError>| {
        if let Err(error) = result {
            failed.push((function, error));
        }
    };
    note("device_count", backend.devices().map(|_| ()));
    let mut device = match backend.open(0, &Options::default()) {
        Ok(device) => device,
        Err(error) => {
            note("device_open", Err(error));
            return failed;
        }
    };
    let (graph, bindings) = linear();
    note("device_sync", device.sync());
    note("graph_supports", device.supports_all(&graph).map(|_| ()));
    note(
        "buffer_alloc",
        device.alloc(&BufferDesc { name: "b".into(), size: 1, usage: BufferUsage::Input }).map(|_| ()),
    );
    note("weight_load", device.load_weight(weight(Bytes::from(vec![0; 32]))).map(|_| ()));
    let buffer = BufferId(1);
    note("buffer_write", device.write(buffer, 0, &[0]));
    note("buffer_read", device.read(buffer, 0, &mut [0]));
    note("buffer_copy", device.copy(Location { buffer, offset: 0 }, Location { buffer, offset: 1 }, 1));
    device.free(buffer);
    note("plan_compile", device.compile(&graph, &bindings).map(|_| ()));
    note("plan_run", device.run(PlanId(8), &SymbolValues::new(1, 1, 1, 1)));
    device.free_plan(PlanId(8));
    failed
}

fn weight(data: Bytes) -> Weight {
    Weight { name: "w".into(), ty: ty(DType::F32, &[2.into(), 4.into()]), data, may_repack: true }
}

#[test]
fn a_panic_in_any_function_is_an_error_even_if_its_payload_panics_again() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for function in Functions::REQUIRED {
        let script = Arc::new(Script::default());
        *script.panics_in.lock().unwrap() = Some(function);
        let backend = fake(&script);
        let failed = catch_unwind(AssertUnwindSafe(|| use_everything(&backend)));
        let failed = failed.unwrap_or_else(|_| panic!("a panic of {function} came through"));
        let silent = ["shutdown", "device_close", "buffer_free", "plan_free", "device_info"].contains(function);
        if silent {
            assert_eq!(failed, [], "{function}");
        } else {
            let [(where_, error)] = &failed[..] else { panic!("{function}: {failed:?}") };
            assert_eq!(where_, function);
            assert_eq!(
                (error.code, &error.message[..]),
                (ErrorCode::DeviceLost, "the plugin panicked: without a message")
            );
        }
        drop(backend);
        assert_eq!(script.shut_down.load(Ordering::SeqCst), 1);
    }
    std::panic::set_hook(quiet);
}

/// Bytes that count how often they are let go.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_weight_is_released_once_whoever_keeps_it() {
    for keeps_weights in [false, true] {
        let script = Arc::new(Script { keeps_weights, ..Script::default() });
        let dropped = Arc::new(AtomicUsize::new(0));
        let mut device = fake(&script).open(0, &Options::default()).unwrap();
        let data = Bytes::new(Arc::new(Counted(vec![7; 32], dropped.clone())));
        let loaded = device.load_weight(weight(data)).unwrap();
        // What the plugin says of the placement is not what counts, but whether it keeps the bytes.
        let placement = if keeps_weights { Placement::Aliased } else { Placement::Copied };
        assert_eq!(loaded.placement, placement);
        assert_eq!(dropped.load(Ordering::SeqCst), usize::from(!keeps_weights));
        let kept = script.keeps.lock().unwrap().pop();
        drop(device);
        assert_eq!(kept.as_deref().map(<[u8]>::len), keeps_weights.then_some(32));
        std::thread::spawn(move || drop(kept)).join().unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn bytes_kept_of_a_refused_weight_stay_readable_and_the_device_counts_as_lost() {
    let script = Arc::new(Script { keeps_weights: true, refuses_weights: true, ..Script::default() });
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut device = fake(&script).open(0, &Options::default()).unwrap();
    let data = Bytes::new(Arc::new(Counted(vec![7; 32], dropped.clone())));
    let kept_alive = data.clone();
    let error = device.load_weight(weight(data)).unwrap_err();
    assert_eq!(error.code, ErrorCode::DeviceLost);
    assert!(error.message.contains("kept the bytes"), "{error}");
    let kept = script.keeps.lock().unwrap().pop().unwrap();
    assert_eq!(kept[31], 7);
    drop((kept, device));
    // Not let go: nobody can know when. Miri must not count that as a leak, so the last owner is looked after here.
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    drop(kept_alive);
}

#[test]
fn tables_of_other_sizes() {
    let adopt_with = |change: &dyn Fn(&mut abi::Api)| {
        let script = Arc::new(Script::default());
        let plugin = plugin_of(Box::new(Fake(script)));
        let mut api = API;
        change(&mut api);
        let info = ManifestInfo { name: "fake".into(), version: "1".into(), target: "t".into(), abi_minor: 0 };
        // SAFETY: a table that is too small is not read past its size.
        let adopted = unsafe { adopt(info, plugin, &api) };
        if adopted.is_err() {
            // SAFETY: nobody else uses it.
            unsafe { (API.shutdown.unwrap())(plugin) };
        }
        adopted
    };
    // One function short: the optional one.
    let mut without_extension = struct_size::<abi::Api>() as usize - size_of::<usize>();
    adopt_with(&|api| api.struct_size = without_extension as u32).unwrap();
    // One field more than this version knows.
    adopt_with(&|api| api.struct_size += 8).unwrap();
    without_extension -= 1;
    let error = adopt_with(&|api| api.struct_size = without_extension as u32).unwrap_err();
    assert!(matches!(error, ConnectError::SmallTable { .. }), "{error}");
    let error = adopt_with(&|api| api.plan_run = None).unwrap_err();
    assert_eq!(error, ConnectError::MissingFunction { function: "plan_run" });
    // A newer minor version is as good as any.
    adopt_with(&|api| api.abi_minor = 99).unwrap();
}

#[test]
fn manifests() {
    let good = super::export::manifest("npu\0", "1.0\0");
    // SAFETY: all are readable.
    unsafe {
        let info = check_manifest(&good).unwrap();
        assert_eq!((&info.name[..], &info.version[..], &info.target[..]), ("npu", "1.0", crate::TARGET));
        let check = |m: abi::Manifest| check_manifest(&m);
        assert_eq!(check(abi::Manifest { magic: 5, ..good }), Err(ConnectError::Magic { found: 5 }));
        assert_eq!(check(abi::Manifest { abi_major: 2, ..good }), Err(ConnectError::Major { found: 2 }));
        assert_eq!(check(abi::Manifest { struct_size: 32, ..good }), Err(ConnectError::SmallManifest { size: 32 }));
        assert!(check(abi::Manifest { struct_size: 400, abi_minor: 7, ..good }).is_ok());
        assert_eq!(
            check(abi::Manifest { name: ptr::null(), ..good }),
            Err(ConnectError::ManifestText { field: "name" })
        );
        assert_eq!(
            check(abi::Manifest { version: c"\xff".as_ptr(), ..good }),
            Err(ConnectError::ManifestText { field: "version" })
        );
    }
}

static HOST: abi::Host =
    abi::Host { struct_size: struct_size::<abi::Host>(), abi_minor: 0, ctx: ptr::null_mut(), log: None };

fn enter_with(entry: abi::Entry) -> Result<PluginBackend, ConnectError> {
    let info = ManifestInfo { name: "fake".into(), version: "1".into(), target: "t".into(), abi_minor: 0 };
    // SAFETY: the entries below keep the rules, or fail.
    unsafe { connect(info, entry, &HOST) }
}

unsafe extern "C" fn good_entry(
    host: *const abi::Host,
    plugin: *mut *mut abi::Plugin,
    api: *mut *const abi::Api,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: the host's pointers.
    unsafe { super::export::enter(host, plugin, api, error, "fake", || Box::new(Fake(Arc::default()))) }
}

unsafe extern "C" fn misnamed_entry(
    host: *const abi::Host,
    plugin: *mut *mut abi::Plugin,
    api: *mut *const abi::Api,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: the host's pointers.
    unsafe { super::export::enter(host, plugin, api, error, "other", || Box::new(Fake(Arc::default()))) }
}

unsafe extern "C" fn empty_entry(
    _: *const abi::Host,
    _: *mut *mut abi::Plugin,
    _: *mut *const abi::Api,
    _: *mut abi::Error,
) -> abi::Status {
    abi::STATUS_OK
}

unsafe extern "C" fn speechless_entry(
    _: *const abi::Host,
    _: *mut *mut abi::Plugin,
    _: *mut *const abi::Api,
    _: *mut abi::Error,
) -> abi::Status {
    77
}

unsafe extern "C" fn overlong_entry(
    _: *const abi::Host,
    _: *mut *mut abi::Plugin,
    _: *mut *const abi::Api,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: as many bytes as there is room for: no NUL, and no UTF-8.
    unsafe { ptr::write_bytes((*error).message, 0xff, (*error).capacity as usize) };
    abi::STATUS_UNSUPPORTED
}

#[test]
fn entries() {
    enter_with(good_entry).unwrap();
    let text = |entry| enter_with(entry).unwrap_err().to_string();
    assert!(text(misnamed_entry).contains("calls itself `fake`, but is exported as `other`"));
    assert!(text(empty_entry).contains("gave no plugin"));
    assert!(text(speechless_entry).contains("the plugin gave no reason (status 77, which this version does not know)"));
    assert_eq!(text(overlong_entry), format!("its entry failed: not supported: {}", "\u{fffd}".repeat(1024)));
}

#[test]
fn messages_fit_whatever_room_there_is() {
    let mut room = [1; 5];
    for (capacity, expected) in [(0, "\u{1}\u{1}\u{1}\u{1}\u{1}"), (1, ""), (4, "aü"), (3, "a"), (5, "aüb")] {
        room.fill(1);
        // SAFETY: `room` has 5 bytes.
        unsafe { super::message::write_text(room.as_mut_ptr(), capacity, "aübc") };
        assert_eq!(super::message::read_text(&room.map(|c| c as u8)), expected);
    }
}

#[test]
fn release_of_nothing_does_nothing() {
    // SAFETY: a null context is allowed.
    unsafe { super::weight::release(ptr::null_mut::<c_void>()) };
}
