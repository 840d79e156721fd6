//! The inputs' file: which tensors it may hold, in which types.

use std::path::Path;

use camelid_engine::forward::{Array, AttentionMask, ForwardInputs, Labels};
use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::Error;

const KNOWN: [&str; 5] = ["input_ids", "inputs_embeds", "attention_mask", "position_ids", "labels"];

/// Reads the inputs of a forward pass.
pub fn read(path: &Path) -> Result<ForwardInputs, Error> {
    let wrong = |what: String| -> Error { format!("{}: {what}", path.display()).into() };
    let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(format!("is not a safetensors file: {e}")))?;
    if let Some(other) = file.names().into_iter().find(|n| !KNOWN.contains(n)) {
        return Err(wrong(format!("tensor `{other}` is not known; the inputs are: {}", KNOWN.join(", "))));
    }
    let inputs = || -> Result<ForwardInputs, String> {
        let tensor = |name: &str| file.tensor(name).ok();
        let ints = |name| tensor(name).map(|t| array(name, &t, integers(name, &t)?)).transpose();
        Ok(ForwardInputs {
            input_ids: ints("input_ids")?,
            inputs_embeds: tensor("inputs_embeds").map(|t| embeds(&t)).transpose()?,
            attention_mask: tensor("attention_mask").map(|t| mask(&t)).transpose()?,
            position_ids: ints("position_ids")?,
            labels: tensor("labels").map(|t| labels(&t)).transpose()?,
        })
    };
    inputs().map_err(wrong)
}

fn array<T>(name: &'static str, tensor: &TensorView<'_>, data: Vec<T>) -> Result<Array<T>, String> {
    Array::new(name, tensor.shape().to_vec(), data).map_err(|e| e.to_string())
}

fn embeds(tensor: &TensorView<'_>) -> Result<Array<f32>, String> {
    let name = "inputs_embeds";
    let values = floats(tensor).ok_or_else(|| not_of_type(name, tensor, "F32, F16, BF16 or F64"))?;
    array(name, tensor, values.into_iter().map(|x| x as f32).collect())
}

/// Two dimensions are a padding mask; four say who looks at whom, by numbers to add if they are floats.
fn mask(tensor: &TensorView<'_>) -> Result<AttentionMask, String> {
    let name = "attention_mask";
    let custom = match tensor.shape().len() {
        2 => false,
        4 => true,
        _ => return Err(format!("`{name}` has shape {:?}, but it must be [B, T] or [B, 1, T, T]", tensor.shape())),
    };
    if let (true, Some(values)) = (custom, floats(tensor)) {
        return Ok(AttentionMask::Additive(array(name, tensor, values)?));
    }
    let values = match tensor.dtype() {
        Dtype::BOOL | Dtype::U8 => tensor.data().iter().map(|b| f64::from(*b)).collect(),
        Dtype::I8 => tensor.data().iter().map(|b| f64::from(b.cast_signed())).collect(),
        _ => match floats(tensor) {
            Some(values) => values,
            None => integers(name, tensor)
                .map_err(|_| not_of_type(name, tensor, "BOOL, U8, I8, I32, I64 or a float"))?
                .into_iter()
                .map(|n| n as f64)
                .collect(),
        },
    };
    let values = array(name, tensor, values)?;
    if let Some(at) = values.data().iter().position(|x| *x != 0.0 && *x != 1.0) {
        let (index, found) = (values.index_of(at), values.data()[at]);
        let rule = "1 for a token that may be looked at, 0 for one that may not";
        return Err(format!("`{name}`{index:?} is {found}, but it must be 0 or 1: {rule}"));
    }
    let shown = array(name, tensor, values.data().iter().map(|x| *x == 1.0).collect())?;
    Ok(if custom { AttentionMask::Visible(shown) } else { AttentionMask::Padding(shown) })
}

fn labels(tensor: &TensorView<'_>) -> Result<Labels, String> {
    let name = "labels";
    match floats(tensor) {
        Some(values) => Ok(Labels::Floats(array(name, tensor, values)?)),
        None => {
            let ints = integers(name, tensor).map_err(|_| not_of_type(name, tensor, "I64, I32 or a float"))?;
            Ok(Labels::Ints(array(name, tensor, ints)?))
        }
    }
}

fn integers(name: &str, tensor: &TensorView<'_>) -> Result<Vec<i64>, String> {
    match tensor.dtype() {
        Dtype::I64 => Ok(tensor.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        Dtype::I32 => Ok(tensor.data().as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()),
        _ => Err(not_of_type(name, tensor, "I32 or I64")),
    }
}

/// The values of a float tensor; `None` for other types.
fn floats(tensor: &TensorView<'_>) -> Option<Vec<f64>> {
    let data = tensor.data();
    Some(match tensor.dtype() {
        Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).into()).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).into()).collect(),
        _ => return None,
    })
}

fn not_of_type(name: &str, tensor: &TensorView<'_>, types: &str) -> String {
    format!("`{name}` is {:?}, but it must be {types}", tensor.dtype())
}
