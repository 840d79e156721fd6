//! The device from outside: its options, weights that come back as they were, the same bits on any number of threads.

use camelid_core::backend::{
    Backend, Binding, BufferDesc, BufferId, BufferUsage, ErrorCode, Location, Options, Placement, PlanId, Support,
    Weight,
};
use camelid_core::graph::{Graph, GraphBuilder, StepInput, SymbolRange, SymbolValues, TensorType, ValueKind};
use camelid_core::ops::AttentionSpec;
use camelid_core::{Bytes, DType, Device, quant};
use camelid_cpu::CpuBackend;

fn options(pairs: &[(&str, &str)]) -> Options {
    let mut options = Options::default();
    for (key, value) in pairs {
        options.set(*key, *value);
    }
    options
}

fn open(pairs: &[(&str, &str)]) -> Box<dyn Device> {
    CpuBackend.open(0, &options(pairs)).unwrap()
}

fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn weight_bytes(dtype: DType, seed: u64, rows: usize, columns: usize) -> Vec<u8> {
    let values = noise(seed, rows * columns);
    match dtype {
        DType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => {
            let mut bytes = vec![0; dtype.row_bytes(values.len()).unwrap()];
            quant::quantize(dtype, &values, &mut bytes).unwrap();
            bytes
        }
    }
}

fn matrix(dtype: DType, rows: usize, columns: usize) -> TensorType {
    TensorType::new(dtype, &[rows.into(), columns.into()]).unwrap()
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    for (pairs, part) in [
        (&[("thread", "2")][..], "unknown option `thread`; the options are: threads, pin, repack, isa, f16"),
        (&[("threads", "0")], "option `threads` = 0 is not in 1..=1024"),
        (&[("threads", "many")], "`threads` = `many`"),
        (&[("pin", "yes")], "option `pin` = `yes`; it takes false or true"),
        (&[("repack", "always")], "option `repack` = `always`; it takes auto or never"),
        (&[("f16", "f64")], "option `f16` = `f64`; it takes f32 or bf16"),
        (&[("isa", "mmx")], "option `isa` = `mmx` is no set of instructions"),
    ] {
        let error = CpuBackend.open(0, &options(pairs)).err().unwrap();
        assert_eq!(error.code, ErrorCode::Invalid, "{error}");
        assert!(error.message.contains(part), "{error}");
    }
    let elsewhere = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
    let error = CpuBackend.open(0, &options(&[("isa", elsewhere)])).err().unwrap();
    assert_eq!(error.code, ErrorCode::Unsupported, "{error}");
    assert!(error.message.contains("it has ") && error.message.contains("portable"), "{error}");
    assert!(CpuBackend.open(1, &Options::default()).err().unwrap().message.contains("no device 1"));
}

#[test]
fn weights_in_panels_are_read_as_they_were_given() {
    let mut device = open(&[("threads", "2")]);
    for dtype in [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
    ] {
        // Odd sizes where the type has none of its own.
        let (rows, columns) = (37, if dtype.is_block() { 2 * dtype.block_elems() } else { 67 });
        let given = weight_bytes(dtype, 3, rows, columns);
        for may_repack in [true, false] {
            let weight = Weight {
                name: "w".into(),
                ty: matrix(dtype, rows, columns),
                data: Bytes::from(given.clone()),
                may_repack,
            };
            let loaded = device.load_weight(weight).unwrap();
            let expected = if may_repack { Placement::Repacked } else { Placement::Aliased };
            assert_eq!(loaded.placement, expected, "{dtype}");
            for (offset, len) in [(0, given.len()), (1, 1), (given.len() - 3, 3), (given.len() / 2 - 1, 50), (7, 0)] {
                let mut found = vec![0; len];
                device.read(loaded.buffer, offset, &mut found).unwrap();
                assert_eq!(found, given[offset..offset + len], "{dtype} at {offset}");
            }
            device.free(loaded.buffer);
        }
    }
}

