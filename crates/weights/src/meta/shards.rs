//! `consolidated.NN.pth`: the shards of a model, each with a part of every tensor.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use camelid_core::DType;

use super::layout::{Cut, EMBEDDINGS, Part, ROPE_FREQS};
use crate::WeightsError;
use crate::error::{Listed, MAKE_AGAIN, shown};
use crate::gguf::permute::HeadPermutation;
use crate::pickle::{Element, TorchFile, TorchTensor};
use crate::write::Rows;

/// All shards of a checkpoint, in order.
#[derive(Debug)]
pub(super) struct Shards {
    folder: PathBuf,
    files: Vec<TorchFile>,
}

impl Shards {
    /// Opens `consolidated.00.pth` and those that follow. All must hold tensors of the same names.
    pub(super) fn open(folder: &Path) -> Result<Shards, WeightsError> {
        let entries = std::fs::read_dir(folder).map_err(WeightsError::io(folder, "list"))?;
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(WeightsError::io(folder, "list"))?.file_name();
            let name = name.to_string_lossy();
            let digits = name.strip_prefix("consolidated.").and_then(|n| n.strip_suffix(".pth"));
            if let Some(number) = digits.filter(|d| d.len() <= 4).and_then(|d| d.parse::<usize>().ok()) {
                numbers.push((number, name.into_owned()));
            }
        }
        numbers.sort();
        if numbers.is_empty() {
            return Err(WeightsError::NotACheckpoint {
                path: folder.to_owned(),
                found: "the folder holds no consolidated.00.pth".into(),
                remedy: "give the folder of one model as Meta distributes it: consolidated.NN.pth and params.json"
                    .into(),
            });
        }
        if let Some(missing) = (0..numbers.len()).find(|i| numbers[*i].0 != *i) {
            let found = format!("there are {} shards, but none with the number {missing:02}", numbers.len());
            let remedy = "every shard holds a part of every tensor: download the missing one into the same folder";
            return Err(WeightsError::malformed(folder, format!("consolidated.{missing:02}.pth"), found, remedy));
        }
        let files: Vec<TorchFile> =
            numbers.iter().map(|(_, name)| TorchFile::open(folder.join(name))).collect::<Result<_, _>>()?;
        let names = |file: &TorchFile| -> HashSet<String> {
            file.tensors().iter().map(|t| t.name.clone()).filter(|n| n != ROPE_FREQS).collect()
        };
        let first = names(&files[0]);
        for file in &files[1..] {
            let mut differing: Vec<String> = names(file).symmetric_difference(&first).map(|n| shown(n)).collect();
            differing.sort();
            if !differing.is_empty() {
                let found = format!("only one of this and the first shard has {}", Listed(&differing));
                let remedy = "the shards belong to different models, or one is damaged: download them again, together";
                return Err(WeightsError::malformed(file.path(), "its tensors", found, remedy));
            }
        }
        Ok(Shards { folder: folder.to_owned(), files })
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Number of tensors of each shard.
    pub(super) fn tensors(&self) -> usize {
        self.files[0].tensors().len()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files[0].tensor(name).is_some()
    }

    /// Rows of the whole embeddings, if they are cut by rows or by columns.
    pub(super) fn vocab(&self, cut: Cut) -> Result<usize, WeightsError> {
        let rows = |file: &TorchFile| match file.tensor(EMBEDDINGS).map(|t| t.shape.as_slice()) {
            Some([rows, _]) => Ok(*rows),
            Some(other) => {
                let found = format!("its shape is {other:?}, where a matrix belongs");
                Err(WeightsError::malformed(file.path(), format!("tensor {EMBEDDINGS}"), found, MAKE_AGAIN))
            }
            None => Err(self.missing(EMBEDDINGS)),
        };
        if cut == Cut::Rows { self.files.iter().map(rows).sum() } else { rows(&self.files[0]) }
    }

    pub(super) fn missing(&self, name: &str) -> WeightsError {
        let remedy = "the file is not whole, or of another model than params.json: download both again";
        WeightsError::malformed(&self.folder, format!("tensor {}", shown(name)), "no shard has it", remedy)
    }

    /// Tensors that are none of `parts`.
    pub(super) fn unknown(&self, parts: &[Part]) -> Vec<String> {
        let known: HashSet<&str> = parts.iter().map(|p| p.meta.as_str()).chain([ROPE_FREQS]).collect();
        let names = self.files[0].tensors().iter().map(|t| t.name.as_str());
        names.filter(|n| !known.contains(n)).map(shown).collect()
    }

