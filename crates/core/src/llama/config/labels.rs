//! What a classifier's scores mean: `id2label`, `label2id`, `num_labels`, `problem_type`.
//!
//! The rules are those of `PreTrainedConfig` in transformers 5.8: without `id2label` there are `num_labels` (2) labels
//! called `LABEL_0`, `LABEL_1`, ...; a `num_labels` that is not the length of `id2label` replaces it by such labels.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::{ConfigError, Fields};

/// Labels beyond this are no classifier but a damaged file.
const MAX_LABELS: usize = 1 << 20;

/// What a classifier is trained for, and so which loss it has (`problem_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemType {
    /// `regression`: mean squared error.
    Regression,
    /// `single_label_classification`: cross entropy.
    SingleLabel,
    /// `multi_label_classification`: binary cross entropy for each label.
    MultiLabel,
}

impl ProblemType {
    /// Every problem type.
    pub const ALL: [ProblemType; 3] = [ProblemType::Regression, ProblemType::SingleLabel, ProblemType::MultiLabel];

    /// The name as config.json writes it.
    pub fn name(self) -> &'static str {
        match self {
            ProblemType::Regression => "regression",
            ProblemType::SingleLabel => "single_label_classification",
            ProblemType::MultiLabel => "multi_label_classification",
        }
    }

    /// The problem type a config calls `name`.
    pub fn from_name(name: &str) -> Option<ProblemType> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
}

impl fmt::Display for ProblemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The labels of a config, read together because each decides about the others.
pub(super) struct Labels {
    pub(super) id2label: BTreeMap<usize, String>,
    pub(super) label2id: BTreeMap<String, usize>,
    pub(super) problem_type: Option<ProblemType>,
}

/// `LABEL_0`, `LABEL_1`, ...: what transformers calls labels that have no names.
pub fn default_labels(count: usize) -> BTreeMap<usize, String> {
    (0..count).map(|i| (i, format!("LABEL_{i}"))).collect()
}

/// The ids of labels, by name; of two labels with one name the later.
pub(super) fn inverse(id2label: &BTreeMap<usize, String>) -> BTreeMap<String, usize> {
    id2label.iter().map(|(id, label)| (label.clone(), *id)).collect()
}

impl Labels {
    pub(super) fn read(f: &Fields<'_>) -> Result<Labels, ConfigError> {
        let count = f.get("num_labels").map(|_| f.size("num_labels", 0)).transpose()?;
        if let Some(count) = count.filter(|n| *n > MAX_LABELS) {
            return Err(f.wrong("num_labels", count, format!("be at most {MAX_LABELS}")));
        }
        // An empty object says nothing.
        let given = object(f, "id2label")?.filter(|map| !map.is_empty());
        let mut id2label = given.map(|map| names(f, map)).transpose()?;
        let mut label2id = object(f, "label2id")?.map(|map| ids(f, map)).transpose()?;
        match (&id2label, count) {
            (Some(labels), Some(count)) if labels.len() != count => {
                tracing::warn!(
                    "num_labels is {count}, but id2label has {} labels; they are called LABEL_0 and so on",
                    labels.len()
                );
                id2label = None;
                label2id = None;
            }
            // Without id2label, transformers names the labels anew and forgets label2id.
            (None, _) => label2id = None,
            _ => {}
        }
        let id2label = id2label.unwrap_or_else(|| default_labels(count.unwrap_or(2)));
        let problem_type = match f.text("problem_type")? {
            None => None,
            Some(name) => Some(ProblemType::from_name(name).ok_or_else(|| {
                f.wrong(
                    "problem_type",
                    format!("`{name}`"),
                    format!("be one of {}", ProblemType::ALL.map(ProblemType::name).join(", ")),
                )
            })?),
        };
        let label2id = label2id.unwrap_or_else(|| inverse(&id2label));
        Ok(Labels { id2label, label2id, problem_type })
    }
}

fn object<'a>(f: &Fields<'a>, field: &str) -> Result<Option<&'a Map<String, Value>>, ConfigError> {
    f.get(field).map(|v| v.as_object().ok_or_else(|| f.wrong(field, v, "be an object"))).transpose()
}