const HIDDEN: usize = 64;
const FFN: usize = 96;
const VOCAB: usize = 100;
const SPEC: AttentionSpec =
    AttentionSpec { num_heads: 6, num_kv_heads: 2, head_dim: 32, block_size: 4, scale: 0.25, window: None };
const BLOCKS: usize = 64;

/// A layer and a head, keys and values cached in this type: tokens in, logits of every token out.
fn layer(cached: DType) -> Graph {
    let max = SymbolValues::new(40, 3, 40, 256);
    layer_for(cached, SymbolRange { min: SymbolValues::new(0, 0, 0, 0), max })
}

/// The same for one token.
fn layer_for_one(cached: DType) -> Graph {
    let max = SymbolValues::new(1, 1, 1, 256);
    layer_for(cached, SymbolRange { min: SymbolValues::new(1, 1, 0, 1), max })
}

fn layer_for(cached: DType, range: SymbolRange) -> Graph {
    let mut g = GraphBuilder::new(range);
    let (heads, kv) = (SPEC.num_heads * SPEC.head_dim, SPEC.num_kv_heads * SPEC.head_dim);
    let weight =
        |g: &mut GraphBuilder, name: &str, dtype, rows, columns| g.weight(name, matrix(dtype, rows, columns)).unwrap();
    let embed = weight(&mut g, "embed", DType::Q8_0, VOCAB, HIDDEN);
    let wq = weight(&mut g, "wq", DType::Q4_1, heads, HIDDEN);
    let wk = weight(&mut g, "wk", DType::F16, kv, HIDDEN);
    let wv = weight(&mut g, "wv", DType::BF16, kv, HIDDEN);
    let wo = weight(&mut g, "wo", DType::F32, HIDDEN, heads);
    let wg = weight(&mut g, "wg", DType::Q5_0, FFN, HIDDEN);
    let wu = weight(&mut g, "wu", DType::Q5_0, FFN, HIDDEN);
    let wd = weight(&mut g, "wd", DType::Q4_0, HIDDEN, FFN);
    let cos = weight(&mut g, "cos", DType::F32, 256, 8);
    let sin = weight(&mut g, "sin", DType::F32, 256, 8);
    let norm = g.weight("norm", TensorType::new(DType::F32, &[HIDDEN.into()]).unwrap()).unwrap();
    let cache = matrix(cached, 3 * BLOCKS * SPEC.block_size, kv);
    let [k_cache, v_cache] = ["k_cache", "v_cache"].map(|n| g.state(n, cache).unwrap());
    let tokens = g.step_input(StepInput::Tokens).unwrap();
    let positions = g.step_input(StepInput::Positions).unwrap();
    let slot = g.step_input(StepInput::Slot).unwrap();
    let table = g.step_input(StepInput::BlockTable { blocks: BLOCKS }).unwrap();
    let x = g.gather_rows(embed, tokens).unwrap();
    let normed = g.rms_norm(x, norm, 1e-5).unwrap();
    let [q, k, v] = g.qkv_linear(normed, [wq, wk, wv], None).unwrap();
    let (cos, sin) = (g.gather_rows(cos, positions).unwrap(), g.gather_rows(sin, positions).unwrap());
    let q = g.rope(q, cos, sin, SPEC.head_dim).unwrap();
    let k = g.rope(k, cos, sin, SPEC.head_dim).unwrap();
    let k_cache = g.kv_append(k_cache, k, slot).unwrap();
    let v_cache = g.kv_append(v_cache, v, slot).unwrap();
    let attended = g.attention(q, [k_cache, v_cache], table, SPEC).unwrap();
    let attended = g.linear(attended, wo, None).unwrap();
    let (x, normed) = g.add_rms_norm(x, attended, norm, 1e-5).unwrap();
    let (gate, up) = (g.linear(normed, wg, None).unwrap(), g.linear(normed, wu, None).unwrap());
    let mixed = g.swiglu(gate, up).unwrap();
    let update = g.linear(mixed, wd, None).unwrap();
    let (_, normed) = g.add_rms_norm(x, update, norm, 1e-5).unwrap();
    let logits = g.linear(normed, embed, None).unwrap();
    g.output("logits", logits).unwrap();
    g.finish()
}

