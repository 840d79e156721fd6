//! Memory of the process does not grow with what was run and given back.
//!
//! Each case has a process of its own: where others ran before, what leaks would fit into what they gave back. Reading the
//! suite leaves some 30 MiB of that too, so a leak has to be worth several times as much.

use camelid_core::backend::{BufferDesc, BufferUsage};

use crate::case::{Case, Context, Evidence, Measure, Problem, Profile};
use crate::levels::rig::{self, Rig};

/// The most that may stay behind: allocators keep some of what was given back.
const LIMIT_MIB: f64 = 8.0;

type Work = fn(&Context<'_>, usize) -> Result<(), Problem>;

/// Name, what would leak, how often it is done, one part of the work (of ten).
const KINDS: &[(&str, &str, Work)] = &[
    ("runs", "twenty thousand runs of a plan", |cx, _| {
        let rig = Rig::new(&cx.subject.handle()?, rig::sum(3)?, &[])?;
        (0..2_000).try_for_each(|n| rig.run(1 + n % 3))
    }),
    ("runs_and_reads", "ten thousand writes, runs and reads", |cx, _| {
        let rig = Rig::new(&cx.subject.handle()?, rig::sum(3)?, &[])?;
        let numbers = rig::whole(3 * rig::WIDTH, 1);
        for _ in 0..1_000 {
            rig.write("a", &numbers)?;
            rig.write("b", &numbers)?;
            rig.run(3)?;
            rig.read("y", 3 * rig::WIDTH)?;
        }
        Ok(())
    }),
    ("buffers", "a thousand buffers of 64 KiB, written", |cx, _| {
        let device = cx.subject.handle()?;
        let contents = vec![1; 64 << 10];
        for _ in 0..100 {
            let desc = BufferDesc { name: "buffer".into(), size: contents.len(), usage: BufferUsage::State };
            device.alloc(desc)?.write(0, &contents)?;
        }
        Ok(())
    }),
    ("weights", "a thousand weights of 64 KiB", |cx, _| {
        let device = cx.subject.handle()?;
        let values = vec![1.0; 16 << 10];
        (0..100).try_for_each(|n| rig::weight(&device, "weight", &[128, 128], &values, n % 4).map(drop))
    }),
    ("plans", "twelve thousand plans", |cx, _| {
        let device = cx.subject.handle()?;
        (0..1_200).try_for_each(|n| Rig::new(&device, rig::sum(1 + n % 40)?, &[]).map(drop))
    }),
    ("devices", "twelve hundred devices", |cx, _| {
        (0..120).try_for_each(|_| Rig::new(&cx.subject.handle()?, rig::sum(2)?, &[])?.run(2))
    }),
    ("errors", "ten thousand runs that end in an error", |cx, _| {
        let device = cx.subject.handle()?;
        let values = rig::whole(7 * 5, 1);
        let table = rig::weight(&device, "table", &[7, 5], &values, 0)?;
        let graph = rig::graph(2, |g| {
            let (index, table) = (g.input("index", rig::indices())?, g.weight("table", rig::fixed(&[7, 5]))?);
            let y = g.push(camelid_core::ops::Op::GatherRows, &[table, index])?[0];
            g.output("y", y)
        })?;
        let rig = Rig::new(&device, graph, &[("table", &table)])?;
        rig.write_ints("index", &[0, 9])?;
        for _ in 0..1_000 {
            if rig.run(2).and_then(|()| Ok(device.sync()?)).is_ok() {
                return Err(Problem::fail("row 9 of a table of 7 was found"));
            }
        }
        Ok(())
    }),
];

/// Its cases.
pub(super) fn cases() -> Vec<Case> {
    let make = |(name, about, work): &(&'static str, &'static str, Work)| {
        let work = *work;
        Case::new(format!("stress/memory/{name}"), Profile::Core, *about, move |cx: &Context<'_>| grows(cx, work))
            .alone()
    };
    KINDS.iter().map(make).collect()
}

fn grows(cx: &Context<'_>, work: Work) -> Result<Evidence, Problem> {
    // The first part brings the allocator to its size.
    work(cx, 0)?;
    let Some(before) = resident_mib() else {
        (1..10).try_for_each(|part| work(cx, part))?;
        let notes =
            vec!["the memory of the process could not be read here; that it does not grow was not measured".into()];
        return Ok(Evidence { notes, ..Evidence::default() });
    };
    (1..10).try_for_each(|part| work(cx, part))?;
    let after = resident_mib().unwrap_or(before);
    let value = (after - before).max(0.0);
    let measure = Measure { metric: "growth".into(), what: "MiB".into(), value, limit: LIMIT_MIB };
    if !measure.passes() {
        let message = format!("the process has grown by {value:.1} MiB; {LIMIT_MIB} MiB may stay behind");
        let failure = crate::case::Failure { message, measures: vec![measure], worst: Vec::new() };
        return Err(Problem::Fail(Box::new(failure)));
    }
    Ok(Evidence { measures: vec![measure], notes: Vec::new() })
}

/// What the process has in memory, where the system says it in a file.
fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