/// JSON's keys are texts: `{"0": "negative", "1": "positive"}`.
fn names(f: &Fields<'_>, map: &Map<String, Value>) -> Result<BTreeMap<usize, String>, ConfigError> {
    let name = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let labels: Option<BTreeMap<usize, String>> =
        map.iter().map(|(id, label)| Some((id.trim().parse().ok()?, name(label)))).collect();
    labels.filter(|labels| labels.len() <= MAX_LABELS).ok_or_else(|| {
        f.wrong("id2label", Value::Object(map.clone()), "be an object from label ids (0, 1, ...) to labels")
    })
}

fn ids(f: &Fields<'_>, map: &Map<String, Value>) -> Result<BTreeMap<String, usize>, ConfigError> {
    // transformers lets a text of digits pass for a number here.
    let id = |v: &Value| match v {
        Value::String(text) => text.trim().parse().ok(),
        v => v.as_u64().and_then(|n| usize::try_from(n).ok()),
    };
    let ids: Option<BTreeMap<String, usize>> = map.iter().map(|(label, v)| Some((label.clone(), id(v)?))).collect();
    ids.ok_or_else(|| f.wrong("label2id", Value::Object(map.clone()), "be an object from labels to label ids"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::llama::LlamaConfig;

    fn config(value: Value) -> Result<LlamaConfig, ConfigError> {
        LlamaConfig::from_value(&value)
    }

    fn labels(value: Value) -> Vec<(usize, String)> {
        let c = config(value).unwrap();
        assert_eq!(c.num_labels, c.id2label.len());
        c.id2label.into_iter().collect()
    }

    fn of(pairs: &[(usize, &str)]) -> Vec<(usize, String)> {
        pairs.iter().map(|(id, label)| (*id, (*label).to_owned())).collect()
    }

    #[test]
    fn labels_are_what_transformers_makes_of_them() {
        assert_eq!(labels(json!({})), of(&[(0, "LABEL_0"), (1, "LABEL_1")]));
        assert_eq!(labels(json!({"id2label": {}})), labels(json!({})));
        assert_eq!(labels(json!({"num_labels": 1})), of(&[(0, "LABEL_0")]));
        assert_eq!(labels(json!({"id2label": {"0": "no", "5": "yes"}})), of(&[(0, "no"), (5, "yes")]));
        let three = of(&[(0, "LABEL_0"), (1, "LABEL_1"), (2, "LABEL_2")]);
        assert_eq!(labels(json!({"id2label": {"0": "no", "1": "yes"}, "num_labels": 3})), three);
        let c = config(json!({"num_labels": 3, "label2id": {"x": 0}})).unwrap();
        assert_eq!(c.label2id["LABEL_2"], 2, "names that are made up have ids that fit");
        let c = config(json!({"id2label": {"0": "a", "1": "b"}, "label2id": {"x": 0, "y": "1"}})).unwrap();
        assert_eq!((c.label2id["x"], c.label2id["y"]), (0, 1));
        let c = config(json!({"id2label": {"0": "a", "1": "b"}})).unwrap();
        assert_eq!((c.label2id["a"], c.label2id["b"]), (0, 1));
    }

    #[test]
    fn problem_types_have_three_names() {
        for problem in ProblemType::ALL {
            let c = config(json!({"problem_type": problem.name(), "num_labels": 3})).unwrap();
            assert_eq!(c.problem_type, Some(problem));
        }
        let e = config(json!({"problem_type": "ranking"})).unwrap_err().to_string();
        assert!(e.contains("`problem_type` is `ranking`") && e.contains("single_label_classification"), "{e}");
        let e =
            config(json!({"problem_type": "single_label_classification", "num_labels": 1})).unwrap_err().to_string();
        assert!(e.contains("`num_labels` is 1") && e.contains("regression"), "{e}");
    }

    #[test]
    fn labels_that_are_none_are_refused() {
        for (value, part) in [
            (json!({"id2label": {"first": "a"}}), "`id2label`"),
            (json!({"id2label": []}), "be an object"),
            (json!({"num_labels": 0}), "`num_labels` is 0"),
            (json!({"num_labels": 1 << 21}), "at most 1048576"),
            (json!({"id2label": {"0": "a"}, "label2id": {"a": -1}}), "`label2id`"),
        ] {
            let e = config(value.clone()).unwrap_err().to_string();
            assert!(e.contains(part), "{value}: {e}");
        }
    }
}
