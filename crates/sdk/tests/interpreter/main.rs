//! The interpreter over kernels made for these tests: what it decides must not be seen in the results, and what does
//! not fit must be an error that says what.

mod memory;
mod random;
mod refusals;
mod rig;

use camelid_sdk::core::DType;
use camelid_sdk::core::graph::{Graph, GraphBuilder, StepInput, Symbol, ValueId};
use std::sync::atomic::Ordering::Relaxed;

use rig::*;

const BEFORE: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
const AFTER: [f32; 6] = [30.0, 40.0, 3.0, 4.0, 10.0, 20.0];

/// A table of three rows, and two rows that go to its rows 2 and 0.
fn contents() -> Vec<(&'static str, Vec<u8>)> {
    vec![("table", f32_bytes(&BEFORE)), ("rows", f32_bytes(&[10.0, 20.0, 30.0, 40.0])), ("index", i32_bytes(&[2, 0]))]
}

struct Scatter {
    g: GraphBuilder,
    table: ValueId,
    rows: ValueId,
    index: ValueId,
}

fn scatter(table: &[usize]) -> Scatter {
    let mut g = GraphBuilder::new(up_to(2, 2));
    let dims: Vec<_> = table.iter().map(|d| (*d).into()).collect();
    let table = g.state("table", ty(DType::F32, &dims)).unwrap();
    let rows = g.input("rows", tokens_by(2)).unwrap();
    let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
    Scatter { g, table, rows, index }
}

/// Runs the graph on every device, with each value in a buffer of its own, with all in one, and with all in one and
/// gaps between them that no alignment survives; the outputs and the table must be these.
fn check(graph: &Graph, contents: &[(&str, Vec<u8>)], expected: &[(&str, &[f32])]) {
    for together in [None, Some(0), Some(4), Some(100), Some(256)] {
        for mut device in devices() {
            let bindings = bind(&mut *device, graph, contents, together);
            let plan = device.compile(graph, &bindings).unwrap();
            device.run(plan, &step(2, 2)).unwrap();
            for (name, expected) in expected {
                let found = graph.outputs().iter().find(|o| o.name == *name).map(|o| o.value);
                let bound = || graph.bound_values().find(|(_, v)| v.name == *name).unwrap().0;
                let found = read(&mut *device, graph, &bindings, found.unwrap_or_else(bound), &step(2, 2));
                assert_eq!(floats(&found), *expected, "{name}, {together:?}");
            }
        }
    }
}

#[test]
fn a_reshaped_value_keeps_what_it_was_when_its_operand_changes_later() {
    let Scatter { mut g, table, rows, index } = scatter(&[3, 2]);
    let flat = g.reshape(table, &[6.into()]).unwrap();
    let flat_again = g.reshape(flat, &[2.into(), 3.into()]).unwrap();
    let newer = g.scatter_rows(table, rows, index).unwrap();
    let newer_flat = g.reshape(newer, &[6.into()]).unwrap();
    for (name, value) in [("old", flat), ("old_again", flat_again), ("new", newer_flat)] {
        let copy = g.copy(value).unwrap();
        g.output(name, copy).unwrap();
    }
    let expected: [(&str, &[f32]); 4] = [("old", &BEFORE), ("old_again", &BEFORE), ("new", &AFTER), ("table", &AFTER)];
    check(&g.finish(), &contents(), &expected);
}

#[test]
fn changing_a_reshaped_value_leaves_its_operand_alone() {
    let Scatter { mut g, table, rows, index } = scatter(&[6]);
    let doubled = g.add(table, table).unwrap();
    let matrix = g.reshape(table, &[3.into(), 2.into()]).unwrap();
    let computed = g.reshape(doubled, &[3.into(), 2.into()]).unwrap();
    let changed = g.scatter_rows(matrix, rows, index).unwrap();
    let computed_changed = g.scatter_rows(computed, rows, index).unwrap();
    for (name, value) in [("y", changed), ("y2", computed_changed), ("twice", doubled)] {
        let copy = g.copy(value).unwrap();
        g.output(name, copy).unwrap();
    }
    let expected: [(&str, &[f32]); 4] = [
        ("y", &AFTER),
        ("y2", &[30.0, 40.0, 6.0, 8.0, 10.0, 20.0]),
        ("twice", &BEFORE.map(|v| 2.0 * v)),
        ("table", &BEFORE),
    ];
    check(&g.finish(), &contents(), &expected);
}

