//! `camelid conformance selftest`: the suite tested with backends known to be wrong and known to be right.

use std::ffi::OsString;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use camelid_conformance::Case;
use camelid_conformance::claims::Pattern;
use camelid_conformance::report::State;
use camelid_conformance::run::Selection;
use camelid_conformance::run::pool::{PoolOptions, WorkerCommand};
use camelid_conformance::selftest::{self, Count, Fate};
use clap::Args;
use serde_json::json;

use super::{Failed, SuiteFlags};

/// Test the suite itself
///
/// Every mutant must fire and be killed at the level it is meant for, every honest variant must pass, and trivial backends must
/// fail. Exit code 1 if one does not.
#[derive(Args, Debug)]
pub struct Selftest {
    #[command(flatten)]
    suite: SuiteFlags,
    /// Only mutants and variants whose name fits this glob; may be given several times
    #[arg(short = 'k', long = "mutant", value_name = "GLOB", value_parser = Pattern::new)]
    mutant: Vec<Pattern>,
    /// Mutants at a time
    #[arg(short, long, value_name = "N", default_value = "1")]
    jobs: NonZero<usize>,
    /// The longest a case may take, in seconds: what a mutant that hangs costs
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

impl Selftest {
    pub fn run(self) -> Result<ExitCode, Failed> {
        let suite = self.suite.open()?;
        let cases = suite.cases()?;
        let chosen = |id: &str| self.mutant.is_empty() || self.mutant.iter().any(|p| p.matches(id));
        let mutants: Vec<_> = camelid_mutants::mutants().iter().filter(|m| chosen(m.id)).collect();
        let fates = self.side_by_side(&mutants, |mutant| {
            selftest::try_mutant(mutant, &cases, &self.command(mutant.id)?, self.options()).map_err(Failed::usage)
        })?;
        let selection = Selection::default();
        let all: Vec<&Case> = cases.iter().filter(|c| selection.includes(c)).collect();
        let variants: Vec<_> = camelid_mutants::honest().iter().chain(camelid_mutants::trivial()).collect();
        let variants: Vec<_> = variants.into_iter().filter(|v| chosen(v.id)).collect();
        let counts = self.side_by_side(&variants, |variant| {
            let trivial = camelid_mutants::trivial().iter().any(|v| v.id == variant.id);
            let options = PoolOptions { keep_failed: trivial, ..self.options() };
            let command = self.command(variant.id)?;
            Ok(selftest::try_variant(variant.id, &all, &command, options, &mut |_| {})?)
        })?;
        let (honest, trivial): (Vec<Count>, Vec<Count>) =
            counts.into_iter().partition(|c| camelid_mutants::honest().iter().any(|v| v.id == c.id));
        if fates.is_empty() && honest.is_empty() && trivial.is_empty() {
            return Err(Failed { code: 4, error: "no mutant or variant has such a name".into() });
        }
        let good = self.tell(&fates, &honest, &trivial)?;
        Ok(ExitCode::from(u8::from(!good)))
    }

    fn options(&self) -> PoolOptions {
        PoolOptions { jobs: 1, timeout: Duration::from_secs(self.timeout), keep_failed: false }
    }

    fn command(&self, id: &str) -> Result<WorkerCommand, Failed> {
        let mut arguments: Vec<OsString> = vec!["conformance".into(), "mutant".into(), id.into()];
        if let Some(folder) = &self.suite.suite {
            arguments.extend(["--suite".into(), folder.into()]);
        }
        Ok(WorkerCommand { program: std::env::current_exe()?, arguments, environment: Vec::new() })
    }

    /// Does something with each of `items`, `jobs` at a time; the results are in their order.
    fn side_by_side<I: Sync, R: Send>(
        &self,
        items: &[I],
        each: impl Fn(&I) -> Result<R, Failed> + Sync,
    ) -> Result<Vec<R>, Failed> {
        let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.get() {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(at) else { return };
                        let result = each(item);
                        results.lock().expect("no panic happens under this lock").push((at, result));
                    }
                });
            }
        });
        let mut results = results.into_inner().expect("no panic happens under this lock");
        results.sort_by_key(|(at, _)| *at);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn tell(&self, fates: &[Fate], honest: &[Count], trivial: &[Count]) -> Result<bool, Failed> {
        let killed = fates.iter().filter(|f| f.killed_by.is_some()).count();
        let fired = fates.iter().filter(|f| f.fired > 0).count();
        let failures = |c: &Count| c.states.iter().filter(|(s, _)| s.is_failure()).map(|(_, n)| n).sum::<usize>();
        let passes = |c: &Count| c.states.get(&State::Pass).copied().unwrap_or(0);
        let good = killed == fates.len()
            && fired == fates.len()
            && honest.iter().all(|c| failures(c) == 0 && passes(c) > 0)
            && trivial.iter().all(|c| failures(c) > 0 && c.unexpected_passes().is_empty());
        if self.json {
            let text = json!({"killed": killed, "fired": fired, "total": fates.len(), "mutants": fates, "honest": honest,
                              "trivial": trivial, "good": good});
            outln!("{}", serde_json::to_string_pretty(&text).map_err(Failed::usage)?);
            return Ok(good);
        }
        for fate in fates {
            let (id, level) = (fate.id, &fate.level);
            match &fate.killed_by {
                Some((case, state)) if fate.fired > 0 => outln!("killed   {level:<9} {id}: {state} {case}"),
                Some((case, _)) => outln!("UNFIRED  {level:<9} {id}: {case} fails, but the fault changed nothing"),
                None if fate.fired > 0 => outln!("SURVIVED {level:<9} {id}: {} cases; {}", fate.asked, fate.about),
                None => outln!("UNFIRED  {level:<9} {id}: {} cases; {}", fate.asked, fate.about),
            }
        }
        for (kind, counts) in [("honest", honest), ("trivial", trivial)] {
            for count in counts {
                let states: Vec<String> = count.states.iter().map(|(state, n)| format!("{n} {state}")).collect();
                outln!("{kind:<8} {}: {}", count.id, states.join(", "));
                if kind == "trivial" {
                    for wrong in count.unexpected_passes() {
                        outln!("  {wrong}");
                    }
                }
                if kind == "honest" {
                    for failed in &count.failed {
                        outln!("  WRONGLY BLAMED {failed}");
                    }
                }
            }
        }
        outln!("mutants: {killed} killed / {fired} fired / {} total", fates.len());
        Ok(good)
    }
}
