//! Plans: their life, their order with reads and writes, what errors leave behind.

use camelid_core::graph::Graph;
use camelid_core::ops::Op;
use camelid_host::OnUnsupported;

use super::case;
use super::device::{added, same, works};
use crate::case::{Case, Context, Problem};
use crate::check;
use crate::levels::rig::{self, Rig, WIDTH};

/// Tokens of most plans here.
const TOKENS: usize = 6;

/// Its cases.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("abi/plan/every_count", "every number of tokens, up, down and up again", |cx| {
            let rig = Rig::new(&cx.subject.handle()?, rig::sum(19)?, &[])?;
            for (salt, tokens) in (1..=19).chain((1..=19).rev()).chain([19, 1, 18, 2]).enumerate() {
                step(&rig, tokens, salt)?;
            }
            Ok(())
        }),
        case("abi/plan/largest_only", "a range of one number of tokens", |cx| {
            for tokens in [1, 2, 33, 257] {
                step(&Rig::new(&cx.subject.handle()?, exactly(tokens)?, &[])?, tokens, tokens)?;
            }
            Ok(())
        }),
        case("abi/plan/same_graph_twice", "two plans of one graph, each with memory of its own", |cx| {
            let device = cx.subject.handle()?;
            let [one, two] = [Rig::new(&device, rig::sum(TOKENS)?, &[])?, Rig::new(&device, rig::sum(TOKENS)?, &[])?];
            for salt in 0..5 {
                step(&one, 1 + salt, salt)?;
                step(&two, TOKENS - salt, salt + 30)?;
            }
            let before = two.read("y", TOKENS)?;
            step(&one, TOKENS, 77)?;
            same(&two.read("y", TOKENS)?, &before, "the result of a plan that did not run")
        }),
        case("abi/plan/shared_memory", "two plans, one's result the other's operand", shared),
        case("abi/plan/two_hundred", "plans of many sizes alive at once, freed in another order", |cx| {
            let device = cx.subject.handle()?;
            let make = |n: usize| Rig::new(&device, rig::sum(1 + n % 23)?, &[]);
            let mut rigs = (0..200).map(make).collect::<Result<Vec<_>, _>>()?;
            for (n, rig) in rigs.iter().enumerate().rev() {
                step(rig, 1 + n % 23, n)?;
            }
            while rigs.len() > 2 {
                drop(rigs.swap_remove(rigs.len() / 2));
            }
            rigs.iter().try_for_each(|rig| step(rig, 1, 3))
        }),
        case("abi/plan/freed_and_made", "a thousand plans one after the other", |cx| {
            let device = cx.subject.handle()?;
            for n in 0..1_000 {
                let rig = Rig::new(&device, rig::sum(1 + n % 9)?, &[])?;
                if n % 100 == 0 {
                    step(&rig, 1 + n % 9, n)?;
                }
            }
            works(&device)
        }),
        case("abi/plan/write_after_run", "an operand written after a run does not change its result", |cx| {
            let rig = Rig::new(&cx.subject.handle()?, rig::sum(TOKENS)?, &[])?;
            for salt in 0..20 {
                let (a, b) = numbers(TOKENS, salt);
                rig.write("a", &a)?;
                rig.write("b", &b)?;
                rig.run(TOKENS)?;
                rig.write("a", &rig::whole(TOKENS * WIDTH, salt + 80))?;
                same(&rig.read("y", TOKENS * WIDTH)?, &added(&a, &b), "a result after its operand was written again")?;
            }
            Ok(())
        }),
        case("abi/plan/runs_without_read", "of many runs the last one is read", |cx| {
            let rig = Rig::new(&cx.subject.handle()?, rig::sum(TOKENS)?, &[])?;
            let mut last = Vec::new();
            for salt in 0..30 {
                let (a, b) = numbers(TOKENS, salt);
                rig.write("a", &a)?;
                rig.write("b", &b)?;
                rig.run(TOKENS)?;
                last = added(&a, &b);
            }
            same(&rig.read("y", TOKENS * WIDTH)?, &last, "the last of thirty results")
        }),
        case("abi/plan/copy_after_run", "a result that is copied away is kept", |cx| {
            let device = cx.subject.handle()?;
            let rig = Rig::new(&device, rig::sum(TOKENS)?, &[])?;
            let size = TOKENS * WIDTH;
            let kept = rig::memory(&device, "kept", 3 * size)?;
            let mut all = Vec::new();
            for salt in 0..3 {
                let (a, b) = numbers(TOKENS, salt);
                rig.write("a", &a)?;
                rig.write("b", &b)?;
                rig.run(TOKENS)?;
                device.copy((&kept, 4 * size * salt), (rig.buffer("y"), 0), 4 * size)?;
                all.extend(added(&a, &b));
            }
            same(&rig::read(&kept, 3 * size)?, &all, "results that were copied away")
        }),
        case("abi/plan/sync", "sync before a read changes nothing; twice neither", |cx| {
            let device = cx.subject.handle()?;
            device.sync()?;
            let rig = Rig::new(&device, rig::sum(TOKENS)?, &[])?;
            let (a, b) = numbers(TOKENS, 5);
            rig.write("a", &a)?;
            rig.write("b", &b)?;
            rig.run(TOKENS)?;
            device.sync()?;
            device.sync()?;
            same(&rig.read("y", TOKENS * WIDTH)?, &added(&a, &b), "a result after sync")
        }),
        case("abi/plan/read_in_pieces", "a result is read from any offset", |cx| {
            let rig = Rig::new(&cx.subject.handle()?, rig::sum(TOKENS)?, &[])?;
            step(&rig, TOKENS, 4)?;
            let all = rig::bytes(&rig.read("y", TOKENS * WIDTH)?);
            for from in [0, 1, 4, 5, 63, all.len() - 1] {
                let mut piece = vec![0; (all.len() - from).min(17)];
                rig.buffer("y").read(from, &mut piece)?;
                check!(piece == all[from..from + piece.len()], "the bytes of a result from offset {from} are others");
            }
            Ok(())
        }),
        case("abi/plan/operands_in_pieces", "an operand is written from any offset", |cx| {
            let rig = Rig::new(&cx.subject.handle()?, rig::sum(TOKENS)?, &[])?;
            step(&rig, TOKENS, 6)?;
            let (mut a, b) = numbers(TOKENS, 6);
            for (at, value) in [(0, 99.0), (7, 98.0), (a.len() - 1, 97.0)] {
                a[at] = value;
                rig.buffer("a").write(4 * at, &rig::bytes(&[value]))?;
                rig.run(TOKENS)?;
                same(&rig.read("y", TOKENS * WIDTH)?, &added(&a, &b), "one element of an operand was written")?;
            }
            Ok(())
        }),
        case("abi/plan/names", "names that are long, empty or strange", |cx| {
            let device = cx.subject.handle()?;
            let long = "x".repeat(5_000);
            for (a, b, y) in [("a b\n\"c\" \\", "", "数"), ("вес ☃", "𝔵", "y"), (long.as_str(), "{}%s%n", "\u{1f98a}")]
            {
                let graph = rig::graph(2, |g| {
                    g.set_scope("a/scope with spaces");
                    let (a, b) = (g.input(a, rig::rows(WIDTH))?, g.input(b, rig::rows(WIDTH))?);
                    let sum = g.push(Op::Add, &[a, b])?[0];
                    g.output(y, sum)
                })?;
                let rig = Rig::new(&device, graph, &[])?;
                let (left, right) = numbers(2, 9);
                rig.write(a, &left)?;
                rig.write(b, &right)?;
                rig.run(2)?;
                same(&rig.read(y, 2 * WIDTH)?, &added(&left, &right), "values with strange names")?;
            }
            Ok(())
        }),
        case("abi/plan/many_nodes", "a graph of five hundred nodes", |cx| {
            let graph = rig::graph(2, |g| {
                let (mut x, one) = (g.input("x", rig::rows(WIDTH))?, g.input("one", rig::rows(WIDTH))?);
                let minus = g.input("minus", rig::rows(WIDTH))?;
                for n in 0..500 {
                    x = g.push(Op::Add, &[x, if n % 2 == 0 { one } else { minus }])?[0];
                }
                x = g.push(Op::Add, &[x, one])?[0];
                g.output("y", x)
            })?;
            let rig = Rig::new(&cx.subject.handle()?, graph, &[])?;
            let x = rig::whole(2 * WIDTH, 3);
            rig.write("x", &x)?;
            rig.write("one", &[1.0; 2 * WIDTH])?;
            rig.write("minus", &[-1.0; 2 * WIDTH])?;
            rig.run(2)?;
            let expected: Vec<f32> = x.iter().map(|x| x + 1.0).collect();
            same(&rig.read("y", 2 * WIDTH)?, &expected, "five hundred sums")
        }),
        case("abi/plan/one_value_twice", "a value is both operands, and results are operands of many", |cx| {
            let graph = rig::graph(3, |g| {
                let x = g.input("x", rig::rows(WIDTH))?;
                let double = g.push(Op::Add, &[x, x])?[0];
                let triple = g.push(Op::Add, &[double, x])?[0];
                let six = g.push(Op::Add, &[triple, triple])?[0];
                g.output("double", double)?;
                g.output("six", six)?;
                g.output("triple", triple)
            })?;
            let rig = Rig::new(&cx.subject.handle()?, graph, &[])?;
            let x: Vec<f32> = rig::whole(3 * WIDTH, 1).iter().map(|x| x % 31.0).collect();
            rig.write("x", &x)?;
            rig.run(3)?;
            for (name, factor) in [("six", 6.0), ("double", 2.0), ("triple", 3.0)] {
                let expected: Vec<f32> = x.iter().map(|x| x * factor).collect();
                same(&rig.read(name, 3 * WIDTH)?, &expected, name)?;
            }
            Ok(())
        }),
        case("abi/plan/states", "a state is written by one plan and read by another", states),
        case("abi/plan/verdicts", "the same graph is judged the same way each time, on every device", verdicts),
        case("abi/error/index_outside", "an error names something, and everything goes on after it", |cx| {
            errors(cx, 25)
        }),
    ]
}

