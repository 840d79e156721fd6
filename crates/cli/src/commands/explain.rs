//! `camelid explain`: the graph of a model, as a backend computes it.

use std::collections::BTreeMap;

use camelid_engine::placed_graph;
use clap::Args;

use crate::Error;
use crate::options::RunFlags;
use crate::setup::Setup;

/// Show the graph of a model as a backend computes it
#[derive(Args, Debug)]
pub struct Explain {
    #[command(flatten)]
    run: RunFlags,
}

impl Explain {
    pub fn run(self) -> Result<(), Error> {
        let setup = Setup::new(&self.run, self.run.overrides())?;
        let model = setup.model()?;
        let (graph, lowered) = placed_graph(&model, &setup.session_options(&model, None))?;
        outln!("# {} on {}", model.path().display(), setup.backend);
        let mut by_op: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for l in &lowered {
            *by_op.entry((l.op, &l.reason)).or_default() += 1;
        }
        if by_op.is_empty() {
            outln!("# every operation runs as it stands");
        }
        for ((op, reason), count) in by_op {
            outln!("# lowered: {count} x {op}: {reason}");
        }
        out!("{graph}");
        Ok(())
    }
}
