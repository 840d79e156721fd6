//! [`Claims`]: what a backend's authors say about it, in `conformance.toml`.
//!
//! ```toml
//! backend = "npu"                       # the backend's name; another one is an error
//! profiles = ["core", "quant"]          # nothing in these may be unsupported; core always counts
//! unsupported = ["op/linear/*/q3_k*"]   # what else is: if the list is there it must be exactly what the backend refuses
//!
//! [classes]                             # how it computes, where that is not plain f32
//! "op/linear/quant/*" = "q8act"
//! "model/*" = "q8act"
//!
//! [[waiver]]                            # known to be wrong: must still fail, and ends
//! case = "op/rope/f32/partial*"
//! reason = "the kernel rotates whole heads"
//! issue = "#17"
//! expires = "2027-03-01"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use jiff::civil::Date;
use serde::Deserialize;
use thiserror::Error;

use crate::case::Profile;
use crate::report::{ClaimsInfo, WaiverInfo};
use crate::tolerance::MathClass;

/// The longest a waiver may still hold, in days.
pub const WAIVER_DAYS: i64 = 180;

/// What a backend's authors say about it.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// The backend spoken of, if the file says so.
    pub backend: Option<String>,
    /// Profiles claimed beyond `core`.
    pub profiles: Vec<Profile>,
    /// What is not supported; `None` if the file does not say.
    pub unsupported: Option<Vec<Pattern>>,
    /// How it computes; the first pattern that matches counts.
    pub classes: Vec<(Pattern, MathClass)>,
    /// What is known to be wrong.
    pub waivers: Vec<Waiver>,
}

/// A known wrong answer.
#[derive(Clone, Debug)]
pub struct Waiver {
    /// Which cases.
    pub case: Pattern,
    /// Why.
    pub reason: String,
    /// Where it is tracked.
    pub issue: String,
    /// The last day on which it holds.
    pub expires: Date,
}

/// A glob over case ids, in which `*` also stands for `/`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

/// Why a claims file cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}; leave --claims out if there is no such file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {problem}; specs/conformance.md describes the file", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
}