    /// The tensor that `part` describes, out of all shards.
    pub(super) fn assemble<'a>(&'a self, part: &'a Part, head_dim: usize) -> Result<Assembled<'a>, WeightsError> {
        let files = if part.cut == Cut::Whole { &self.files[..1] } else { &self.files[..] };
        let mut pieces = Vec::with_capacity(files.len());
        for file in files {
            pieces.push((file, file.tensor(&part.meta).ok_or_else(|| self.missing(&part.meta))?));
        }
        let (first_file, first) = pieces[0];
        for (file, piece) in &pieces {
            let wrong = |found: String| {
                let remedy = "the shards or params.json belong to different models, or the version is another \
                              (--llama-version): use files that were distributed together";
                Err(WeightsError::malformed(file.path(), format!("tensor {}", shown(&part.meta)), found, remedy))
            };
            if piece.element != first.element {
                return wrong(format!(
                    "it is {} here and {} in {}",
                    piece.element.name(),
                    first.element.name(),
                    first_file.path().display()
                ));
            }
            let mut expected = part.shape.clone();
            let cut = usize::from(part.cut == Cut::Columns);
            if part.cut != Cut::Whole {
                if !expected[cut].is_multiple_of(pieces.len()) {
                    return wrong(format!("{} cannot be cut into {} shards", expected[cut], pieces.len()));
                }
                expected[cut] /= pieces.len();
            }
            if piece.shape != expected {
                return wrong(format!(
                    "its shape is {:?}, where params.json and {} shards call for {expected:?}",
                    piece.shape,
                    pieces.len()
                ));
            }
            if part.rotated && !expected[0].is_multiple_of(head_dim) {
                return wrong(format!("its {} rows are no whole number of heads of {head_dim}", expected[0]));
            }
        }
        let dtype = match first.element {
            Element::F64 | Element::F32 => DType::F32,
            Element::F16 => DType::F16,
            Element::BF16 => DType::BF16,
            other => {
                return Err(WeightsError::UnsupportedTensorType {
                    path: first_file.path().to_owned(),
                    tensor: shown(&part.meta),
                    found: other.name().into(),
                    supported: "float64, float32, float16, bfloat16".into(),
                    remedy: "quantized models are not converted: use the one it was made from".into(),
                });
            }
        };
        Ok(Assembled { part, pieces, dtype, head_rows: part.rotated.then_some(head_dim) })
    }
}

/// A tensor whose parts lie in the shards.
pub(super) struct Assembled<'a> {
    part: &'a Part,
    pieces: Vec<(&'a TorchFile, &'a TorchTensor)>,
    dtype: DType,
    head_rows: Option<usize>,
}

impl Assembled<'_> {
    /// Appends rows in Meta's order and the stored type.
    fn read_stored(&self, from: usize, rows: usize, out: &mut Vec<u8>) -> Result<(), WeightsError> {
        match self.part.cut {
            Cut::Whole => self.pieces[0].0.read_rows(self.pieces[0].1, from, rows, out),
            Cut::Rows => {
                let each = self.part.shape[0] / self.pieces.len();
                let mut at = from;
                while at < from + rows {
                    let (file, tensor) = self.pieces[at / each];
                    let count = (each - at % each).min(from + rows - at);
                    file.read_rows(tensor, at % each, count, out)?;
                    at += count;
                }
                Ok(())
            }
            Cut::Columns => {
                let row = self.pieces[0].1.row_bytes();
                let mut read = Vec::with_capacity(self.pieces.len());
                for (file, tensor) in &self.pieces {
                    let mut bytes = Vec::new();
                    file.read_rows(tensor, from, rows, &mut bytes)?;
                    read.push(bytes);
                }
                for i in 0..rows {
                    for bytes in &read {
                        out.extend_from_slice(&bytes[i * row..][..row]);
                    }
                }
                Ok(())
            }
        }
    }
}

impl Rows for Assembled<'_> {
    fn file(&self) -> &Path {
        self.pieces[0].0.path()
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.part.shape
    }

    fn step(&self) -> usize {
        self.head_rows.unwrap_or(1)
    }

    fn read(&self, from: usize, rows: usize, out: &mut Vec<u8>) -> Result<(), WeightsError> {
        let begin = out.len();
        self.read_stored(from, rows, out)?;
        if self.pieces[0].1.element == Element::F64 {
            let wide = out.split_off(begin);
            out.extend(wide.as_chunks::<8>().0.iter().flat_map(|b| (f64::from_le_bytes(*b) as f32).to_le_bytes()));
        }
        if let Some(head_rows) = self.head_rows {
            crate::write::reorder(head_rows, rows, out, begin, HeadPermutation::restore);
        }
        Ok(())
    }
}
