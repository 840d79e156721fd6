//! How far weights are from what they were before they got another type.

use camelid_core::DType;

/// What changing the type of some weights did to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Deviation {
    /// How many weights.
    pub elements: u64,
    /// The sum of the squares of what each weight is off, in f64.
    pub error_squares: f64,
    /// The sum of the squares of the weights they were made from, in f64.
    pub source_squares: f64,
}

impl Deviation {
    /// Of weights that are what they were.
    pub(super) fn none(source: &[f32]) -> Deviation {
        Deviation::between(source, source)
    }

    /// Of `made` from `source`, of the same length.
    pub(super) fn between(source: &[f32], made: &[f32]) -> Deviation {
        let mut deviation = Deviation { elements: source.len() as u64, ..Deviation::default() };
        for (source, made) in source.iter().zip(made) {
            let (source, made) = (f64::from(*source), f64::from(*made));
            deviation.error_squares += (made - source) * (made - source);
            deviation.source_squares += source * source;
        }
        deviation
    }

    /// Counts those of `other` too.
    pub fn add(&mut self, other: Deviation) {
        self.elements += other.elements;
        self.error_squares += other.error_squares;
        self.source_squares += other.source_squares;
    }

    /// The root of the mean square of what the weights are off; 0 for no weights.
    pub fn rmse(&self) -> f64 {
        self.root(self.error_squares)
    }

    /// The root of the mean square of the weights they were made from.
    pub fn source_rms(&self) -> f64 {
        self.root(self.source_squares)
    }

    /// [`Deviation::rmse`] in parts of [`Deviation::source_rms`]; 0 where both are.
    pub fn relative(&self) -> f64 {
        if self.error_squares == 0.0 { 0.0 } else { (self.error_squares / self.source_squares).sqrt() }
    }

    fn root(&self, squares: f64) -> f64 {
        if self.elements == 0 { 0.0 } else { (squares / self.elements as f64).sqrt() }
    }
}

/// The tensors that play one part in each layer, such as `attn_q`, or that are there once.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TensorClass {
    /// GGUF's name without the layer: `attn_q.weight`.
    pub name: String,
    /// The types they have now, in the order in which they come.
    pub dtypes: Vec<DType>,
    /// How many there are.
    pub tensors: usize,
    /// What their weights are off.
    pub deviation: Deviation,
}

impl TensorClass {
    /// Adds a tensor to its class, a new one if it is the first.
    pub(super) fn count(classes: &mut Vec<TensorClass>, tensor: &str, dtype: DType, deviation: Deviation) {
        let layer = tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let name = layer.map_or(tensor, |(_, part)| part);
        let at = classes.iter().position(|c| c.name == name).unwrap_or_else(|| {
            let (name, dtypes) = (name.to_owned(), Vec::new());
            classes.push(TensorClass { name, dtypes, tensors: 0, deviation: Deviation::default() });
            classes.len() - 1
        });
        let class = &mut classes[at];
        class.tensors += 1;
        class.deviation.add(deviation);
        if !class.dtypes.contains(&dtype) {
            class.dtypes.push(dtype);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_root_of_the_mean_square() {
        let mut all = Deviation::between(&[3.0, -4.0], &[3.5, -4.0]);
        assert_eq!((all.rmse(), all.source_rms()), (0.125f64.sqrt(), 12.5f64.sqrt()));
        assert_eq!(all.relative(), 0.1);
        all.add(Deviation::none(&[5.0, 0.0]));
        assert_eq!((all.elements, all.error_squares, all.source_squares), (4, 0.25, 50.0));
        let nothing = Deviation::default();
        assert_eq!((nothing.rmse(), nothing.source_rms(), nothing.relative()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn layers_count_together() {
        let mut classes = Vec::new();
        let one = Deviation::between(&[1.0], &[2.0]);
        for (name, dtype) in [
            ("token_embd.weight", DType::Q6_K),
            ("blk.0.attn_q.weight", DType::Q5_K),
            ("blk.11.attn_q.weight", DType::Q4_K),
            ("blk.2.attn_q.weight", DType::Q5_K),
        ] {
            TensorClass::count(&mut classes, name, dtype, one);
        }
        assert_eq!(classes.len(), 2);
        assert_eq!((classes[0].name.as_str(), classes[0].tensors), ("token_embd.weight", 1));
        assert_eq!((classes[1].name.as_str(), classes[1].tensors), ("attn_q.weight", 3));
        assert_eq!(classes[1].dtypes, [DType::Q5_K, DType::Q4_K]);
        assert_eq!(classes[1].deviation.error_squares, 3.0);
    }
}
