//! Random graphs with random bindings against the plainest way to run a graph: every value a vector of its own.

use std::collections::HashMap;

use camelid_sdk::core::DType;
use camelid_sdk::core::graph::{Graph, GraphBuilder, Symbol, SymbolValues, ValueId, ValueKind};

use crate::rig::*;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's multiplicative generator (MMIX); the upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }

    fn numbers(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.roll(17) as f32 - 8.0) / 8.0).collect()
    }
}

/// A graph of a dozen nodes over `[T, 2]`, `[4, 2]` tables and a `[2, 2]` weight, and contents for it.
fn graph(dice: &mut Dice) -> (Graph, Vec<(&'static str, Vec<u8>)>) {
    const TABLES: [&str; 2] = ["table_a", "table_b"];
    let mut g = GraphBuilder::new(up_to(3, 0));
    let t = Symbol::T.into();
    let mut rows: Vec<ValueId> = ["x", "y"].map(|name| g.input(name, tokens_by(2)).unwrap()).to_vec();
    let mut tables: Vec<ValueId> =
        TABLES.map(|name| g.state(name, ty(DType::F32, &[4.into(), 2.into()])).unwrap()).to_vec();
    let index = g.input("index", ty(DType::I32, &[t])).unwrap();
    let weight = g.weight("w", ty(DType::F32, &[2.into(), 2.into()])).unwrap();
    for _ in 0..12 {
        let (a, b, at) = (dice.pick(&rows), dice.pick(&rows), dice.roll(tables.len()));
        match dice.roll(8) {
            0 => rows.push(g.add(a, b).unwrap()),
            1 => rows.push(g.linear(a, weight, None).unwrap()),
            2 => rows.push(g.copy(a).unwrap()),
            3 => {
                let turned = g.reshape(a, &[2.into(), t]).unwrap();
                rows.push(g.reshape(turned, &[t, 2.into()]).unwrap());
            }
            4 => rows.push(g.gather_rows(tables[at], index).unwrap()),
            5 => tables[at] = g.scatter_rows(tables[at], a, index).unwrap(),
            6 => tables.push(g.copy(tables[at]).unwrap()),
            _ => {
                let flat = g.reshape(tables[at], &[8.into()]).unwrap();
                tables.push(g.reshape(flat, &[4.into(), 2.into()]).unwrap());
            }
        }
    }
    for i in 0..3 {
        let value = dice.pick(&if i == 2 { tables.clone() } else { rows.clone() });
        g.output(format!("output {i}"), value).unwrap();
    }
    let mut contents: Vec<(&str, Vec<u8>)> = [("x", 6), ("y", 6), ("table_a", 8), ("table_b", 8), ("w", 4)]
        .map(|(n, len)| (n, f32_bytes(&dice.numbers(len))))
        .into();
    let first = dice.roll(4);
    contents.push(("index", i32_bytes(&[0, 1, 2].map(|i| ((first + i) % 4) as i32))));
    (g.finish(), contents)
}

/// All values of a step; a value changed in place is a new one.
fn plainly(graph: &Graph, contents: &[(&str, Vec<u8>)], symbols: &SymbolValues) -> HashMap<ValueId, Vec<u8>> {
    let size = |v: ValueId| graph.value(v).ty.bytes(symbols).unwrap();
    let given = graph.bound_values().filter(|(_, v)| v.kind != ValueKind::Computed).map(|(id, v)| {
        let bytes = &contents.iter().find(|(name, _)| *name == v.name).unwrap().1;
        (id, bytes[..size(id)].to_vec())
    });
    let mut values: HashMap<ValueId, Vec<u8>> = given.collect();
    for node in graph.nodes() {
        let x: Vec<_> =
            node.inputs.iter().map(|v| (graph.value(*v).ty.shape.resolve(symbols), values[v].clone())).collect();
        let results = if matches!(node.op.name(), "copy" | "reshape") {
            vec![x[0].1.clone()]
        } else {
            compute(&node.op, &x).unwrap()
        };
        values.extend(node.outputs.iter().copied().zip(results));
    }
    values
}

/// The last value that lives where `storage` does: what its memory holds after a step.
fn newest(graph: &Graph, storage: ValueId) -> ValueId {
    let ids = (0..graph.values().len() as u32).map(ValueId);
    ids.filter(|id| graph.storage_of(*id) == storage).max().unwrap()
}

#[test]
fn random_graphs_give_what_they_mean_wherever_their_values_lie() {
    let dice = &mut Dice(1);
    for seed in 0..400 {
        let (graph, contents) = graph(dice);
        let together = dice.pick(&[None, Some(0), Some(4), Some(60), Some(256)]);
        for mut device in devices() {
            let bindings = bind(&mut *device, &graph, &contents, together);
            let plan = device.compile(&graph, &bindings).unwrap();
            for tokens in [3, 1, 2] {
                for (id, value) in graph.bound_values() {
                    let found = contents.iter().find(|(name, _)| *name == value.name);
                    if let Some((_, bytes)) = found.filter(|_| value.kind != ValueKind::Weight) {
                        let at = location(&graph, &bindings, id);
                        device.write(at.buffer, at.offset, bytes).unwrap();
                    }
                }
                let symbols = step(tokens, 0);
                device.run(plan, &symbols).unwrap();
                let expected = plainly(&graph, &contents, &symbols);
                for (id, value) in graph.bound_values() {
                    let found = read(&mut *device, &graph, &bindings, id, &symbols);
                    let expected = &expected[&newest(&graph, id)];
                    assert_eq!(floats(&found), floats(expected), "{seed}: {} of\n{graph}", value.name);
                }
            }
        }
    }
}
