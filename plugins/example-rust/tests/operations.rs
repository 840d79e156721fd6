//! Every operation against numbers worked out by hand, through the functions that the plugin exports.

use camelid_example::Example;
use camelid_sdk::Backend;
use camelid_sdk::core::backend::{
    BackendError, Binding, BufferDesc, BufferUsage, ErrorCode, Location, Options, Support, Weight,
};
use camelid_sdk::core::graph::{Graph, GraphBuilder, GraphError, SymbolRange, SymbolValues, TensorType, ValueId};
use camelid_sdk::core::ops::{Activation, softmax::MASKED};
use camelid_sdk::core::{Bytes, DType};

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn i32s(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// An operand: a weight if its name begins with `w`, else an input.
type Operand<'a> = (&'a str, DType, &'a [usize], Vec<u8>);

fn graph(operands: &[Operand], op: impl FnOnce(&mut GraphBuilder, &[ValueId]) -> Result<ValueId, GraphError>) -> Graph {
    let nothing = SymbolValues::new(0, 0, 0, 0);
    let mut g = GraphBuilder::new(SymbolRange { min: nothing, max: nothing });
    let add = |(name, dtype, dims, _): &Operand| {
        let dims: Vec<_> = dims.iter().map(|d| (*d).into()).collect();
        let ty = TensorType::new(*dtype, &dims).unwrap();
        if name.starts_with('w') { g.weight(*name, ty).unwrap() } else { g.input(*name, ty).unwrap() }
    };
    let values: Vec<_> = operands.iter().map(add).collect();
    let y = op(&mut g, &values).unwrap();
    g.output("y", y).unwrap();
    g.finish()
}

/// Runs one operation on a device behind the plugin interface.
fn run(
    operands: &[Operand],
    op: impl FnOnce(&mut GraphBuilder, &[ValueId]) -> Result<ValueId, GraphError>,
) -> Result<Vec<f32>, BackendError> {
    let graph = graph(operands, op);
    let plugin = camelid_sdk::loopback(Box::new(Example)).unwrap();
    let mut device = plugin.open(0, &Options::default())?;
    let step = SymbolValues::new(0, 0, 0, 0);
    let mut bindings = Vec::new();
    for (id, value) in graph.bound_values() {
        let data = operands.iter().find(|o| o.0 == value.name).map(|o| o.3.clone());
        let (name, size) = (value.name.clone(), value.ty.bytes(&step).unwrap());
        let buffer = if name.starts_with('w') {
            let weight = Weight { name, ty: value.ty, data: Bytes::from(data.unwrap()), may_repack: false };
            device.load_weight(weight)?.buffer
        } else {
            let buffer = device.alloc(&BufferDesc { name, size, usage: BufferUsage::Input })?;
            device.write(buffer, 0, &data.unwrap_or_default())?;
            buffer
        };
        bindings.push(Binding { value: id, location: Location { buffer, offset: 0 } });
    }
    let plan = device.compile(&graph, &bindings)?;
    device.run(plan, &step)?;
    let y = graph.storage_of(graph.outputs()[0].value);
    let at = bindings.iter().find(|b| b.value == y).unwrap().location;
    let mut bytes = vec![0; graph.value(y).ty.bytes(&step).unwrap()];
    device.read(at.buffer, at.offset, &mut bytes)?;
    Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn close(found: Result<Vec<f32>, BackendError>, expected: &[f64]) {
    let found = found.unwrap();
    assert_eq!(found.len(), expected.len());
    let near = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() <= 1e-6 * b.abs().max(1.0);
    assert!(found.iter().zip(expected).all(near), "{found:?} is not {expected:?}");
}

const F: DType = DType::F32;

#[test]
fn rows_are_gathered_and_scattered() {
    let mut block = vec![0u8; 36]; // q4_0 [2, 32]: scale 1 (f16 0x3c00), codes 0 to 15 around 8
    (block[18..20].copy_from_slice(&[0x00, 0x3c]), block[20..].fill(0xa9)); // low halves 9, high halves 10
    let index = |values: &[i32]| ("index", DType::I32, &[2][..], i32s(values));
    let table = ("w", DType::Q4_0, &[2, 32][..], block);
    let y = run(&[table.clone(), index(&[1, -1])], |g, v| g.gather_rows(v[0], v[1])).unwrap();
    assert_eq!((&y[..16], &y[16..32], &y[32..]), (&[1.0; 16][..], &[2.0; 16][..], &[0.0; 32][..]));
    let error = run(&[table, index(&[0, 2])], |g, v| g.gather_rows(v[0], v[1])).unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
    assert!(
        error.message.contains("gather_rows(table q4_0 [2, 32]") && error.message.contains("element 1 is 2"),
        "{error}"
    );
    let (rows, table) = (("rows", F, &[2, 1][..], f32s(&[5.0, 6.0])), ("t", F, &[3, 1][..], f32s(&[1.0, 2.0, 3.0])));
    let scattered =
        run(&[table, rows, index(&[2, -1])], |g, v| g.copy(v[0]).and_then(|t| g.scatter_rows(t, v[1], v[2])));
    close(scattered, &[1.0, 2.0, 5.0]);
}

#[test]
fn matrices_are_multiplied() {
    let x = ("x", F, &[2, 3][..], f32s(&[1.0, 2.0, 3.0, 0.5, 0.0, -1.0]));
    let (w, b) =
        (("w", F, &[2, 3][..], f32s(&[1.0, 0.0, -1.0, 2.0, 4.0, 8.0])), ("b", F, &[2][..], f32s(&[100.0, 0.25])));
    close(run(&[x.clone(), w.clone()], |g, v| g.linear(v[0], v[1], None)), &[-2.0, 34.0, 1.5, -7.0]);
    close(run(&[x, w, b], |g, v| g.linear(v[0], v[1], Some(v[2]))), &[98.0, 34.25, 101.5, -6.75]);
    let (values, squares) = ((1..=35).map(|i| i as f32).collect::<Vec<_>>(), 35.0 * 36.0 * 71.0 / 6.0);
    let [x, w] = ["x", "w"].map(|name| (name, F, &[1, 35][..], f32s(&values))); // 35: two vectors of 16 and a rest
    close(run(&[x, w], |g, v| g.linear(v[0], v[1], None)), &[squares]);
    let a = ("a", F, &[2, 1, 2][..], f32s(&[1.0, 2.0, 3.0, 4.0]));
    let b = ("b", F, &[2, 2, 2][..], f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]));
    close(run(&[a.clone(), b.clone()], |g, v| g.bmm(v[0], v[1], false)), &[7.0, 10.0, 43.0, 50.0]);
    close(run(&[a, b], |g, v| g.bmm(v[0], v[1], true)), &[5.0, 11.0, 39.0, 53.0]);
}