fn numbers(tokens: usize, salt: usize) -> (Vec<f32>, Vec<f32>) {
    (rig::whole(tokens * WIDTH, salt), rig::whole(tokens * WIDTH, salt + 50))
}

/// One run of [`rig::sum`] over memory that holds no numbers.
fn step(rig: &Rig, tokens: usize, salt: usize) -> Result<(), Problem> {
    let (a, b) = numbers(tokens, salt);
    rig.write("a", &a)?;
    rig.write("b", &b)?;
    rig.write("y", &vec![f32::NAN; rig.buffer("y").size() / 4])?;
    rig.run(tokens)?;
    same(&rig.read("y", tokens * WIDTH)?, &added(&a, &b), &format!("{tokens} tokens"))
}

/// [`rig::sum`] for exactly `tokens` tokens.
fn exactly(tokens: usize) -> Result<Graph, Problem> {
    use camelid_core::graph::GraphBuilder;
    let mut range = rig::up_to(tokens);
    range.min = range.max;
    let mut g = GraphBuilder::new(range);
    let mut build = || {
        let (a, b) = (g.input("a", rig::rows(WIDTH))?, g.input("b", rig::rows(WIDTH))?);
        let y = g.push(Op::Add, &[a, b])?[0];
        g.output("y", y)
    };
    build().map_err(|e| Problem::Blocked(e.to_string()))?;
    Ok(g.finish())
}