impl Pattern {
    /// The pattern `text`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let glob = GlobBuilder::new(text).literal_separator(false).build().map_err(|e| e.to_string())?;
        Ok(Pattern { text: text.to_owned(), matcher: glob.compile_matcher() })
    }

    /// Whether `id` fits.
    pub fn matches(&self, id: &str) -> bool {
        self.matcher.is_match(id)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    backend: Option<String>,
    #[serde(default)]
    profiles: Vec<Profile>,
    unsupported: Option<Vec<String>>,
    #[serde(default)]
    classes: toml::Table,
    #[serde(default)]
    waiver: Vec<FileWaiver>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWaiver {
    case: String,
    reason: String,
    issue: String,
    expires: String,
}

impl Claims {
    /// Reads a `conformance.toml`.
    ///
    /// # Errors
    /// [`ClaimsError`], naming the key.
    pub fn read(path: &Path) -> Result<Claims, ClaimsError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ClaimsError::Read { path: path.to_owned(), source })?;
        Claims::parse(&text).map_err(|problem| ClaimsError::Wrong { path: path.to_owned(), problem })
    }

    fn parse(text: &str) -> Result<Claims, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let pattern = |key: &str, text: &str| Pattern::new(text).map_err(|e| format!("{key}: {e}"));
        let unsupported = file
            .unsupported
            .map(|list| list.iter().map(|text| pattern("unsupported", text)).collect::<Result<Vec<_>, _>>());
        let mut classes = Vec::new();
        for (glob, class) in &file.classes {
            let known = || MathClass::ALL.map(MathClass::name).join(", ");
            let class = class.as_str().and_then(MathClass::from_name);
            let class = class.ok_or_else(|| format!("classes.\"{glob}\": the classes are {}", known()))?;
            classes.push((pattern("classes", glob)?, class));
        }
        let mut waivers = Vec::new();
        for FileWaiver { case, reason, issue, expires } in file.waiver {
            for (key, value) in [("reason", &reason), ("issue", &issue)] {
                if value.trim().is_empty() {
                    return Err(format!(
                        "waiver of `{case}`: {key} is empty; a waiver says why and where it is tracked"
                    ));
                }
            }
            let expires =
                expires.parse().map_err(|e| format!("waiver of `{case}`: expires: {e}; write it as YYYY-MM-DD"))?;
            waivers.push(Waiver { case: pattern("waiver.case", &case)?, reason, issue, expires });
        }
        Ok(Claims {
            backend: file.backend,
            profiles: file.profiles,
            unsupported: unsupported.transpose()?,
            classes,
            waivers,
        })
    }

    /// The class that holds for a case: the looser of what the case asks for and what the backend declares.
    pub fn class(&self, id: &str, natural: MathClass) -> MathClass {
        let declared = self.classes.iter().find(|(pattern, _)| pattern.matches(id)).map(|(_, class)| *class);
        match declared {
            // A move of bits stays one however products are computed.
            Some(class) if natural != MathClass::Exact => class.max(natural),
            _ => natural,
        }
    }

    /// Whether nothing in this profile may be unsupported.
    pub fn requires(&self, profile: Profile) -> bool {
        profile == Profile::Core || self.profiles.contains(&profile)
    }

    /// The waiver of a case, if it has one.
    pub fn waiver(&self, id: &str) -> Option<&Waiver> {
        self.waivers.iter().find(|w| w.case.matches(id))
    }

    /// Waivers that are over, or would hold for too long.
    pub fn overdue(&self, today: Date) -> Vec<String> {
        let mut problems = Vec::new();
        for waiver in &self.waivers {
            let (case, date) = (waiver.case.text(), waiver.expires);
            match today.until(date).map(|span| i64::from(span.get_days())) {
                Ok(days) if days < 0 => problems.push(format!("the waiver of `{case}` expired on {date}")),
                Ok(days) if days > WAIVER_DAYS => problems.push(format!(
                    "the waiver of `{case}` holds until {date}; the longest is {WAIVER_DAYS} days ahead"
                )),
                Ok(_) => {}
                Err(error) => problems.push(format!("the waiver of `{case}`: {error}")),
            }
        }
        problems
    }

    /// As the report shows them.
    pub fn info(&self) -> ClaimsInfo {
        let mut profiles = vec![Profile::Core];
        profiles.extend(self.profiles.iter().filter(|p| **p != Profile::Core));
        ClaimsInfo {
            profiles,
            classes: self.classes.iter().map(|(p, c)| (p.text().to_owned(), *c)).collect::<BTreeMap<_, _>>(),
            waivers: self
                .waivers
                .iter()
                .map(|w| WaiverInfo {
                    case: w.case.text().to_owned(),
                    reason: w.reason.clone(),
                    issue: w.issue.clone(),
                    expires: w.expires.to_string(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_is_claimed() {
        let claims = Claims::parse(
            "backend = \"npu\"\nprofiles = [\"half\"]\nunsupported = [\"op/*\"]\n[classes]\n\"op/linear/*\" = \"q8act\"\n\
             [[waiver]]\ncase = \"op/rope/*\"\nreason = \"r\"\nissue = \"#1\"\nexpires = \"2026-12-01\"\n",
        )
        .unwrap();
        assert!(claims.requires(Profile::Core) && claims.requires(Profile::Half) && !claims.requires(Profile::Quant));
        assert_eq!(claims.class("op/linear/f32/a", MathClass::F32), MathClass::Q8act);
        assert_eq!(claims.class("op/linear/exact", MathClass::Exact), MathClass::Exact);
        assert_eq!(claims.class("op/bmm/f32/a", MathClass::F32), MathClass::F32);
        assert!(claims.waiver("op/rope/f32/x").is_some() && claims.waiver("op/linear/x").is_none());
        let day = |text: &str| text.parse::<Date>().unwrap();
        assert!(claims.overdue(day("2026-11-30")).is_empty() && claims.overdue(day("2026-12-01")).is_empty());
        assert!(claims.overdue(day("2026-12-02"))[0].contains("expired on 2026-12-01"));
        assert!(claims.overdue(day("2026-01-01"))[0].contains("180 days"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("profile = [\"core\"]", "unknown field `profile`"),
            ("profiles = [\"cores\"]", "unknown variant `cores`"),
            ("[classes]\n\"op/*\" = \"fp32\"", "classes.\"op/*\": the classes are exact, f32"),
            ("unsupported = [\"op/[\"]", "unsupported: "),
            ("[[waiver]]\ncase = \"a\"\nreason = \" \"\nissue = \"1\"\nexpires = \"2026-12-01\"", "reason is empty"),
            ("[[waiver]]\ncase = \"a\"\nreason = \"r\"\nissue = \"1\"\nexpires = \"soon\"", "write it as YYYY-MM-DD"),
        ] {
            let error = Claims::parse(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