/// A device with the layer on it.
struct Rig {
    device: Box<dyn Device>,
    plan: PlanId,
    buffers: Vec<(String, BufferId)>,
}

impl Rig {
    fn new(graph: &Graph, pairs: &[(&str, &str)]) -> Rig {
        let mut device = open(pairs);
        let (mut bindings, mut buffers) = (Vec::new(), Vec::new());
        for (i, (id, value)) in graph.bound_values().enumerate() {
            let buffer = if value.kind == ValueKind::Weight {
                let dims: Vec<usize> = value.ty.shape.resolve(&SymbolValues::new(0, 0, 0, 0));
                let (rows, columns) = if dims.len() == 2 { (dims[0], dims[1]) } else { (1, dims[0]) };
                let data = Bytes::from(weight_bytes(value.ty.dtype, i as u64, rows, columns));
                let weight = Weight { name: value.name.clone(), ty: value.ty, data, may_repack: true };
                device.load_weight(weight).unwrap().buffer
            } else {
                let size = value.ty.bytes(&graph.range().max).unwrap();
                device.alloc(&BufferDesc { name: value.name.clone(), size, usage: BufferUsage::State }).unwrap()
            };
            bindings.push(Binding { value: id, location: Location { buffer, offset: 0 } });
            let name = graph.output_in(id).map_or(&value.name, |output| &output.name);
            buffers.push((name.clone(), buffer));
        }
        assert!(graph.node_ids().all(|n| device.supports(graph, n) == Support::Yes));
        let plan = device.compile(graph, &bindings).unwrap();
        Rig { device, plan, buffers }
    }

    fn buffer(&self, name: &str) -> BufferId {
        self.buffers.iter().find(|(n, _)| n == name).unwrap().1
    }

    /// New tokens for sequences that hold `before[s]` tokens, sequence `s` in blocks `s * BLOCKS` and on: the logits' bits.
    fn step(&mut self, tokens: &[&[i32]], before: &[usize]) -> Vec<u32> {
        let table: Vec<i32> = (0..tokens.len() * BLOCKS).map(|b| b as i32).collect();
        self.step_into(tokens, before, None, table)
    }

    /// The same with keys and values into `slots` of the cache, and other blocks.
    fn step_into(&mut self, tokens: &[&[i32]], before: &[usize], slots: Option<&[i32]>, table: Vec<i32>) -> Vec<u32> {
        let count: usize = tokens.iter().map(|t| t.len()).sum();
        let mut inputs: Vec<(&str, Vec<i32>)> = vec![("tokens", tokens.concat())];
        let (mut positions, mut slot, mut start) = (vec![], vec![], vec![0]);
        for (s, new) in tokens.iter().enumerate() {
            for i in before[s]..before[s] + new.len() {
                positions.push(i as i32);
                slot.push((s * BLOCKS * SPEC.block_size + i) as i32);
            }
            start.push(positions.len() as i32);
        }
        slot = slots.map_or(slot, <[i32]>::to_vec);
        let lens = tokens.iter().zip(before).map(|(t, b)| (t.len() + b) as i32).collect();
        inputs.extend([("positions", positions), ("slot", slot), ("q_start", start), ("block_table", table)]);
        inputs.push(("seq_len", lens));
        for (name, values) in inputs {
            let bytes: Vec<u8> = values.iter().flat_map(|v: &i32| v.to_le_bytes()).collect();
            self.device.write(self.buffer(name), 0, &bytes).unwrap();
        }
        self.device.run(self.plan, &SymbolValues::new(count, tokens.len(), 0, 256)).unwrap();
        let mut bytes = vec![0; count * VOCAB * 4];
        let output = self.buffer("logits");
        self.device.read(output, 0, &mut bytes).unwrap();
        bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
    }
}

