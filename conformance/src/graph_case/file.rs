//! The format of `suite/op/*.toml` and `suite/module/*.toml`; `specs/conformance.md` has an example.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use camelid_core::DType;
use camelid_core::graph::{Dim, Symbol, SymbolValues};

use crate::case::Profile;
use crate::tolerance::{CoarseNoise, Limits, MathClass, Noise};

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// Digest of the safetensors file beside it: ties the two together for whoever reads a diff.
    #[serde(rename = "sha256")]
    pub _sha256: String,
    /// The cases.
    #[serde(rename = "case", default)]
    pub cases: Vec<GraphCase>,
}

/// A graph and what it must give.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphCase {
    /// Unique and stable.
    pub id: String,
    /// What it can catch.
    #[serde(default)]
    pub about: String,
    /// Exactly one.
    pub profiles: Vec<Profile>,
    /// The class that an f32 backend computes this in: that of the types of its values.
    pub class: MathClass,
    /// Inputs, weights and states.
    pub values: Vec<ValueSpec>,
    /// The operations, in order.
    pub nodes: Vec<NodeSpec>,
    /// Runs of one plan, in order; states live on.
    pub step: Vec<StepSpec>,
}

/// A value that is bound to memory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueSpec {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub kind: Kind,
    /// Element type.
    #[serde(deserialize_with = "dtype")]
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<DimSpec>,
    /// What is in it at the first step.
    #[serde(flatten)]
    pub contents: Contents,
}

/// Where a bound value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Written before a step.
    Input,
    /// Loaded once.
    Weight,
    /// Kept from step to step.
    State,
}

/// What is in a value: exactly one of `gen`, `file` and `ints`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Contents {
    /// `normal`, `uniform`, `const`, `blocks` or `poison`.
    #[serde(rename = "gen")]
    pub generator: Option<String>,
    /// Of the generator.
    pub seed: Option<u64>,
    /// Of a matrix of `normal`: the rows that are drawn, in this order; the others are poisoned.
    pub rows: Option<Vec<usize>>,
    /// Standard deviation of `normal`, size of the scales of `blocks`.
    pub scale: Option<f64>,
    /// Added to every `normal`.
    pub mean: Option<f64>,
    /// Lower bound of `uniform`.
    pub lo: Option<f64>,
    /// Upper bound of `uniform`.
    pub hi: Option<f64>,
    /// Of `const`.
    pub value: Option<f64>,
    /// The tensor `ID#FILE` of the safetensors file, as its bytes lie there.
    pub file: Option<String>,
    /// The elements of an i32 value.
    pub ints: Option<Vec<i32>>,
}

/// A dimension: a number, or a symbol's name.
#[derive(Clone, Copy, Debug)]
pub struct DimSpec(pub Dim);

/// An operation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Its name.
    pub op: String,
    /// Its operands: values, or results of earlier nodes.
    pub inputs: Vec<String>,
    /// Names for its results.
    pub outputs: Vec<String>,
    /// Its attributes.
    #[serde(default)]
    pub attrs: toml::Table,
}

/// One run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// The symbols' values.
    pub symbols: Symbols,
    /// Inputs that change before this step.
    #[serde(default)]
    pub write: Vec<Write>,
    /// What it must give.
    #[serde(default)]
    pub expect: Vec<Expect>,
    /// The code of the error that it must end in, in place of results.
    pub error: Option<String>,
}

/// The symbols' values; one that is left out is 1.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "UPPERCASE")]
pub struct Symbols {
    /// Tokens.
    #[serde(default = "one")]
    pub t: usize,
    /// Sequences.
    #[serde(default = "one")]
    pub s: usize,
    /// Output rows.
    #[serde(default = "one")]
    pub o: usize,
    /// Longest context.
    #[serde(default = "one")]
    pub l: usize,
}

fn one() -> usize {
    1
}

/// New contents of an input.
#[derive(Debug, Deserialize)]
pub struct Write {
    /// The input.
    pub name: String,
    /// What is in it from now on.
    #[serde(flatten)]
    pub contents: Contents,
}

/// What a result must be: the tensor `ID#STEP#OUTPUT`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The result.
    pub output: String,
    /// What honest float32 programs measured here.
    #[serde(default)]
    pub noise_nmse: f64,
    /// The same, largest difference over rms.
    #[serde(default)]
    pub noise_max: f64,
    /// What emulations of coarser classes measured, where that is more than their floors allow.
    #[serde(default)]
    pub coarse: CoarseNoise,
    /// Of a large result only the elements of [`points`](super::expect::points) are stored, in their order.
    #[serde(default)]
    pub sampled: bool,
}

impl Expect {
    /// What a backend of `class` may measure.
    pub fn limits(&self, class: MathClass) -> Limits {
        class.case_limits(Noise { nmse: self.noise_nmse, max: self.noise_max }, &self.coarse)
    }
}

impl Symbols {
    /// As the graph takes them.
    pub fn values(self) -> SymbolValues {
        SymbolValues::new(self.t, self.s, self.o, self.l)
    }
}

impl<'de> Deserialize<'de> for DimSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<DimSpec, D::Error> {
        struct DimVisitor;
        impl Visitor<'_> for DimVisitor {
            type Value = DimSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or one of T, S, O, L, P")
            }

            fn visit_i64<E: Error>(self, n: i64) -> Result<DimSpec, E> {
                let n = usize::try_from(n).map_err(|_| E::custom(format!("{n} is no size")))?;
                Ok(DimSpec(Dim::Fixed(n)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<DimSpec, E> {
                let symbol = Symbol::ALL.into_iter().find(|s| s.to_string() == name);
                symbol.map(|s| DimSpec(Dim::Sym(s))).ok_or_else(|| E::custom(format!("`{name}` is no symbol")))
            }
        }
        deserializer.deserialize_any(DimVisitor)
    }
}

fn dtype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DType, D::Error> {
    let name = String::deserialize(deserializer)?;
    DType::from_name(&name).ok_or_else(|| D::Error::custom(format!("`{name}` is no element type")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_has_limits_for_every_class() {
        let text = "output = 'y'\nnoise_nmse = 1e-9\nnoise_max = 1e-3\ncoarse = { f16 = [1e-6, 1e-2] }";
        let expect: Expect = toml::from_str(text).unwrap();
        let limits = |class: MathClass| (expect.limits(class).nmse, expect.limits(class).max);
        assert_eq!(limits(MathClass::F32), (4e-9, 3e-3));
        assert_eq!(limits(MathClass::F16), (2e-6, 2e-2));
        assert_eq!(limits(MathClass::Bf16), (2e-5, 2.5e-2));
        let plain: Expect = toml::from_str("output = 'y'").unwrap();
        assert_eq!((plain.limits(MathClass::F16).nmse, plain.limits(MathClass::F16).max), (3e-7, 3e-3));
        for wrong in ["coarse = { f32 = [1.0, 1.0] }", "coarser = { bf16 = [1.0, 1.0] }"] {
            assert!(toml::from_str::<Expect>(&format!("output = 'y'\n{wrong}")).is_err(), "{wrong}");
        }
    }
}
