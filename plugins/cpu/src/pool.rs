//! The threads: one entry a step, and between the phases of a step a barrier that is two atomic counters.
//!
//! The caller is one of the team. The others wait for work for a fraction of a millisecond, as long as the host needs
//! between two tokens, and then sleep until they are called: a pool that has nothing to do uses no processor. Waiting threads
//! yield after a while, so that two pools on the same processors get on.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use camelid_core::backend::{BackendError, ErrorCode};

/// How long a worker waits for the next step before it sleeps.
const PATIENCE: Duration = Duration::from_micros(300);
/// How often a thread looks at a barrier before it lets others run: as long as most phases take, or hardly at all where
/// there are more threads than processors.
const LOOKS: (u32, u32) = (2_000, 16);

/// What a thread of the team does: its number in `0..threads`, and the barrier.
type Job<'a> = &'a (dyn Fn(usize, &Barrier) + Sync);

/// A team of threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The work of this epoch, its lifetime erased; valid until all have finished it.
    job: UnsafeCell<Option<Job<'static>>>,
    epoch: AtomicU32,
    finished: AtomicUsize,
    stop: AtomicBool,
    barrier: Barrier,
    sleepers: Mutex<usize>,
    wake: Condvar,
}

// SAFETY: `job` is written by the caller alone, before it moves `epoch`, and read by workers after they saw it move.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// All threads of the team wait for each other.
pub(crate) struct Barrier {
    threads: usize,
    looks: u32,
    arrived: AtomicUsize,
    round: AtomicU32,
    /// A thread panicked: nobody waits any more.
    broken: AtomicBool,
}

impl Barrier {
    /// Returns when all threads have come here; false if one never will.
    #[inline]
    pub(crate) fn wait(&self) -> bool {
        if self.threads == 1 {
            return true;
        }
        let round = self.round.load(Ordering::Relaxed);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return !self.broken.load(Ordering::Acquire);
        }
        let mut looks = 0;
        while self.round.load(Ordering::Acquire) == round {
            if self.broken.load(Ordering::Relaxed) {
                return false;
            }
            self.pause(&mut looks);
        }
        true
    }

    fn pause(&self, looks: &mut u32) {
        *looks += 1;
        if *looks < self.looks { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

impl Pool {
    /// A team of `threads`, the caller included, on processors of their own if `pin`.
    ///
    /// # Errors
    /// [`ErrorCode::OutOfMemory`] if there are not as many threads to be had; [`ErrorCode::Unsupported`] if they cannot be
    /// pinned.
    pub(crate) fn new(threads: usize, pin: bool) -> Result<Pool, BackendError> {
        let processors = if pin { pinning::processors()? } else { Vec::new() };
        let processors_here = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let barrier = Barrier {
            threads,
            looks: if threads <= processors_here { LOOKS.0 } else { LOOKS.1 },
            arrived: AtomicUsize::new(0),
            round: AtomicU32::new(0),
            broken: AtomicBool::new(false),
        };
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            epoch: AtomicU32::new(0),
            finished: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            barrier,
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
        });
        let mut pool = Pool { shared, workers: Vec::with_capacity(threads - 1) };
        for number in 1..threads {
            let shared = pool.shared.clone();
            let processor = (!processors.is_empty()).then(|| processors[number % processors.len()]);
            let worker = std::thread::Builder::new().name(format!("camelid-cpu-{number}")).spawn(move || {
                if let Some(processor) = processor {
                    pinning::pin(processor);
                }
                shared.work(number);
            });
            pool.workers.push(worker.map_err(|e| {
                let message =
                    format!("cannot start {threads} threads: {e}; set the option `threads` to a smaller number");
                BackendError::new(ErrorCode::OutOfMemory, message)
            })?);
        }
        Ok(pool)
    }

    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Every thread runs `job`; returns when all have.
    ///
    /// # Errors
    /// [`ErrorCode::DeviceLost`] if one panicked, now or before.
    pub(crate) fn run(&self, job: Job<'_>) -> Result<(), BackendError> {
        let shared = &*self.shared;
        let lost = || BackendError::new(ErrorCode::DeviceLost, "a kernel panicked; close the device");
        if shared.barrier.broken.load(Ordering::Acquire) {
            return Err(lost());
        }
        if self.workers.is_empty() {
            return shared.guarded(job, 0).map_err(|_| lost());
        }
        shared.finished.store(0, Ordering::Relaxed);
        // SAFETY: no worker looks before `epoch` moves, and this function returns after all have finished.
        unsafe { *shared.job.get() = Some(std::mem::transmute::<Job<'_>, Job<'static>>(job)) };
        {
            // Under the lock, so that a worker about to sleep sees the new epoch or is woken.
            let sleepers = shared.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            shared.epoch.fetch_add(1, Ordering::Release);
            if *sleepers > 0 {
                shared.wake.notify_all();
            }
        }
        let own = shared.guarded(job, 0);
        let mut looks = 0;
        while shared.finished.load(Ordering::Acquire) < self.workers.len() {
            shared.barrier.pause(&mut looks);
        }
        if own.is_err() || shared.barrier.broken.load(Ordering::Acquire) {
            return Err(lost());
        }
        Ok(())
    }

    /// Calls `f` for every item of `0..items`, `grain` at a time.
    ///
    /// # Errors
    /// As [`Pool::run`].
    pub(crate) fn each(&self, items: usize, grain: usize, f: &(dyn Fn(usize) + Sync)) -> Result<(), BackendError> {
        let next = AtomicUsize::new(0);
        self.run(&|_, _| {
            loop {
                let start = next.fetch_add(grain, Ordering::Relaxed);
                if start >= items {
                    break;
                }
                (start..(start + grain).min(items)).for_each(f);
            }
        })
    }
}

