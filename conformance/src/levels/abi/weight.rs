//! Weights: how their bytes come, who keeps them, what they are bound to.

use std::sync::Arc;

use camelid_core::Bytes;
use camelid_core::backend::{Placement, Weight};
use camelid_core::graph::Graph;
use camelid_core::ops::Op;
use camelid_host::{Buffer, DeviceHandle};

use super::case;
use super::device::{same, works};
use crate::case::{Case, Problem};
use crate::check;
use crate::levels::rig::{self, Rig, WIDTH};

/// Rows of the tables.
const ROWS: usize = 7;

/// Its cases.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for skew in [0, 1, 2, 3, 6, 61] {
        let id = format!("abi/weight/skew_{skew}");
        cases.push(case(id, "a weight's bytes come at any alignment", move |cx| {
            let device = cx.subject.handle()?;
            let values = rig::whole(ROWS * WIDTH, skew);
            let table = rig::weight(&device, "table", &[ROWS, WIDTH], &values, skew)?;
            looked_up(&device, &table, &values)
        }));
    }
    cases.push(case(
        "abi/weight/bytes_given_back",
        "bytes that are not kept are let go, others until they are",
        given_back,
    ));
    cases.push(case("abi/weight/rows_of_many", "three hundred weights, each with its own numbers", |cx| {
        let device = cx.subject.handle()?;
        let values = |n| rig::whole(ROWS * WIDTH, n);
        let load = |n| rig::weight(&device, &format!("table {n}"), &[ROWS, WIDTH], &values(n), n % 5);
        let tables = (0..300).map(load).collect::<Result<Vec<_>, _>>()?;
        for n in [0, 1, 150, 298, 299] {
            looked_up(&device, &tables[n], &values(n))?;
        }
        Ok(())
    }));
    cases.push(case("abi/weight/two_plans", "plans that share a weight; one ends, the other goes on", |cx| {
        let device = cx.subject.handle()?;
        let values = rig::whole(ROWS * WIDTH, 8);
        let table = rig::weight(&device, "table", &[ROWS, WIDTH], &values, 1)?;
        let [one, two] = [lookup(&device, &table)?, lookup(&device, &table)?];
        check_rows(&one, &values, &[3, 0])?;
        check_rows(&two, &values, &[6, 6])?;
        drop(one);
        drop(table);
        check_rows(&two, &values, &[5, -1])
    }));
    cases.push(case("abi/weight/bound_twice", "two weights of a graph are one buffer, as tied embeddings are", |cx| {
        let device = cx.subject.handle()?;
        let values = rig::whole(ROWS * WIDTH, 12);
        let table = rig::weight(&device, "table", &[ROWS, WIDTH], &values, 0)?;
        let graph = rig::graph(4, |g| {
            let index = g.input("index", rig::indices())?;
            let (a, b) = (g.weight("a", rig::fixed(&[ROWS, WIDTH]))?, g.weight("b", rig::fixed(&[ROWS, WIDTH]))?);
            let (a, b) = (g.push(Op::GatherRows, &[a, index])?[0], g.push(Op::GatherRows, &[b, index])?[0]);
            let y = g.push(Op::Add, &[a, b])?[0];
            g.output("y", y)
        })?;
        let rig = Rig::new(&device, graph, &[("a", &table), ("b", &table)])?;
        rig.write_ints("index", &[2, 5, -1])?;
        rig.run(3)?;
        let doubled: Vec<f32> = rows_of(&values, &[2, 5, -1]).iter().map(|x| x + x).collect();
        same(&rig.read("y", 3 * WIDTH)?, &doubled, "a weight bound twice")
    }));
    cases.push(case("abi/weight/freed_and_loaded", "five hundred weights one after the other", |cx| {
        let device = cx.subject.handle()?;
        for n in 0..500 {
            let values = rig::whole(ROWS * WIDTH, n);
            let table = rig::weight(&device, "table", &[ROWS, WIDTH], &values, n % 4)?;
            if n % 50 == 0 {
                looked_up(&device, &table, &values)?;
            }
        }
        works(&device)
    }));
    cases
}

fn table_graph() -> Result<Graph, Problem> {
    rig::graph(6, |g| {
        let index = g.input("index", rig::indices())?;
        let table = g.weight("table", rig::fixed(&[ROWS, WIDTH]))?;
        let y = g.push(Op::GatherRows, &[table, index])?[0];
        g.output("y", y)
    })
}

fn lookup(device: &DeviceHandle, table: &Buffer) -> Result<Rig, Problem> {
    Rig::new(device, table_graph()?, &[("table", table)])
}

fn rows_of(values: &[f32], index: &[i32]) -> Vec<f32> {
    let row = |i: &i32| usize::try_from(*i).map_or(vec![0.0; WIDTH], |i| values[i * WIDTH..(i + 1) * WIDTH].to_vec());
    index.iter().flat_map(row).collect()
}

fn check_rows(rig: &Rig, values: &[f32], index: &[i32]) -> Result<(), Problem> {
    rig.write_ints("index", index)?;
    rig.run(index.len())?;
    same(&rig.read("y", index.len() * WIDTH)?, &rows_of(values, index), "rows of a weight")
}

fn looked_up(device: &DeviceHandle, table: &Buffer, values: &[f32]) -> Result<(), Problem> {
    check_rows(&lookup(device, table)?, values, &[6, 0, -1, 3, 3])
}

/// Whoever else holds the bytes shows in the count of their owners.
fn given_back(cx: &crate::case::Context<'_>) -> Result<(), Problem> {
    let device = cx.subject.handle()?;
    let values = rig::whole(ROWS * WIDTH, 21);
    let owner: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(rig::bytes(&values));
    for may_repack in [false, true] {
        let data = Bytes::new(owner.clone());
        let weight = Weight { name: "table".into(), ty: rig::fixed(&[ROWS, WIDTH]), data, may_repack };
        let (table, placement) = device.load_weight(weight)?;
        device.sync()?;
        let kept = Arc::strong_count(&owner) > 1;
        match placement {
            Placement::Aliased => check!(kept, "the weight is called aliased, but its bytes were let go"),
            _ => check!(!kept, "the weight is called {placement:?}, but its bytes are kept"),
        }
        check!(may_repack || placement != Placement::Repacked, "the weight was repacked, which was not allowed");
        looked_up(&device, &table, &values)?;
        drop(table);
        device.sync()?;
        check!(Arc::strong_count(&owner) == 1, "the weight is freed, but its bytes are kept");
    }
    Ok(())
}