/// Some steps: prompts of several lengths together, then tokens one by one.
fn story(cached: DType, pairs: &[(&str, &str)]) -> Vec<Vec<u32>> {
    let graph = layer(cached);
    let mut rig = Rig::new(&graph, pairs);
    let ids = |seed: u64, n: usize| -> Vec<i32> { noise(seed, n).iter().map(|v| ((v + 1.0) * 49.0) as i32).collect() };
    let (a, b) = (ids(1, 23), ids(2, 14));
    let mut steps = vec![rig.step(&[&a, &b], &[0, 0])];
    for i in 0..5 {
        steps.push(rig.step(&[&ids(10 + i, 1), &ids(20 + i, 1)], &[23 + i as usize, 14 + i as usize]));
    }
    steps
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for cached in [DType::F16, DType::Q8_0] {
        let one = story(cached, &[("threads", "1")]);
        assert!(one.iter().flatten().all(|bits| f32::from_bits(*bits).is_finite()));
        assert!(one[0].iter().any(|bits| f32::from_bits(*bits).abs() > 0.1), "something was computed");
        for threads in ["2", "3", "7"] {
            assert_eq!(story(cached, &[("threads", threads)]), one, "{cached}, {threads} threads");
        }
        assert_eq!(story(cached, &[("threads", "2"), ("repack", "never")]), one, "panels made at each step");
    }
}

#[test]
fn a_plan_for_one_token_gives_the_bits_of_one_for_many_on_any_number_of_threads() {
    for cached in [DType::F32, DType::F16, DType::BF16, DType::Q8_0] {
        // Past what is one piece and then two of the context. The last tokens go where attention does not look last: to a
        // row that another piece reads, and nowhere.
        let tokens: Vec<i32> = noise(5, 75).iter().map(|v| ((v + 1.0) * 49.0) as i32).collect();
        let story = |graph: &Graph, threads: &str| -> Vec<Vec<u32>> {
            let mut rig = Rig::new(graph, &[("threads", threads)]);
            let slot = |i: usize| [i as i32, 3, -1][(i + 2).saturating_sub(tokens.len() - 1).min(2)];
            // The last block of a context of two pieces is in the first piece too.
            let table = |i: usize| (0..BLOCKS as i32).map(|b| if b == 2 && i == 47 { 11 } else { b }).collect();
            let step = |(i, token): (usize, &i32)| rig.step_into(&[&[*token]], &[i], Some(&[slot(i)]), table(i));
            tokens.iter().enumerate().map(step).collect()
        };
        let many = story(&layer(cached), "1");
        assert_ne!(many[73], many[72]);
        for threads in ["1", "2", "3", "7"] {
            assert!(story(&layer_for_one(cached), threads) == many, "{cached}, {threads} threads");
        }
    }
}

/// How far the steps of two stories are apart: sum of squares over that of the first.
fn nmse(exact: &[Vec<u32>], found: &[Vec<u32>]) -> f64 {
    let floats = |steps: &[Vec<u32>]| steps.concat().into_iter().map(|bits| f64::from(f32::from_bits(bits)));
    let (mut wrong, mut all) = (0.0, 0.0);
    for (x, y) in floats(exact).zip(floats(found)) {
        (wrong, all) = (wrong + (x - y).powi(2), all + x * x);
    }
    wrong / all
}

