//! `cargo xtask matrix`: the table in README.md of what the backends of the repository pass, from the reports that
//! `cargo xtask conformance` left.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

const README: &str = "README.md";
/// The columns: a backend's name, and the folder of its report in `target/conformance`.
const COLUMNS: [(&str, &str); 4] =
    [("reference", "reference-loopback"), ("cpu", "cpu"), ("example-rust", "example-rust"), ("example-c", "example-c")];
const PROFILES: [&str; 4] = ["core", "half", "quant", "extra"];
/// Where the table begins.
const HEAD: &str = "| Operation, level |";

/// Cases passed and asked, by profile.
type Cell = BTreeMap<usize, (usize, usize)>;

/// Writes the table.
pub fn run(root: &Path) -> Result<(), String> {
    let mut reports = Vec::new();
    for (_, folder) in COLUMNS {
        reports.push(cells(&root.join("target/conformance").join(folder).join("report.json"))?);
    }
    let path = root.join(README);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{README}: cannot be read: {e}"))?;
    let start = text.find(HEAD).ok_or_else(|| format!("{README}: there is no table that begins with `{HEAD}`"))?;
    let end = text[start..].find("\n\n").map_or(text.len(), |at| start + at + 1);
    let text = format!("{}{}{}", &text[..start], table(&reports), &text[end..]);
    std::fs::write(&path, text).map_err(|e| format!("{README}: cannot be written: {e}"))
}

/// The rows of a report in the suite's order: operations, then the other levels.
fn cells(path: &Path) -> Result<Vec<(String, Cell)>, String> {
    let wrong = |what: String| format!("{}: {what}; run `cargo xtask conformance`", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot be read ({e})")))?;
    let report: Value = serde_json::from_str(&text).map_err(|e| wrong(format!("is no report ({e})")))?;
    let (mut ops, mut levels): (BTreeMap<String, Cell>, Vec<(String, Cell)>) = Default::default();
    for case in report["cases"].as_array().ok_or_else(|| wrong("has no cases".into()))? {
        let text = |key: &str| case[key].as_str().ok_or_else(|| wrong(format!("has a case without `{key}`")));
        let (id, level, state) = (text("id")?, text("level")?, text("state")?);
        let profile = text("profile")?;
        let Some(profile) = PROFILES.iter().position(|p| *p == profile) else { continue };
        let cell = if level == "op" {
            ops.entry(id.split('/').nth(1).unwrap_or_default().to_owned()).or_default()
        } else {
            let at = levels.iter().position(|(name, _)| name == level).unwrap_or_else(|| {
                levels.push((level.to_owned(), Cell::new()));
                levels.len() - 1
            });
            &mut levels[at].1
        };
        let (passed, asked) = cell.entry(profile).or_default();
        *passed += usize::from(state == "pass");
        *asked += 1;
    }
    Ok(ops.into_iter().chain(levels).collect())
}

fn table(reports: &[Vec<(String, Cell)>]) -> String {
    let mut table = String::from(HEAD);
    COLUMNS.iter().for_each(|(name, _)| table += &format!(" {name} |"));
    table += "\n|---|";
    COLUMNS.iter().for_each(|_| table += "---|");
    table.push('\n');
    for (name, _) in &reports[0] {
        let _ = write!(table, "| `{name}` |");
        for report in reports {
            let cell = report.iter().find(|(n, _)| n == name).map(|(_, cell)| cell);
            let counts = cell.into_iter().flatten().map(|(profile, (passed, asked))| match PROFILES[*profile] {
                "core" => format!("{passed}/{asked}"),
                profile => format!("{profile} {passed}/{asked}"),
            });
            let _ = write!(table, " {} |", counts.collect::<Vec<_>>().join("; "));
        }
        table.push('\n');
    }
    table += "| **all** |";
    for report in reports {
        let counts = report.iter().flat_map(|(_, cell)| cell.values());
        let (passed, asked) = counts.fold((0, 0), |(p, a), (passed, asked)| (p + passed, a + asked));
        let _ = write!(table, " {passed}/{asked} |");
    }
    table + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_rows_and_the_table_takes_its_place() {
        let root = tempfile::tempdir().unwrap();
        let case = |id: &str, state: &str, profile: &str| {
            let level = id.split('/').next();
            serde_json::json!({"id": id, "level": level, "state": state, "profile": profile})
        };
        let cases = [
            case("abi/device/name", "pass", "core"),
            case("op/add/f32/x", "pass", "core"),
            case("op/add/f16/x", "unsupported", "half"),
            case("real/model/x", "pass", "real"),
        ];
        for (_, folder) in COLUMNS {
            let folder = root.path().join("target/conformance").join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("report.json"), serde_json::json!({"cases": cases}).to_string()).unwrap();
        }
        std::fs::write(root.path().join(README), format!("before\n\n{HEAD} old |\n|---|\n| x |\n\nafter\n")).unwrap();
        run(root.path()).unwrap();
        let text = std::fs::read_to_string(root.path().join(README)).unwrap();
        let row = |name: &str, cell: &str| format!("| {name} | {cell} | {cell} | {cell} | {cell} |\n");
        let rows = [row("`add`", "1/1; half 0/1"), row("`abi`", "1/1"), row("**all**", "2/3")].concat();
        let head = format!("{HEAD} reference | cpu | example-rust | example-c |\n|---|---|---|---|---|\n");
        assert_eq!(text, format!("before\n\n{head}{rows}\nafter\n"));
        std::fs::remove_file(root.path().join("target/conformance/example-c/report.json")).unwrap();
        assert!(run(root.path()).unwrap_err().contains("run `cargo xtask conformance`"));
    }
}