#[test]
fn rows_are_normalised_turned_and_weighed() {
    let x = ("x", F, &[1, 4][..], f32s(&[3.0, 4.0, 1e30, 0.0]));
    let w = ("w", DType::BF16, &[4][..], [0x80, 0x3f, 0x00, 0x40].repeat(2)); // 1, 2, 1, 2
    close(run(&[x, w], |g, v| g.rms_norm(v[0], v[1], 1e-5)), &[6e-30, 1.6e-29, 2.0, 0.0]);
    let x = ("x", F, &[2, 5][..], f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    let turn = |name, values: &[f32]| (name, F, &[2, 2][..], f32s(values));
    let (cos, sin) = (turn("cos", &[0.0, 1.0, -1.0, 0.6]), turn("sin", &[1.0, 0.0, 0.0, 0.8]));
    let turned = [-3.0, 2.0, 1.0, 4.0, 5.0, -1.0, 1.2 - 3.2, -3.0, 2.4 + 1.6, 5.0];
    close(run(&[x, cos, sin], |g, v| g.rope(v[0], v[1], v[2], 5)), &turned);
    let x = ("x", F, &[2, 1, 2][..], f32s(&[0.0, 2.0, f32::NAN, 7.0]));
    let mask = ("mask", F, &[2, 2][..], f32s(&[0.5, 0.0, MASKED, 0.0]));
    let e = 0.5f64.exp(); // scores 0.5 and 1
    close(run(&[x, mask], |g, v| g.softmax(v[0], Some(v[1]), 0.5)), &[1.0 / (1.0 + e), e / (1.0 + e), 0.0, 1.0]);
    let hidden = [("x", F, &[1, 2][..], f32s(&[1.0, 2.0])), ("mask", F, &[1, 2][..], f32s(&[MASKED; 2]))];
    close(run(&hidden, |g, v| g.softmax(v[0], Some(v[1]), 1.0)), &[0.0, 0.0]);
}

#[test]
fn elements_are_computed_one_by_one() {
    let x = |name| (name, F, &[3][..], f32s(&[-1.0, 0.0, 2.5]));
    close(run(&[x("a"), x("b")], |g, v| g.add(v[0], v[1])), &[-2.0, 0.0, 5.0]);
    close(run(&[x("a"), x("b")], |g, v| g.mul(v[0], v[1])), &[1.0, 0.0, 6.25]);
    let silu = |x: f64| x / (1.0 + (-x).exp());
    close(run(&[x("x")], |g, v| g.activation(v[0], Activation::Silu)), &[silu(-1.0), 0.0, silu(2.5)]);
    let half = ("w", DType::F16, &[2][..], vec![0x00, 0x3e, 0x00, 0xc0]); // 1.5, -2
    close(run(&[half], |g, v| g.cast(v[0], F)), &[1.5, -2.0]);
}

#[test]
fn what_is_not_there_is_refused_or_lowered() {
    let device = Example.open(0, &Options::default()).unwrap();
    let x = [("x", F, &[3][..], vec![])];
    let ask = |graph: Graph| device.supports(&graph, graph.node_ids().next().unwrap());
    assert!(matches!(ask(graph(&x, |g, v| g.swiglu(v[0], v[0]))), Support::Lower { .. }));
    for (graph, supported) in [
        (graph(&x, |g, v| g.cast(v[0], DType::F16)), "supported: f32"),
        (graph(&x, |g, v| g.activation(v[0], Activation::Gelu)), "supported: silu"),
        (graph(&[("x", DType::F16, &[3][..], vec![])], |g, v| g.add(v[0], v[0])), "supported: f32"),
    ] {
        assert!(matches!(ask(graph), Support::No { reason } if reason.contains(supported)));
    }
    let open = |index, key: &str, value: &str| {
        let mut options = Options::default();
        options.set(key, value);
        Example.open(index, &options).map(|_| ()).map_err(|error| error.message)
    };
    assert_eq!(open(0, "trace", "true"), Ok(()));
    assert_eq!(open(0, "trace", "yes").unwrap_err(), "option `trace` = `yes` is neither `true` nor `false`");
    assert!(open(0, "tracing", "true").unwrap_err().contains("unknown option `tracing`"));
    assert!(open(1, "trace", "true").unwrap_err().contains("there is no device 1"));
}