#[test]
fn f16_weights_are_rounded_to_bf16_only_if_that_is_asked_for() {
    let exact = story(DType::F32, &[("threads", "2"), ("f16", "f32")]);
    assert_eq!(story(DType::F32, &[("threads", "2")]), exact, "f32 is what nothing asks for");
    let rounded = story(DType::F32, &[("threads", "2"), ("f16", "bf16")]);
    if CpuBackend.open(0, &options(&[("isa", "avx512-bf16")])).is_ok() {
        let nmse = nmse(&exact, &rounded);
        // What math class bf16 allows a whole model.
        assert!(nmse > 0.0 && nmse < 5e-4, "{nmse:e}");
        for pairs in [
            [("threads", "3"), ("f16", "bf16"), ("repack", "auto")],
            [("threads", "1"), ("f16", "bf16"), ("repack", "never")],
        ] {
            assert_eq!(story(DType::F32, &pairs), rounded, "{pairs:?}");
        }
    } else {
        assert_eq!(rounded, exact, "nothing is gained without instructions for it");
    }
}

#[test]
fn keys_and_values_in_q8_0_are_close_to_those_in_f32_on_every_set_of_instructions() {
    let isas: &[&str] =
        if cfg!(target_arch = "x86_64") { &["avx512", "avx2", "portable"] } else { &["neon", "portable"] };
    for isa in isas {
        let pairs = [("threads", "2"), ("isa", *isa)];
        if CpuBackend.open(0, &options(&pairs)).is_err() {
            assert_ne!(*isa, "portable", "every processor has it");
            continue;
        }
        let nmse = nmse(&story(DType::F32, &pairs), &story(DType::Q8_0, &pairs));
        assert!(nmse > 0.0 && nmse < 1e-3, "{isa}: {nmse:e}");
    }
}

#[test]
fn what_a_neighbour_holds_changes_no_bit() {
    let graph = layer(DType::F16);
    let (a, b, c) = ([1, 2, 3, 4, 5], [9; 17], [70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86]);
    let mut first = Rig::new(&graph, &[("threads", "2")]);
    let mut second = Rig::new(&graph, &[("threads", "2")]);
    let (x, y) = (first.step(&[&a, &b], &[0, 0]), second.step(&[&a, &c], &[0, 0]));
    assert_eq!(x[..5 * VOCAB], y[..5 * VOCAB]);
    assert_ne!(x[5 * VOCAB..], y[5 * VOCAB..]);
    let (x, y) = (first.step(&[&[6], &[7]], &[5, 17]), second.step(&[&[6], &[8]], &[5, 17]));
    assert_eq!(x[..VOCAB], y[..VOCAB]);
}