impl Shared {
    /// Runs the job so that a panic ends everybody's waiting and not the process.
    fn guarded(&self, job: Job<'_>, number: usize) -> Result<(), ()> {
        catch_unwind(AssertUnwindSafe(|| job(number, &self.barrier))).map_err(|payload: Box<dyn Any + Send>| {
            self.barrier.broken.store(true, Ordering::Release);
            // Its destructor may panic again.
            std::mem::forget(payload);
        })
    }

    fn work(&self, number: usize) {
        let mut seen = 0;
        loop {
            self.wait_for_work(seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            seen = seen.wrapping_add(1);
            // SAFETY: `epoch` has moved, so the job is there, and stays until this thread has finished.
            if let Some(job) = unsafe { *self.job.get() } {
                let _ = self.guarded(job, number);
            }
            self.finished.fetch_add(1, Ordering::Release);
        }
    }

    fn wait_for_work(&self, seen: u32) {
        let start = Instant::now();
        let news = || self.epoch.load(Ordering::Acquire) != seen || self.stop.load(Ordering::Acquire);
        let mut looks = 0u32;
        while !news() {
            looks += 1;
            std::hint::spin_loop();
            if looks.is_multiple_of(64) && start.elapsed() > PATIENCE {
                let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
                *sleepers += 1;
                while !news() {
                    sleepers = self.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
                }
                *sleepers -= 1;
                return;
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let _sleepers = self.shared.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.stop.store(true, Ordering::Release);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// Threads on processors of their own.
mod pinning {
    use camelid_core::backend::BackendError;

    #[cfg(target_os = "linux")]
    pub(super) fn processors() -> Result<Vec<usize>, BackendError> {
        let set = rustix::thread::sched_getaffinity(None).map_err(|e| {
            BackendError::unsupported(format!("option `pin`: the system does not tell its processors: {e}"))
        })?;
        let most = rustix::thread::CpuSet::MAX_CPU;
        let all: Vec<usize> = (0..most).filter(|cpu| set.is_set(*cpu)).collect();
        // The calling thread is not ours to move: the others stay away from the first processor.
        Ok(all)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn pin(processor: usize) {
        let mut set = rustix::thread::CpuSet::new();
        set.set(processor);
        // It was in the set a moment ago; if it has gone since, the thread runs where it may.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn processors() -> Result<Vec<usize>, BackendError> {
        Err(BackendError::unsupported("option `pin`: threads are pinned on Linux only; leave it out"))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn pin(_: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_and_phases_do_not_mix() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads, false).unwrap();
            let (first, second) = (AtomicUsize::new(0), AtomicUsize::new(0));
            for round in 1..50 {
                pool.run(&|_, barrier| {
                    first.fetch_add(1, Ordering::Relaxed);
                    assert!(barrier.wait());
                    assert_eq!(first.load(Ordering::Relaxed), round * threads);
                    second.fetch_add(1, Ordering::Relaxed);
                    barrier.wait();
                    assert_eq!(second.load(Ordering::Relaxed), round * threads);
                })
                .unwrap();
            }
        }
    }

    #[test]
    fn every_item_is_done_once() {
        let pool = Pool::new(3, false).unwrap();
        let done: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
        pool.each(1000, 7, &|i| {
            done[i].fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn a_panic_in_any_thread_is_an_error_and_nobody_waits_for_ever() {
        for number in 0..3 {
            let pool = Pool::new(3, false).unwrap();
            let result = pool.run(&|me, barrier| {
                assert!(me != number, "as it should");
                barrier.wait();
            });
            assert_eq!(result.unwrap_err().code, ErrorCode::DeviceLost);
            assert_eq!(pool.run(&|_, _| ()).unwrap_err().code, ErrorCode::DeviceLost);
        }
    }

    #[test]
    fn an_idle_pool_sleeps_and_wakes() {
        let pool = Pool::new(4, cfg!(target_os = "linux")).unwrap();
        for _ in 0..3 {
            pool.run(&|_, _| ()).unwrap();
            let start = Instant::now();
            while *pool.shared.sleepers.lock().unwrap() < 3 {
                assert!(start.elapsed() < Duration::from_secs(60), "a worker does not go to sleep");
                std::thread::yield_now();
            }
        }
        pool.run(&|_, _| ()).unwrap();
    }
}
