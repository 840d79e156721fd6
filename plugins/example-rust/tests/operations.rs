//! Every operation against numbers worked out by hand, through the functions that the plugin exports.

use camelid_example::Example;
use camelid_sdk::Backend;
use camelid_sdk::core::DType;
use camelid_sdk::core::backend::{BackendError, ErrorCode, Options, Support};
use camelid_sdk::core::graph::{Graph, GraphBuilder, GraphError, SymbolRange, SymbolValues, TensorType, ValueId};
use camelid_sdk::core::ops::{Activation, softmax::MASKED};
use camelid_sdk::kernels::testing::evaluate;

/// An operand, a weight if its name begins with `w`: name, type, dimensions, bytes.
type Operand<'a> = (&'a str, DType, &'a [usize], Vec<u8>);
type Build = fn(&mut GraphBuilder, &[ValueId]) -> Result<ValueId, GraphError>;

fn floats<'a>(name: &'a str, dims: &'a [usize], values: &[f32]) -> Operand<'a> {
    (name, DType::F32, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn graph(operands: &[Operand], build: Build) -> Graph {
    let nothing = SymbolValues::new(0, 0, 0, 0);
    let mut g = GraphBuilder::new(SymbolRange { min: nothing, max: nothing });
    let add = |(name, dtype, dims, _): &Operand| {
        let dims: Vec<_> = dims.iter().map(|d| (*d).into()).collect();
        let ty = TensorType::new(*dtype, &dims).unwrap();
        if name.starts_with('w') { g.weight(*name, ty).unwrap() } else { g.input(*name, ty).unwrap() }
    };
    let values: Vec<_> = operands.iter().map(add).collect();
    let y = build(&mut g, &values).unwrap();
    g.output("y", y).unwrap();
    g.finish()
}

/// Computes one operation on a device behind the plugin interface.
fn run(operands: &[Operand], build: Build) -> Result<Vec<f32>, BackendError> {
    let contents: Vec<_> = operands.iter().map(|o| (o.0, o.3.clone())).collect();
    let plugin = camelid_sdk::loopback(Box::new(Example)).unwrap();
    let mut device = plugin.open(0, &Options::default())?;
    let results = evaluate(&mut *device, &graph(operands, build), &contents, &SymbolValues::new(0, 0, 0, 0))?;
    Ok(results[0].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn check(operands: &[Operand], build: Build, expected: &[f64]) {
    let found = run(operands, build).unwrap();
    let near = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() <= 1e-6 * b.abs().max(1.0);
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(near), "{found:?} is not {expected:?}");
}

#[test]
fn rows_are_gathered_and_scattered() {
    let mut block = vec![0u8; 36]; // q4_0 [2, 32]: scale 1 (f16 0x3c00), codes 0 to 15 around 8
    block[18..20].copy_from_slice(&[0x00, 0x3c]);
    block[20..].fill(0xa9); // low halves 9, high halves 10
    let index = |rows: [i32; 2]| ("index", DType::I32, &[2][..], rows.map(i32::to_le_bytes).concat());
    let table = ("w", DType::Q4_0, &[2, 32][..], block);
    let y = run(&[table.clone(), index([1, -1])], |g, v| g.gather_rows(v[0], v[1])).unwrap();
    assert_eq!((&y[..16], &y[16..32], &y[32..]), (&[1.0; 16][..], &[2.0; 16][..], &[0.0; 32][..]));
    let error = run(&[table, index([0, 2])], |g, v| g.gather_rows(v[0], v[1])).unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
    let parts = ["gather_rows(table q4_0 [2, 32]", "element 1 is 2", "0..2"];
    assert!(parts.iter().all(|part| error.message.contains(part)), "{error}");
    let (rows, table) = (floats("rows", &[2, 1], &[5.0, 6.0]), floats("table", &[3, 1], &[1.0, 2.0, 3.0]));
    let scatter: Build = |g, v| g.copy(v[0]).and_then(|table| g.scatter_rows(table, v[1], v[2]));
    check(&[table, rows, index([2, -1])], scatter, &[1.0, 2.0, 5.0]);
}

#[test]
fn matrices_are_multiplied() {
    let x = floats("x", &[2, 3], &[1.0, 2.0, 3.0, 0.5, 0.0, -1.0]);
    let (w, b) = (floats("w", &[2, 3], &[1.0, 0.0, -1.0, 2.0, 4.0, 8.0]), floats("b", &[2], &[100.0, 0.25]));
    check(&[x.clone(), w.clone()], |g, v| g.linear(v[0], v[1], None), &[-2.0, 34.0, 1.5, -7.0]);
    check(&[x, w, b], |g, v| g.linear(v[0], v[1], Some(v[2])), &[98.0, 34.25, 101.5, -6.75]);
    let values: Vec<f32> = (1..=35).map(|i| i as f32).collect(); // 35: two times 16 and a rest
    let [x, w] = ["x", "w"].map(|name| floats(name, &[1, 35], &values));
    check(&[x, w], |g, v| g.linear(v[0], v[1], None), &[35.0 * 36.0 * 71.0 / 6.0]);
    let a = floats("a", &[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
    let b = floats("b", &[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    check(&[a.clone(), b.clone()], |g, v| g.bmm(v[0], v[1], false), &[7.0, 10.0, 43.0, 50.0]);
    check(&[a, b], |g, v| g.bmm(v[0], v[1], true), &[5.0, 11.0, 39.0, 53.0]);
}

#[test]
fn rows_are_normalised_turned_and_weighed() {
    let x = floats("x", &[2, 2], &[3.0, 4.0, 1e30, 0.0]); // mean squares 12.5 and 5e59, which is no f32
    let (w, root) = (("w", DType::BF16, &[2][..], vec![0x80, 0x3f, 0x00, 0x40]), 24.5f64.sqrt()); // 1, 2
    check(&[x, w], |g, v| g.rms_norm(v[0], v[1], 12.0), &[3.0 / root, 8.0 / root, 2f64.sqrt(), 0.0]);
    let x = floats("x", &[2, 5], &[1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let cos = floats("cos", &[2, 2], &[0.0, 1.0, -1.0, 0.6]);
    let sin = floats("sin", &[2, 2], &[1.0, 0.0, 0.0, 0.8]);
    let turned = [-3.0, 2.0, 1.0, 4.0, 5.0, -1.0, 1.2 - 3.2, -3.0, 2.4 + 1.6, 5.0];
    check(&[x, cos, sin], |g, v| g.rope(v[0], v[1], v[2], 5), &turned);
    let softmax: Build = |g, v| g.softmax(v[0], Some(v[1]), 0.5);
    let x = floats("x", &[3, 1, 2], &[0.0, 2.0, f32::NAN, 7.0, 1.0, 2.0]);
    let mask = floats("mask", &[3, 2], &[0.5, 0.0, MASKED, 0.0, MASKED, MASKED]);
    let e = 0.5f64.exp(); // scores 0.5 and 1
    check(&[x, mask], softmax, &[1.0 / (1.0 + e), e / (1.0 + e), 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn elements_are_computed_one_by_one() {
    let x = |name| floats(name, &[3], &[-1.0, 0.0, 2.5]);
    check(&[x("a"), x("b")], |g, v| g.add(v[0], v[1]), &[-2.0, 0.0, 5.0]);
    check(&[x("a"), x("b")], |g, v| g.mul(v[0], v[1]), &[1.0, 0.0, 6.25]);
    let silu = |x: f64| x / (1.0 + (-x).exp());
    check(&[x("x")], |g, v| g.activation(v[0], Activation::Silu), &[silu(-1.0), 0.0, silu(2.5)]);
    let half = ("w", DType::F16, &[2][..], vec![0x00, 0x3e, 0x00, 0xc0]); // 1.5, -2
    check(&[half], |g, v| g.cast(v[0], DType::F32), &[1.5, -2.0]);
}

#[test]
fn what_is_not_there_is_refused_or_lowered() {
    let device = Example.open(0, &Options::default()).unwrap();
    let ask = |dtype, build: Build| {
        let graph = graph(&[("x", dtype, &[3], vec![])], build);
        device.supports(&graph, graph.node_ids().next().unwrap())
    };
    assert!(matches!(ask(DType::F32, |g, v| g.swiglu(v[0], v[0])), Support::Lower { .. }));
    let refused = |answer, part| assert!(matches!(answer, Support::No { reason } if reason.contains(part)));
    refused(ask(DType::F32, |g, v| g.cast(v[0], DType::F16)), "supported: f32");
    refused(ask(DType::F32, |g, v| g.activation(v[0], Activation::Gelu)), "supported: silu");
    refused(ask(DType::F16, |g, v| g.add(v[0], v[0])), "supported: f32");
    for (index, key, value, message) in [
        (0, "trace", "yes", "option `trace` = `yes` is neither `true` nor `false`"),
        (0, "tracing", "true", "unknown option `tracing`; the options are: trace"),
        (1, "trace", "true", "there is no device 1; there is only device 0"),
    ] {
        let mut options = Options::default();
        options.set(key, value);
        assert_eq!(Example.open(index, &options).map(|_| ()).unwrap_err().message, message);
    }
}
