"""transformers' LlamaForCausalLM as a true float64 oracle.

Loading the model with `dtype=float64` is not enough: four places of transformers 5.8.0 compute in float32 whatever the
dtype is: `LlamaRMSNorm.forward`, the softmax of `eager_attention_forward`, the inverse frequencies
(`compute_default_rope_parameters` and `modeling_rope_utils`), and `LlamaRotaryEmbedding.forward`. The first three name
`torch.float32` or `torch.float` through the module's global `torch`; `true_float64` puts a stand-in there whose
float32 means float64, so that transformers' own formulas run in double. The fourth calls the method `.float()` on
tensors and is replaced.
"""

import contextlib
import json
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, modeling_rope_utils
from transformers.models.llama import modeling_llama


class _TorchInDouble:
    """The torch module, except that its float32 is float64."""

    float = float32 = torch.float64

    def __getattr__(self, name: str):
        return getattr(torch, name)


def _rotary_forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [B, T, d] of position * frequency in the dtype of x, each half of the last axis alike."""
    if self.rope_type not in ("default", "linear", "llama3"):
        raise ValueError(f"rope_type {self.rope_type!r} is not one of default, linear, llama3, which the oracle covers")
    angles = position_ids[:, :, None].to(self.inv_freq.dtype) * self.inv_freq
    angles = torch.cat((angles, angles), dim=-1)
    return (angles.cos() * self.attention_scaling).to(x.dtype), (angles.sin() * self.attention_scaling).to(x.dtype)


@contextlib.contextmanager
def true_float64():
    """While entered, Llama models are built and run without any float32 step. Leaves the modules as they were."""
    rotary = modeling_llama.LlamaRotaryEmbedding
    kept_forward = rotary.forward
    modeling_llama.torch = modeling_rope_utils.torch = _TorchInDouble()
    rotary.forward = torch.no_grad()(_rotary_forward)
    try:
        yield
    finally:
        modeling_llama.torch = modeling_rope_utils.torch = torch
        rotary.forward = kept_forward


def load_config(folder: Path) -> LlamaConfig:
    """config.json of a folder, also where hidden_size is not a multiple of the number of heads.

    transformers 5.8.0 refuses that even when head_dim is given and the quotient is never used, but checks it only when
    the object is made; hidden_size is set afterwards.
    """
    entries = json.loads((Path(folder) / "config.json").read_text())
    hidden_size = entries["hidden_size"]
    if entries.get("head_dim"):
        entries["hidden_size"] = entries["num_attention_heads"] * entries["head_dim"]
    config = LlamaConfig(**entries)
    config.hidden_size = hidden_size
    return config


class Oracle:
    """A loaded model and the two questions asked of it. Make and use it inside `true_float64()`."""

    def __init__(self, model: LlamaForCausalLM):
        self.model = model.eval()

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float64) -> "Oracle":
        """Loads a Hugging Face folder; a missing, surplus or misshapen tensor is an error, not a warning."""
        model, info = LlamaForCausalLM.from_pretrained(
            folder, config=load_config(folder), dtype=dtype, attn_implementation="eager", output_loading_info=True
        )
        problems = {what: found for what, found in info.items() if found}
        if problems:
            raise ValueError(f"{folder}: transformers did not take the checkpoint as it is: {problems}")
        oracle = cls(model)
        oracle.refresh_frequencies()
        return oracle

    def refresh_frequencies(self) -> None:
        """Computes the rope frequencies again, now: a model cast to float64 keeps frequencies rounded to float32."""
        rotary = self.model.model.rotary_emb
        fresh = type(rotary)(self.model.config)
        rotary.inv_freq, rotary.original_inv_freq = fresh.inv_freq, fresh.original_inv_freq

    @torch.no_grad()
    def logits(self, input_ids: np.ndarray) -> np.ndarray:
        """input_ids [B, T] -> logits [B, T, V], without a cache."""
        return self.model(torch.from_numpy(np.asarray(input_ids)), use_cache=False).logits.numpy()

    def greedy(self, input_ids: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Greedy continuation of input_ids [1, T], a full forward each step.

        Returns the tokens [steps], the gap between the two highest logits of each step [steps], and the root mean
        square of each step's logits [steps]. An end-of-sequence token does not stop it.
        """
        ids = np.asarray(input_ids)
        tokens, gaps, scales = [], [], []
        for _ in range(steps):
            row = self.logits(ids)[0, -1]
            tokens.append(int(row.argmax()))
            gaps.append(top_gap(row))
            scales.append(float(np.sqrt(np.mean(row * row))))
            ids = np.concatenate([ids, [[tokens[-1]]]], axis=1)
        return np.array(tokens, dtype=np.int64), np.array(gaps), np.array(scales)


def top_gap(row: np.ndarray) -> float:
    """Highest minus second-highest logit of a row [V]."""
    second, first = np.partition(row, -2)[-2:]
    return float(first - second)


def max_over_rms(actual: np.ndarray, expected: np.ndarray) -> float:
    """The suite's measure: largest absolute difference over the root mean square of all of `expected`."""
    return float(np.abs(actual - expected).max() / np.sqrt(np.mean(np.square(expected, dtype=np.float64))))
