//! The support matrix: operations by element type, other levels by group.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Report, State};
use crate::case::Level;

/// What came of the cases of one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Cases passed or waived.
    pub passed: usize,
    /// Cases unsupported.
    pub unsupported: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Cases not answered.
    pub other: usize,
}

impl Cell {
    /// One sign for all its cases.
    pub fn sign(self) -> &'static str {
        match self {
            Cell { failed: 1.., .. } => "\u{274c}",
            Cell { other: 1.., .. } => "\u{2754}",
            Cell { unsupported: 0, .. } => "\u{2705}",
            Cell { passed: 0, .. } => "\u{2013}",
            _ => "\u{1f7e1}",
        }
    }

    /// Cases in all.
    pub fn total(self) -> usize {
        self.passed + self.unsupported + self.failed + self.other
    }
}

/// The support matrix of a report.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// Of level `op`: by operation and the types in its cases' ids.
    pub ops: BTreeMap<String, BTreeMap<String, Cell>>,
    /// Of the other levels: by level and group.
    pub groups: BTreeMap<(Level, String), Cell>,
}

impl Matrix {
    /// Counts.
    pub fn new(report: &Report) -> Matrix {
        let mut matrix = Matrix::default();
        for case in &report.cases {
            let mut parts = case.id.split('/').skip(1).map(str::to_owned);
            let (group, types) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let cell = if case.level == Level::Op {
                matrix.ops.entry(group).or_default().entry(types).or_default()
            } else {
                matrix.groups.entry((case.level, group)).or_default()
            };
            match case.state {
                State::Pass | State::Waived => cell.passed += 1,
                State::Unsupported => cell.unsupported += 1,
                State::Fail | State::Crash | State::Timeout => cell.failed += 1,
                State::Blocked | State::NotRun => cell.other += 1,
            }
        }
        matrix
    }

    /// The types there are, plain ones first.
    pub fn types(&self) -> Vec<&str> {
        let mut types: Vec<&str> = self.ops.values().flat_map(|row| row.keys()).map(String::as_str).collect();
        let rank = |t: &str| match t {
            "f32" => 0,
            "f16" => 1,
            "bf16" => 2,
            "i32" => 3,
            t if is_block(t) => 4,
            t if !t.contains("_q") => 5,
            _ => 6,
        };
        types.sort_by_key(|t| (rank(t), *t));
        types.dedup();
        types
    }

    /// A table of signs, and what they mean.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let types: Vec<&str> = self.types();
        // A pair of types is listed below its operation, or the table would be wider than a page.
        let (columns, pairs): (Vec<&str>, Vec<&str>) = types.into_iter().partition(|t| !t.contains('_') || is_block(t));
        if !self.ops.is_empty() {
            let _ = writeln!(
                text,
                "| operation | {} | pairs of types |\n|---|{}---|",
                columns.join(" | "),
                "---|".repeat(columns.len())
            );
            for (op, row) in &self.ops {
                let signs: Vec<&str> = columns.iter().map(|t| row.get(*t).map_or("", |c| c.sign())).collect();
                let pairs: Vec<String> =
                    pairs.iter().filter_map(|t| Some(format!("{t} {}", row.get(*t)?.sign()))).collect();
                let _ = writeln!(text, "| `{op}` | {} | {} |", signs.join(" | "), pairs.join(", "));
            }
            text.push('\n');
        }
        if !self.groups.is_empty() {
            text.push_str("| level | group | | passed |\n|---|---|---|---|\n");
            for ((level, group), cell) in &self.groups {
                let _ = writeln!(text, "| {level} | {group} | {} | {}/{} |", cell.sign(), cell.passed, cell.total());
            }
        }
        text.push_str("\n\u{2705} all pass, \u{1f7e1} partly unsupported, \u{2013} unsupported, \u{274c} failures, \u{2754} not answered\n");
        text
    }

    /// The same as data.
    pub fn csv(&self) -> String {
        let mut text = String::from("level,group,types,passed,unsupported,failed,other\n");
        let mut row = |level: &str, group: &str, types: &str, c: &Cell| {
            let _ = writeln!(text, "{level},{group},{types},{},{},{},{}", c.passed, c.unsupported, c.failed, c.other);
        };
        for (op, cells) in &self.ops {
            for (types, cell) in cells {
                row("op", op, types, cell);
            }
        }
        for ((level, group), cell) in &self.groups {
            row(level.name(), group, "", cell);
        }
        text
    }
}

/// Whether this is one block format and no pair of types.
fn is_block(types: &str) -> bool {
    camelid_core::DType::from_name(types).is_some()
}