fn shared(cx: &Context<'_>) -> Result<(), Problem> {
    let device = cx.subject.handle()?;
    let middle = rig::memory(&device, "middle", TOKENS * WIDTH)?;
    let first = Rig::new(&device, rig::sum(TOKENS)?, &[("y", &middle)])?;
    let second = Rig::new(&device, rig::sum(TOKENS)?, &[("a", &middle)])?;
    for salt in 0..10 {
        let small = |salt| rig::whole(TOKENS * WIDTH, salt).iter().map(|x| x % 50.0).collect::<Vec<_>>();
        let (a, b, c) = (small(salt), small(salt + 20), small(salt + 40));
        first.write("a", &a)?;
        first.write("b", &b)?;
        second.write("b", &c)?;
        first.run(TOKENS)?;
        second.run(TOKENS)?;
        let y = second.read("y", TOKENS * WIDTH)?;
        same(&y, &added(&added(&a, &b), &c), "a result that another plan took on")?;
    }
    Ok(())
}

/// `scatter_rows` into a state by one plan, `gather_rows` from it by another, and written by the host in between.
fn states(cx: &Context<'_>) -> Result<(), Problem> {
    const ROWS: usize = 11;
    let device = cx.subject.handle()?;
    let state = rig::memory(&device, "state", ROWS * WIDTH)?;
    let store = rig::graph(TOKENS, |g| {
        let table = g.state("table", rig::fixed(&[ROWS, WIDTH]))?;
        let (rows, index) = (g.input("rows", rig::rows(WIDTH))?, g.input("index", rig::indices())?);
        let table = g.push(Op::ScatterRows, &[table, rows, index])?[0];
        g.output("y", table)
    })?;
    let load = rig::graph(TOKENS, |g| {
        let table = g.state("table", rig::fixed(&[ROWS, WIDTH]))?;
        let index = g.input("index", rig::indices())?;
        let y = g.push(Op::GatherRows, &[table, index])?[0];
        g.output("y", y)
    })?;
    let store = Rig::new(&device, store, &[("table", &state)])?;
    let load = Rig::new(&device, load, &[("table", &state)])?;
    let mut table = rig::whole(ROWS * WIDTH, 2);
    state.write(0, &rig::bytes(&table))?;
    for (salt, index) in [&[3, 9][..], &[10, 0, 4], &[5], &[1, -1, 2, 10]].into_iter().enumerate() {
        let rows = rig::whole(index.len() * WIDTH, 60 + salt);
        store.write("rows", &rows)?;
        store.write_ints("index", index)?;
        store.run(index.len())?;
        for (row, at) in rows.chunks(WIDTH).zip(index) {
            if let Ok(at) = usize::try_from(*at) {
                table[at * WIDTH..(at + 1) * WIDTH].copy_from_slice(row);
            }
        }
        load.write_ints("index", &[10, 3, 0, 9])?;
        load.run(4)?;
        let expected: Vec<f32> =
            [10, 3, 0, 9].iter().flat_map(|i| table[i * WIDTH..(i + 1) * WIDTH].to_vec()).collect();
        same(&load.read("y", 4 * WIDTH)?, &expected, "rows that another plan stored")?;
        same(&rig::read(&state, ROWS * WIDTH)?, &table, "a state that two plans share")?;
        table[7 * WIDTH] = salt as f32;
        state.write(4 * 7 * WIDTH, &rig::bytes(&[salt as f32]))?;
    }
    Ok(())
}

