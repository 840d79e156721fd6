//! Names, devices, options, opening and closing, threads.

use std::thread;

use camelid_core::backend::{BackendError, Options};
use camelid_host::DeviceHandle;

use super::case;
use crate::case::{Case, Context, Problem};
use crate::check;
use crate::levels::rig::{self, Rig, WIDTH};

/// Its cases.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("abi/device/name", "the name and the version can be shown and stay what they are", name),
        case("abi/device/list", "the devices are the same each time, with names", list),
        case("abi/device/no_such_device", "a device that is not there is refused with a message", |cx| {
            let count = backend(cx)?.devices()?.list.len();
            for index in [count, count + 1, 9_999] {
                refused(backend(cx)?.open(index, cx.subject.options()), &format!("device {index} of {count}"), "")?;
            }
            works(&cx.subject.handle()?)
        }),
        case("abi/device/unknown_option", "an option that is not known is refused by its name", |cx| {
            for (key, value) in [("no_such_option_xyzzy", "1"), ("threds_xyzzy", ""), ("näh_xyzzy", "☃")] {
                let mut options: Options = cx.subject.options().clone();
                options.set(key, value);
                refused(backend(cx)?.open(cx.subject.device_index(), &options), &format!("option `{key}`"), key)?;
            }
            works(&cx.subject.handle()?)
        }),
        case("abi/device/open_and_close", "fifty times", |cx| (0..50).try_for_each(|_| works(&cx.subject.handle()?))),
        case("abi/device/eight_at_once", "devices open together; closed in another order", |cx| {
            let mut open = (0..8).map(|_| cx.subject.handle()).collect::<Result<Vec<_>, _>>()?;
            open.iter().try_for_each(works)?;
            for at in [3, 0, 5, 1] {
                drop(open.remove(at));
                open.iter().try_for_each(works)?;
            }
            Ok(())
        }),
        case("abi/device/memory_of_its_own", "two devices share no memory and no plan", own_memory),
        case("abi/device/states_of_its_own", "two devices run in turns between each other's writes", turns),
        case("abi/thread/opened_elsewhere", "a device is opened by one thread and used by another", |cx| {
            let device = thread::scope(|s| s.spawn(|| cx.subject.handle()).join()).map_err(|_| panicked())??;
            works(&device)?;
            thread::scope(|s| s.spawn(move || works(&device)).join()).map_err(|_| panicked())?
        }),
        case("abi/thread/each_call_from_another", "every call comes from a thread of its own", |cx| {
            let device = cx.subject.handle()?;
            let rig = elsewhere(|| Rig::new(&device, rig::sum(3)?, &[]))?;
            for salt in 0..20 {
                let (a, b) = (rig::whole(2 * WIDTH, salt), rig::whole(2 * WIDTH, salt + 40));
                elsewhere(|| rig.write("a", &a))?;
                elsewhere(|| rig.write("b", &b))?;
                elsewhere(|| rig.run(2))?;
                same(&elsewhere(|| rig.read("y", 2 * WIDTH))?, &added(&a, &b), "called from many threads")?;
            }
            elsewhere(move || {
                drop(rig);
                Ok(())
            })
        }),
        case("abi/thread/two_devices", "two threads, each with a device of its own", |cx| threads(cx, 2, 200)),
        case("abi/thread/eight_devices", "eight threads, each with a device of its own", |cx| threads(cx, 8, 50)),
        case("abi/thread/one_device", "four threads take turns on one device", |cx| {
            let device = cx.subject.handle()?;
            together(4, |n| (0..50).try_for_each(|i| sums(&device, 1 + (n + i) % 7, n * 100 + i)))
        }),
        case("abi/thread/open_at_once", "devices opened and closed by eight threads", |cx| {
            together(8, |_| (0..6).try_for_each(|_| works(&cx.subject.handle()?)))
        }),
    ]
}

fn backend<'a>(cx: &Context<'a>) -> Result<&'a dyn camelid_core::Backend, Problem> {
    cx.subject.backend().map_err(|e| Problem::Blocked(e.to_string()))
}

fn panicked() -> Problem {
    Problem::fail("a call panicked")
}

/// An error with a message that holds `word`.
fn refused<T>(answer: Result<T, BackendError>, what: &str, word: &str) -> Result<(), Problem> {
    let Err(error) = answer else {
        return Err(Problem::fail(format!("{what} was opened; it must be refused")));
    };
    check!(!error.message.trim().is_empty(), "{what} is refused without a message");
    check!(error.message.contains(word), "{what} is refused, but the message does not name it: {error}");
    Ok(())
}

fn name(cx: &Context<'_>) -> Result<(), Problem> {
    let backend = backend(cx)?;
    let (name, version) = (backend.name().to_owned(), backend.version().to_owned());
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let good = !name.is_empty() && name.chars().all(fits);
    check!(good, "the name `{name}` has other characters than lower-case letters, digits, `-` and `_`");
    check!(!version.trim().is_empty() && !version.contains('\n'), "the version `{version}` cannot be shown in a line");
    drop(cx.subject.open()?);
    let again = (backend.name(), backend.version());
    check!(again == (name.as_str(), version.as_str()), "`{name}` {version} calls itself {again:?} later");
    Ok(())
}

