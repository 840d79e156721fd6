//! What a plan decides must not be seen in the results: shared memory, memory given back, outputs in buffers.

mod common;

use camelid_core::DType;
use camelid_core::graph::{GraphBuilder, StepInput, Symbol, SymbolValues};

use common::*;

const STEP: [usize; 4] = [2, 1, 0, 0];

fn symbols() -> SymbolValues {
    let [t, s, o, l] = STEP;
    SymbolValues::new(t, s, o, l)
}

fn builder() -> GraphBuilder {
    GraphBuilder::new(up_to(symbols()))
}

/// Two rows for a table of three: `rows` 10, 20 and 30, 40 go to 2 and 0.
fn contents() -> Contents {
    Contents::from([
        ("table".into(), f32_bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        ("rows".into(), f32_bytes(&[10.0, 20.0, 30.0, 40.0])),
        ("index".into(), i32_bytes(&[2, 0])),
    ])
}

const BEFORE: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
const AFTER: [f32; 6] = [30.0, 40.0, 3.0, 4.0, 10.0, 20.0];

fn results(graph: &camelid_core::graph::Graph, names: &[&str]) -> Vec<Vec<f32>> {
    evaluate(graph, &contents(), &symbols(), names).iter().map(|b| floats(DType::F32, b)).collect()
}

#[test]
fn a_reshaped_value_keeps_what_it_was_when_its_operand_changes_later() {
    let mut g = builder();
    let table = g.state("table", ty(DType::F32, &[3.into(), 2.into()])).unwrap();
    let rows = g.input("rows", tokens_by(DType::F32, 2)).unwrap();
    let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
    let flat = g.reshape(table, &[6.into()]).unwrap();
    let flat_again = g.reshape(flat, &[2.into(), 3.into()]).unwrap();
    let newer = g.scatter_rows(table, rows, index).unwrap();
    let newer_flat = g.reshape(newer, &[6.into()]).unwrap();
    let [old, old_again, new] = [flat, flat_again, newer_flat].map(|v| g.copy(v).unwrap());
    for (name, value) in [("old", old), ("old_again", old_again), ("new", new)] {
        g.output(name, value).unwrap();
    }
    let found = results(&g.finish(), &["old", "old_again", "new", "table"]);
    assert_eq!(found, [BEFORE, BEFORE, AFTER, AFTER]);
}

#[test]
fn changing_a_reshaped_value_leaves_its_operand_alone() {
    let mut g = builder();
    let table = g.state("table", ty(DType::F32, &[6.into()])).unwrap();
    let rows = g.input("rows", tokens_by(DType::F32, 2)).unwrap();
    let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
    let doubled = g.add(table, table).unwrap();
    let matrix = g.reshape(table, &[3.into(), 2.into()]).unwrap();
    let computed = g.reshape(doubled, &[3.into(), 2.into()]).unwrap();
    let changed = g.scatter_rows(matrix, rows, index).unwrap();
    let computed_changed = g.scatter_rows(computed, rows, index).unwrap();
    let [y, y2, twice] = [changed, computed_changed, doubled].map(|v| g.copy(v).unwrap());
    for (name, value) in [("y", y), ("y2", y2), ("twice", twice)] {
        g.output(name, value).unwrap();
    }
    let found = results(&g.finish(), &["y", "y2", "twice", "table"]);
    assert_eq!(found[0], AFTER);
    assert_eq!(found[1], [30.0, 40.0, 6.0, 8.0, 10.0, 20.0]);
    assert_eq!(found[2], BEFORE.map(|v| 2.0 * v));
    assert_eq!(found[3], BEFORE);
}

#[test]
fn a_table_may_be_scattered_into_itself() {
    let mut g = builder();
    let table = g.state("table", ty(DType::F32, &[3.into(), 2.into()])).unwrap();
    let index = g.input("index", ty(DType::I32, &[3.into()])).unwrap();
    let turned = g.scatter_rows(table, table, index).unwrap();
    g.output("turned", turned).unwrap();
    let mut contents = contents();
    contents.insert("index".into(), i32_bytes(&[1, 2, 0]));
    let found = evaluate(&g.finish(), &contents, &symbols(), &["turned"]);
    assert_eq!(floats(DType::F32, &found[0]), [5.0, 6.0, 1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn reshaped_values_share_memory_until_the_last_of_them_is_used() {
    let mut g = builder();
    let rows = g.input("rows", tokens_by(DType::F32, 2)).unwrap();
    let sum = g.add(rows, rows).unwrap();
    let flat = g.reshape(sum, &[Symbol::T.into(), 2.into(), 1.into()]).unwrap();
    let mut noise = rows;
    for _ in 0..10 {
        noise = g.mul(noise, rows).unwrap(); // memory that is given back and used anew
    }
    let back = g.reshape(flat, &[Symbol::T.into(), 2.into()]).unwrap();
    let y = g.add(back, rows).unwrap();
    g.output("y", y).unwrap();
    g.output("noise", noise).unwrap();
    let found = results(&g.finish(), &["y", "noise"]);
    assert_eq!(found[0], [30.0, 60.0, 90.0, 120.0]);
    assert_eq!(found[1][0], 1e11);
}

#[test]
fn anything_can_be_an_output() {
    let mut g = builder();
    let table = g.state("table", ty(DType::F32, &[3.into(), 2.into()])).unwrap();
    let rows = g.input("rows", tokens_by(DType::F32, 2)).unwrap();
    let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
    let newer = g.scatter_rows(table, rows, index).unwrap();
    let sum = g.add(rows, rows).unwrap();
    let flat = g.reshape(sum, &[2.into(), Symbol::T.into()]).unwrap();
    for (name, value) in [("input", rows), ("state", newer), ("sum", sum), ("again", sum), ("reshaped", flat)] {
        g.output(name, value).unwrap();
    }
    let found = results(&g.finish(), &["input", "sum", "again", "reshaped"]);
    assert_eq!(found[0], [10.0, 20.0, 30.0, 40.0]);
    assert!(found[1..].iter().all(|v| *v == [20.0, 40.0, 60.0, 80.0]));
    let mut g = builder();
    let table = g.state("table", ty(DType::F32, &[3.into(), 2.into()])).unwrap();
    g.output("state", table).unwrap();
    assert_eq!(results(&g.finish(), &["state"]), [BEFORE]);
}

#[test]
fn an_output_changed_in_place_lives_where_it_was_made() {
    let mut g = builder();
    let table = g.state("table", ty(DType::F32, &[3.into(), 2.into()])).unwrap();
    let rows = g.input("rows", tokens_by(DType::F32, 2)).unwrap();
    let index = g.input("index", ty(DType::I32, &[Symbol::T.into()])).unwrap();
    let own = g.copy(table).unwrap();
    let changed = g.scatter_rows(own, rows, index).unwrap();
    g.output("y", changed).unwrap();
    assert_eq!(results(&g.finish(), &["y", "table"]), [AFTER, BEFORE]);
}

#[test]
fn no_output_rows_cost_nothing_and_give_nothing() {
    let range = up_to(SymbolValues::new(4, 2, 4, 8));
    let mut g = GraphBuilder::new(range);
    let x = g.input("x", tokens_by(DType::F32, 2)).unwrap();
    let rows = g.step_input(StepInput::OutRow).unwrap();
    let head = g.weight("head", ty(DType::F32, &[3.into(), 2.into()])).unwrap();
    let picked = g.gather_rows(x, rows).unwrap();
    let logits = g.linear(picked, head, None).unwrap();
    g.output("logits", logits).unwrap();
    let contents = Contents::from([
        ("head".into(), f32_bytes(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0])),
        ("x".into(), f32_bytes(&[1.0, 2.0, 3.0, 4.0])),
        ("out_row".into(), i32_bytes(&[1])),
    ]);
    let mut rig = Rig::new(&g.finish(), &contents, 2);
    let step = SymbolValues::new(2, 1, 1, 2);
    rig.run(&step).unwrap();
    assert_eq!(floats(DType::F32, &rig.read("logits", &step)), [3.0, 4.0, 7.0]);
    let step = SymbolValues::new(2, 1, 0, 2);
    rig.run(&step).unwrap();
    assert!(rig.read("logits", &step).is_empty());
    rig.write(&Contents::from([("out_row".into(), i32_bytes(&[2]))]));
    let error = rig.run(&SymbolValues::new(2, 1, 1, 2)).unwrap_err();
    assert!(error.message.contains("element 0 is 2, but it must be in 0..2"), "{error}");
}