/// `x [1, 64]` times a q4_1 weight `[20, 64]`.
fn product(x: &[f32]) -> Vec<f32> {
    let range = SymbolRange { min: SymbolValues::new(0, 0, 0, 0), max: SymbolValues::new(1, 1, 1, 1) };
    let mut g = GraphBuilder::new(range);
    let input = g.input("x", matrix(DType::F32, 1, 64)).unwrap();
    let w = g.weight("w", matrix(DType::Q4_1, 20, 64)).unwrap();
    let y = g.linear(input, w, None).unwrap();
    g.output("y", y).unwrap();
    let mut rig = Rig::new(&g.finish(), &[("threads", "2")]);
    let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    rig.device.write(rig.buffer("x"), 0, &bytes).unwrap();
    rig.device.run(rig.plan, &SymbolValues::new(1, 1, 1, 1)).unwrap();
    let mut bytes = vec![0; 20 * 4];
    rig.device.read(rig.buffer("y"), 0, &mut bytes).unwrap();
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn numbers_that_eight_bits_cannot_say_are_not_lost() {
    let weights = {
        let mut w = vec![0.0; 20 * 64];
        // The second of the graph's bound values: `Rig` makes its numbers from that.
        quant::dequantize(DType::Q4_1, &weight_bytes(DType::Q4_1, 1, 20, 64), &mut w).unwrap();
        w
    };
    let mut x = noise(5, 64);
    x[40] = f32::INFINITY;
    for (y, w) in product(&x).iter().zip(weights.chunks(64)) {
        assert!(y.is_infinite() && y.is_sign_positive() == (w[40] > 0.0), "{y} for {}", w[40]);
    }
    x[40] = f32::NAN;
    assert!(product(&x).iter().all(|y| y.is_nan()));
    // Nothing above 1e-36 in the second block, and nothing at all in the first.
    let x: Vec<f32> = (0..64).map(|i| if i < 32 { 0.0 } else { 1e-37 }).collect();
    for (y, w) in product(&x).iter().zip(weights.chunks(64)) {
        let expected = w[32..].iter().map(|w| f64::from(*w) * f64::from(1e-37f32)).sum::<f64>();
        assert!((f64::from(*y) - expected).abs() <= 1e-5 * expected.abs() + 1e-44, "{y:e}, not {expected:e}");
    }
}

#[test]
fn a_weight_under_another_shape_is_read_as_it_lies() {
    // Rows of 64 in the file, of 32 in the product: not those of the panels.
    let range = SymbolRange { min: SymbolValues::new(0, 0, 0, 0), max: SymbolValues::new(1, 1, 1, 1) };
    let mut g = GraphBuilder::new(range);
    let x = g.input("x", matrix(DType::F32, 1, 32)).unwrap();
    let w = g.weight("w", matrix(DType::F32, 16, 64)).unwrap();
    let w = g.reshape(w, &[32.into(), 32.into()]).unwrap();
    let y = g.linear(x, w, None).unwrap();
    g.output("y", y).unwrap();
    let mut rig = Rig::new(&g.finish(), &[("threads", "2")]);
    let x = noise(5, 32);
    rig.device.write(rig.buffer("x"), 0, &x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    rig.device.run(rig.plan, &SymbolValues::new(1, 1, 1, 1)).unwrap();
    let mut bytes = vec![0; 32 * 4];
    rig.device.read(rig.buffer("y"), 0, &mut bytes).unwrap();
    for (y, w) in bytes.as_chunks().0.iter().zip(noise(1, 16 * 64).chunks(32)) {
        let expected: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
        assert!((f64::from(f32::from_le_bytes(*y)) - expected).abs() < 1e-5, "not {expected}");
    }
}

#[test]
fn one_rotated_value_goes_into_every_cache_that_takes_it() {
    let range = SymbolRange { min: SymbolValues::new(0, 0, 0, 0), max: SymbolValues::new(2, 1, 1, 4) };
    let mut g = GraphBuilder::new(range);
    let t = camelid_core::graph::Symbol::T.into();
    let rows = |width: usize| TensorType::new(DType::F32, &[t, width.into()]).unwrap();
    let x = g.input("x", rows(16)).unwrap();
    let [cos, sin] = ["cos", "sin"].map(|n| g.input(n, rows(4)).unwrap());
    let slot = g.step_input(StepInput::Slot).unwrap();
    let [a, b] = ["a", "b"].map(|n| g.state(n, matrix(DType::F32, 4, 16)).unwrap());
    let y = g.rope(x, cos, sin, 8).unwrap();
    g.kv_append(a, y, slot).unwrap();
    g.kv_append(b, y, slot).unwrap();
    let mut rig = Rig::new(&g.finish(), &[("threads", "2")]);
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    for (name, values) in [("x", noise(1, 32)), ("cos", noise(2, 8)), ("sin", noise(3, 8))] {
        rig.device.write(rig.buffer(name), 0, &floats(&values)).unwrap();
    }
    rig.device.write(rig.buffer("slot"), 0, &[2i32, 0].map(i32::to_le_bytes).concat()).unwrap();
    for name in ["a", "b"] {
        rig.device.write(rig.buffer(name), 0, &[0; 4 * 64]).unwrap();
    }
    rig.device.run(rig.plan, &SymbolValues::new(2, 1, 0, 4)).unwrap();
    let [a, b] = ["a", "b"].map(|name| {
        let mut bytes = vec![0; 4 * 64];
        rig.device.read(rig.buffer(name), 0, &mut bytes).unwrap();
        bytes
    });
    assert_eq!(a, b);
    assert!(a[..64].iter().any(|b| *b != 0) && a[128..192].iter().any(|b| *b != 0), "both rows were written");
}