fn list(cx: &Context<'_>) -> Result<(), Problem> {
    let first = backend(cx)?.devices()?;
    for (index, device) in first.list.iter().enumerate() {
        check!(!device.name.trim().is_empty(), "device {index} has no name");
        check!(
            device.memory != Some(0),
            "device {index} has 0 bytes of memory; where that is not known it says nothing"
        );
    }
    let device = cx.subject.handle()?;
    works(&device)?;
    let names =
        |d: &camelid_core::backend::Devices| d.list.iter().map(|d| (d.name.clone(), d.kind)).collect::<Vec<_>>();
    let second = backend(cx)?.devices()?;
    check!(
        names(&first) == names(&second),
        "{:?} were listed, and {:?} with one of them open",
        first.list,
        second.list
    );
    Ok(())
}

/// What `a + b` is.
pub(super) fn added(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Bit for bit.
pub(super) fn same(found: &[f32], expected: &[f32], what: &str) -> Result<(), Problem> {
    check!(found.len() == expected.len(), "{what}: {} numbers, expected {}", found.len(), expected.len());
    if let Some(at) = found.iter().zip(expected).position(|(f, e)| f.to_bits() != e.to_bits()) {
        return Err(Problem::fail(format!("{what}: element {at} is {}, expected {}", found[at], expected[at])));
    }
    Ok(())
}

/// The device computes.
pub(super) fn works(device: &DeviceHandle) -> Result<(), Problem> {
    sums(device, 3, 1)
}

fn sums(device: &DeviceHandle, tokens: usize, salt: usize) -> Result<(), Problem> {
    let rig = Rig::new(device, rig::sum(tokens)?, &[])?;
    let (a, b) = (rig::whole(tokens * WIDTH, salt), rig::whole(tokens * WIDTH, salt + 9));
    rig.write("a", &a)?;
    rig.write("b", &b)?;
    rig.run(tokens)?;
    same(&rig.read("y", tokens * WIDTH)?, &added(&a, &b), "a sum")
}

fn own_memory(cx: &Context<'_>) -> Result<(), Problem> {
    let (one, two) = (cx.subject.handle()?, cx.subject.handle()?);
    let mut buffers = Vec::new();
    for n in 0..20 {
        for (which, device) in [&one, &two].into_iter().enumerate() {
            let contents = rig::whole(33, 2 * n + which);
            let buffer = rig::memory(device, "memory", 33)?;
            buffer.write(0, &rig::bytes(&contents))?;
            buffers.push((buffer, contents));
        }
    }
    for (buffer, contents) in &buffers {
        same(&rig::read(buffer, 33)?, contents, "memory of two devices, written in turns")?;
    }
    // The one goes, with all its memory; the other has what it had.
    let mut at = 0;
    buffers.retain(|_| {
        at += 1;
        at % 2 == 0
    });
    drop(one);
    for (buffer, contents) in &buffers {
        same(&rig::read(buffer, 33)?, contents, "memory of a device after another was closed")?;
    }
    works(&two)
}

fn turns(cx: &Context<'_>) -> Result<(), Problem> {
    let devices = [cx.subject.handle()?, cx.subject.handle()?];
    let rigs = [Rig::new(&devices[0], rig::sum(4)?, &[])?, Rig::new(&devices[1], rig::sum(4)?, &[])?];
    let numbers = |salt| (rig::whole(4 * WIDTH, salt), rig::whole(4 * WIDTH, salt + 50));
    for round in 0..10 {
        let pairs = [numbers(round), numbers(round + 20)];
        for (rig, (a, _)) in rigs.iter().zip(&pairs) {
            rig.write("a", a)?;
        }
        for (rig, (_, b)) in rigs.iter().zip(&pairs) {
            rig.write("b", b)?;
        }
        rigs.iter().try_for_each(|rig| rig.run(4))?;
        for (rig, (a, b)) in rigs.iter().zip(&pairs).rev() {
            same(&rig.read("y", 4 * WIDTH)?, &added(a, b), "two devices in turns")?;
        }
    }
    Ok(())
}

/// Calls `work` from a thread that ends with it.
fn elsewhere<T: Send>(work: impl FnOnce() -> Result<T, Problem> + Send) -> Result<T, Problem> {
    thread::scope(|s| s.spawn(work).join()).map_err(|_| panicked())?
}

/// `count` threads at once; the first problem of any.
pub(in crate::levels) fn together(
    count: usize,
    work: impl Fn(usize) -> Result<(), Problem> + Sync,
) -> Result<(), Problem> {
    thread::scope(|s| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|n| s.spawn(move || work(n))).collect();
        threads.into_iter().map(|t| t.join().map_err(|_| panicked())?).collect::<Vec<_>>().into_iter().collect()
    })
}

/// `count` threads, each with a device, a plan and numbers of its own.
fn threads(cx: &Context<'_>, count: usize, rounds: usize) -> Result<(), Problem> {
    together(count, |n| {
        let device = cx.subject.handle()?;
        let tokens = 3 + 2 * n;
        let rig = Rig::new(&device, rig::sum(tokens)?, &[])?;
        for round in 0..rounds {
            let now = 1 + (round + n) % tokens;
            let (a, b) = (rig::whole(now * WIDTH, round * 8 + n), rig::whole(now * WIDTH, round * 8 + n + 60));
            rig.write("a", &a)?;
            rig.write("b", &b)?;
            rig.run(now)?;
            same(&rig.read("y", now * WIDTH)?, &added(&a, &b), &format!("thread {n} of {count}, round {round}"))?;
        }
        Ok(())
    })
}