#[test]
fn a_chain_in_place_changes_one_memory_in_order() {
    let Scatter { mut g, table, rows, index } = scatter(&[3, 2]);
    let once = g.scatter_rows(table, rows, index).unwrap();
    let seen = g.add(once, once).unwrap();
    let doubled = g.add(rows, rows).unwrap();
    let twice = g.scatter_rows(once, doubled, index).unwrap();
    let own = g.copy(twice).unwrap();
    let changed = g.scatter_rows(own, rows, index).unwrap(); // an output changed in place
    g.output("seen", seen).unwrap();
    g.output("twice", twice).unwrap();
    g.output("changed", changed).unwrap();
    let twice = [60.0, 80.0, 3.0, 4.0, 20.0, 40.0];
    let expected: [(&str, &[f32]); 4] =
        [("seen", &AFTER.map(|v| 2.0 * v)), ("twice", &twice), ("table", &twice), ("changed", &AFTER)];
    check(&g.finish(), &contents(), &expected);
}

#[test]
fn a_table_may_be_scattered_into_itself() {
    let mut g = GraphBuilder::new(up_to(2, 2));
    let table = g.state("table", ty(DType::F32, &[3.into(), 2.into()])).unwrap();
    let index = g.input("index", ty(DType::I32, &[3.into()])).unwrap();
    let turned = g.scatter_rows(table, table, index).unwrap();
    g.output("turned", turned).unwrap();
    let contents = [("table", f32_bytes(&BEFORE)), ("index", i32_bytes(&[1, 2, 0]))];
    check(&g.finish(), &contents, &[("turned", &[5.0, 6.0, 1.0, 2.0, 3.0, 4.0])]);
}

#[test]
fn values_live_until_their_last_use_whatever_their_shape() {
    let Scatter { mut g, rows, .. } = scatter(&[3, 2]);
    let sum = g.add(rows, rows).unwrap();
    let flat = g.reshape(sum, &[Symbol::T.into(), 2.into(), 1.into()]).unwrap();
    let mut other = rows;
    for _ in 0..10 {
        other = g.mul(other, rows).unwrap(); // memory that is given back and used anew
    }
    let back = g.reshape(flat, &[Symbol::T.into(), 2.into()]).unwrap();
    let y = g.add(back, rows).unwrap();
    g.output("y", y).unwrap();
    g.mul(other, rows).unwrap(); // a result that nobody wants
    check(&g.finish(), &contents(), &[("y", &[30.0, 60.0, 90.0, 120.0])]);
}

#[test]
fn several_results_and_their_operands_may_lie_in_one_buffer() {
    let mut g = GraphBuilder::new(up_to(2, 2));
    let [x, residual] = ["x", "residual"].map(|name| g.input(name, tokens_by(2)).unwrap());
    let weight = g.weight("weight", ty(DType::F32, &[2.into()])).unwrap();
    let (sum, y) = g.add_rms_norm(x, residual, weight, 12.0).unwrap();
    let (twice, _) = g.add_rms_norm(sum, sum, weight, 12.0).unwrap();
    for (name, value) in [("sum", sum), ("y", y), ("again", y), ("x_too", x), ("twice", twice)] {
        g.output(name, value).unwrap();
    }
    let contents = [
        ("x", f32_bytes(&[1.0, 2.0, 1.0, 0.0])),
        ("residual", f32_bytes(&[1.0, 4.0, 1.0, 2.0])),
        ("weight", f32_bytes(&[16.0, 8.0])),
    ];
    // Mean squares 20 and 4; with eps 32 and 16.
    let root = 1.0 / 32f32.sqrt();
    let y = [2.0 * root * 16.0, 6.0 * root * 8.0, 8.0, 4.0];
    let expected: [(&str, &[f32]); 5] = [
        ("sum", &[2.0, 6.0, 2.0, 2.0]),
        ("y", &y),
        ("again", &y),
        ("x_too", &[1.0, 2.0, 1.0, 0.0]),
        ("twice", &[4.0, 12.0, 4.0, 4.0]),
    ];
    check(&g.finish(), &contents, &expected);
}

