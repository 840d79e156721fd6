//! The cases, one module a level.
//!
//! A level is a function from the suite's files to cases. Ids are stable and unique; what a case compares with comes
//! from the suite's files or is told by the case itself (a copy must equal its source), never from a backend.

pub mod abi;
pub mod cache;
pub mod forward;
pub mod generate;
pub mod model;
pub mod module;
pub mod op;
pub mod real;
mod rig;
pub mod stress;
pub mod tokenizer;

use std::collections::{BTreeMap, HashSet};

use crate::case::{Case, Level};
use crate::graph_case;
use crate::suite::{INDEX, Suite, SuiteError};

/// Every case of every level, in the order in which they run.
///
/// # Errors
/// [`SuiteError`] for files of the suite that cannot be used, and for an id given twice.
pub fn all(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = Vec::new();
    for level in Level::ALL {
        cases.extend(of(level, suite)?);
    }
    let mut seen = HashSet::new();
    if let Some(twice) = cases.iter().find(|c| !seen.insert(c.id.as_str())) {
        let problem = format!("case `{}` is there twice", twice.id);
        return Err(SuiteError::Damaged { path: suite.path(INDEX), problem });
    }
    Ok(cases)
}

/// The cases of one level, in the order in which they run.
fn of(level: Level, suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    match level {
        Level::Abi => Ok(abi::cases()),
        Level::Op => op::cases(suite),
        Level::Module => module::cases(suite),
        Level::Model => {
            let mut cases = model::cases(suite)?;
            cases.extend(forward::cases(suite)?);
            Ok(cases)
        }
        Level::Tokenizer => tokenizer::cases(suite),
        Level::Generate => generate::cases(suite),
        Level::Cache => cache::cases(suite),
        Level::Stress => stress::cases(suite),
        Level::Real => real::cases(suite),
    }
}

/// Cases by their ids. Only what is asked for is read, and once: the whole suite takes longer to read than most cases take.
#[derive(Debug)]
pub struct Finder<'a> {
    suite: &'a Suite,
    /// What was read: a level, or a file of one.
    read: BTreeMap<String, Vec<Case>>,
}

impl Finder<'_> {
    /// Has read nothing.
    pub fn new(suite: &Suite) -> Finder<'_> {
        Finder { suite, read: BTreeMap::new() }
    }

    /// The case `id`, if there is one.
    ///
    /// # Errors
    /// [`SuiteError`] for files of the suite that cannot be used.
    pub fn find(&mut self, id: &str) -> Result<Option<&Case>, SuiteError> {
        Ok(self.locate(id)?.map(|(read, at)| &self.read[&read][at]))
    }

    /// [`Finder::find`] for one that needs no other.
    ///
    /// # Errors
    /// As [`Finder::find`].
    pub fn take(mut self, id: &str) -> Result<Option<Case>, SuiteError> {
        let found = self.locate(id)?;
        Ok(found.and_then(|(read, at)| Some(self.read.get_mut(&read)?.swap_remove(at))))
    }

    /// Where in `read` the case is, after reading what it lies in.
    fn locate(&mut self, id: &str) -> Result<Option<(String, usize)>, SuiteError> {
        let mut parts = id.split('/');
        let Some(level) = parts.next().and_then(Level::from_name) else { return Ok(None) };
        if let (Level::Op | Level::Module, Some(group)) = (level, parts.next()) {
            // That cases lie in the file of their operation is a habit, and no rule.
            let file = format!("{level}/{group}.toml");
            if self.suite.has(&file)
                && let Some(at) = self.position(id, &file, |suite| graph_case::cases_of(suite, &file))?
            {
                return Ok(Some((file, at)));
            }
        }
        let name = level.name();
        Ok(self.position(id, name, |suite| of(level, suite))?.map(|at| (name.to_owned(), at)))
    }

    fn position(
        &mut self,
        id: &str,
        name: &str,
        read: impl FnOnce(&Suite) -> Result<Vec<Case>, SuiteError>,
    ) -> Result<Option<usize>, SuiteError> {
        if !self.read.contains_key(name) {
            self.read.insert(name.to_owned(), read(self.suite)?);
        }
        Ok(self.read[name].iter().position(|case| case.id == id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_found_by_its_id_and_only_what_it_needs_is_read() {
        let suite = Suite::embedded().unwrap();
        let mut finder = Finder::new(&suite);
        for case in all(&suite).unwrap() {
            let found = finder.find(&case.id).unwrap().unwrap_or_else(|| panic!("{} is not found", case.id));
            assert_eq!((&found.id, found.profile, found.alone), (&case.id, case.profile, case.alone));
        }
        // Every case of an operation lies in the operation's file.
        assert!(finder.read.keys().all(|read| read != "op" && read != "module"), "{:?}", finder.read.keys());
        let mut finder = Finder::new(&suite);
        assert!(finder.find("op/rope/f32/t7").unwrap().is_some());
        assert_eq!(finder.read.keys().collect::<Vec<_>>(), ["op/rope.toml"]);
        for id in ["op/rope/f32/gone", "op/none/f32/t7", "op", "gone/x", ""] {
            assert!(finder.find(id).unwrap().is_none(), "{id}");
        }
    }
}