fn verdicts(cx: &Context<'_>) -> Result<(), Problem> {
    let graph = rig::graph(TOKENS, |g| {
        let (x, w) = (g.input("x", rig::rows(8))?, g.weight("w", rig::fixed(&[8, 8]))?);
        let norm = g.weight("norm", rig::fixed(&[8]))?;
        let y = g.push(Op::Linear, &[x, w])?[0];
        let both = g.push(Op::AddRmsNorm { eps: 1e-5 }, &[y, x, norm])?;
        let z = g.push(Op::Swiglu, &[both[0], both[1]])?[0];
        g.output("z", z)
    })?;
    let devices = [cx.subject.open()?, cx.subject.open()?];
    let first = devices[0].supports_all(&graph)?;
    check!(first.len() == graph.nodes().len(), "{} answers for {} nodes", first.len(), graph.nodes().len());
    for device in devices.iter().cycle().take(6) {
        let again = device.supports_all(&graph)?;
        check!(again == first, "a graph was answered {first:?} and then {again:?}");
        for (node, answer) in graph.node_ids().zip(&first) {
            let alone = device.supports(&graph, node);
            check!(alone == *answer, "{}: {alone:?} alone, {answer:?} with the whole graph", graph.signature(node));
        }
    }
    // The host comes to the same graph from the answers.
    let handle = cx.subject.handle()?;
    let placed = handle.place(&graph, OnUnsupported::Lower)?;
    let again = handle.place(&graph, OnUnsupported::Lower)?;
    check!(placed.graph == again.graph, "a graph was placed in two ways");
    Ok(())
}

fn errors(cx: &Context<'_>, rounds: usize) -> Result<(), Problem> {
    let device = cx.subject.handle()?;
    let values = rig::whole(7 * WIDTH, 3);
    let table = rig::weight(&device, "table", &[7, WIDTH], &values, 0)?;
    let graph = rig::graph(4, |g| {
        let index = g.input("index", rig::indices())?;
        let table = g.weight("table", rig::fixed(&[7, WIDTH]))?;
        let y = g.push(Op::GatherRows, &[table, index])?[0];
        g.output("y", y)
    })?;
    let rig = Rig::new(&device, graph, &[("table", &table)])?;
    let other = Rig::new(&device, rig::sum(TOKENS)?, &[])?;
    for round in 0..rounds {
        let bad = [7, i32::MAX, -2, i32::MIN, 100_000][round % 5];
        rig.write_ints("index", &[0, bad])?;
        let outcome = rig.run(2).and_then(|()| Ok(device.sync()?));
        check!(outcome.is_err(), "row {bad} of a table of 7 was found");
        step(&other, 1 + round % TOKENS, round)?;
        rig.write_ints("index", &[6, 2])?;
        rig.run(2)?;
        let expected: Vec<f32> = [&values[6 * WIDTH..], &values[2 * WIDTH..3 * WIDTH]].concat();
        same(&rig.read("y", 2 * WIDTH)?, &expected, "a run after an error")?;
    }
    Ok(())
}