#[test]
fn one_plan_serves_steps_of_every_size_and_new_contents() {
    let mut g = GraphBuilder::new(up_to(5, 3));
    let x = g.input("x", tokens_by(3)).unwrap();
    let rows = g.step_input(StepInput::OutRow).unwrap();
    let head = g.weight("head", ty(DType::F32, &[2.into(), 3.into()])).unwrap();
    let doubled = g.add(x, x).unwrap();
    let picked = g.gather_rows(doubled, rows).unwrap();
    let logits = g.linear(picked, head, None).unwrap();
    g.output("logits", logits).unwrap();
    let graph = g.finish();
    for ((mut device, counts), evals_of_none) in [(host(), 1), (particular(), 1)] {
        let head = f32_bytes(&[1.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        let bindings = bind(&mut *device, &graph, &[("head", head)], None);
        let plan = device.compile(&graph, &bindings).unwrap();
        for (tokens, out_row) in [(5, vec![4, 0, 2]), (1, vec![0]), (3, vec![]), (4, vec![3, 3]), (5, vec![1])] {
            let x: Vec<f32> = (0..3 * tokens).map(|i| (i * i + tokens) as f32).collect();
            device.write(buffer(&graph, &bindings, "x"), 0, &f32_bytes(&x)).unwrap();
            device.write(buffer(&graph, &bindings, "out_row"), 0, &i32_bytes(&out_row)).unwrap();
            let (symbols, before) = (step(tokens, out_row.len()), counts.evals.load(Relaxed));
            device.run(plan, &symbols).unwrap();
            let found = floats(&read(&mut *device, &graph, &bindings, output(&graph, "logits"), &symbols));
            let row = |r: &i32| &x[3 * *r as usize..][..3];
            let expected: Vec<f32> =
                out_row.iter().flat_map(|r| [2.0 * (row(r)[0] + row(r)[1]), 2.0 * row(r)[2]]).collect();
            assert_eq!(found, expected, "{tokens} tokens, rows {out_row:?}");
            let evals = if out_row.is_empty() { evals_of_none } else { 3 };
            assert_eq!(counts.evals.load(Relaxed) - before, evals, "what is empty is left out");
        }
        device.run(plan, &step(0, 0)).unwrap();
        assert_eq!(counts.steps.load(Relaxed), 6, "each step is ended once");
    }
}

#[test]
fn two_plans_share_buffers_and_nothing_else() {
    let graph = |twice: bool| {
        let mut g = GraphBuilder::new(up_to(if twice { 4 } else { 2 }, 0));
        let (x, w) = (g.input("x", tokens_by(2)), g.weight("w", ty(DType::F32, &[2.into(), 2.into()])));
        let mut y = g.linear(x.unwrap(), w.unwrap(), None).unwrap();
        if twice {
            y = g.add(y, y).unwrap();
        }
        g.output("y", y).unwrap();
        g.finish()
    };
    let (long, short) = (graph(true), graph(false));
    for mut device in devices() {
        let bindings = bind(&mut *device, &long, &[("w", f32_bytes(&[0.0, 1.0, 1.0, 0.0]))], None);
        let other = long.bound_values().zip(short.bound_values()).map(|((id, _), (short_id, _))| {
            let location = location(&long, &bindings, id);
            camelid_sdk::core::backend::Binding { value: short_id, location }
        });
        let other: Vec<_> = other.collect();
        let plans = [device.compile(&long, &bindings).unwrap(), device.compile(&short, &other).unwrap()];
        let x = buffer(&long, &bindings, "x");
        for round in 0..4 {
            let (plan, factor) = (plans[round % 2], [2.0, 1.0][round % 2]);
            let values = [round as f32, 10.0, 3.0, -1.0];
            device.write(x, 0, &f32_bytes(&values)).unwrap();
            device.run(plan, &step(2, 0)).unwrap();
            let y = floats(&read(&mut *device, &long, &bindings, output(&long, "y"), &step(2, 0)));
            assert_eq!(y, [10.0, round as f32, -1.0, 3.0].map(|v| factor * v));
        }
        device.free_plan(plans[0]);
        device.run(plans[1], &step(1, 0)).unwrap();
    }
}

#[test]
fn tied_weights_are_one_buffer_bound_twice() {
    let mut g = GraphBuilder::new(up_to(3, 0));
    let table = ty(DType::F32, &[3.into(), 2.into()]);
    let (embed, head) = (g.weight("embed", table).unwrap(), g.weight("head", table).unwrap());
    let tokens = g.step_input(StepInput::Tokens).unwrap();
    let x = g.gather_rows(embed, tokens).unwrap();
    let y = g.linear(x, head, None).unwrap();
    g.output("y", y).unwrap();
    let graph = g.finish();
    for mut device in devices() {
        let values = f32_bytes(&[1.0, 0.0, 0.0, 2.0, 3.0, 3.0]);
        let contents = [("embed", values.clone()), ("head", values), ("tokens", i32_bytes(&[2, 1, 0]))];
        let mut bindings = bind(&mut *device, &graph, &contents, None);
        let embed = bindings[0].location;
        device.free(bindings[1].location.buffer);
        bindings[1].location = embed;
        let plan = device.compile(&graph, &bindings).unwrap();
        device.run(plan, &step(3, 0)).unwrap();
        let y = floats(&read(&mut *device, &graph, &bindings, output(&graph, "y"), &step(3, 0)));
        assert_eq!(y, [3.0, 6.0, 18.0, 0.0, 4.0, 6.0, 1.0, 0.0, 3.0]);
    }
}
