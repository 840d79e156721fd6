"""transformers' LlamaForCausalLM as a true float64 oracle.

Loading the model with `dtype=float64` is not enough: four places of transformers 5.8.0 compute in float32 whatever the
dtype is: `LlamaRMSNorm.forward`, the softmax of `eager_attention_forward`, the inverse frequencies
(`compute_default_rope_parameters` and `modeling_rope_utils`), and `LlamaRotaryEmbedding.forward`. The first three name
`torch.float32` or `torch.float` through the module's global `torch`; `true_float64` puts a stand-in there whose
float32 means float64, so that transformers' own formulas run in double. The fourth calls the method `.float()` on
tensors and is replaced, by one that keeps no state: frequencies that depend on the length of a sequence are those of one
more than the largest position of the row they are asked for. One thing is added that transformers' Llama has not: where
cosines are narrower than a head (`partial_rotary_factor`), the rest of the head passes through, as in those of its models
that rotate a part of each head.
"""

import contextlib
import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, modeling_rope_utils
from transformers.models.llama import modeling_llama


class _TorchInDouble:
    """The torch module, except that its float32 is float64."""

    float = float32 = torch.float64

    def __getattr__(self, name: str):
        return getattr(torch, name)


def _rotary_forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [B, T, d] of position * frequency in the dtype of x, each half of the last axis alike.

    The attribute `lengths` [T], if it is there, says how long the sequence was when each token was added to it.
    """
    rows = []
    for positions in position_ids:
        lengths = getattr(self, "lengths", None)
        lengths = [int(positions.max()) + 1] * len(positions) if lengths is None else lengths
        known = {length: _frequencies(self, length) for length in set(lengths)}
        rows.append(torch.stack([p.to(torch.float64) * known[n] for p, n in zip(positions, lengths, strict=True)]))
    angles = torch.stack(rows)
    angles = torch.cat((angles, angles), dim=-1)
    return (angles.cos() * self.attention_scaling).to(x.dtype), (angles.sin() * self.attention_scaling).to(x.dtype)


def _frequencies(rotary, length: int) -> torch.Tensor:
    """transformers' own inverse frequencies in a sequence of `length` tokens, in double."""
    if rotary.rope_type not in ("dynamic", "longrope"):
        return rotary.inv_freq
    # longrope calls `.float()` on a tensor.
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        return modeling_rope_utils.ROPE_INIT_FUNCTIONS[rotary.rope_type](rotary.config, None, seq_len=length)[0]


def _apply_rotary(q, k, cos, sin, unsqueeze_dim=1):
    """transformers' apply_rotary_pos_emb on as many elements of each head as there are cosines."""
    width = cos.shape[-1]
    turned = _apply_whole(q[..., :width], k[..., :width], cos, sin, unsqueeze_dim)
    return tuple(torch.cat((new, old[..., width:]), dim=-1) for new, old in zip(turned, (q, k), strict=True))


_apply_whole = modeling_llama.apply_rotary_pos_emb


@contextlib.contextmanager
def true_float64():
    """While entered, Llama models are built and run without any float32 step. Leaves the modules as they were."""
    rotary = modeling_llama.LlamaRotaryEmbedding
    kept_forward = rotary.forward
    modeling_llama.torch = modeling_rope_utils.torch = _TorchInDouble()
    modeling_llama.apply_rotary_pos_emb = _apply_rotary
    rotary.forward = torch.no_grad()(_rotary_forward)
    try:
        yield
    finally:
        modeling_llama.torch = modeling_rope_utils.torch = torch
        modeling_llama.apply_rotary_pos_emb = _apply_whole
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

    def depends_on_length(self) -> bool:
        """Whether frequencies depend on how long a sequence is."""
        return self.model.model.rotary_emb.rope_type in ("dynamic", "longrope")

    def runs_as_it_comes(self) -> bool:
        """Whether transformers can run the model without `true_float64`: it cannot rotate a part of a head."""
        return 2 * len(self.model.model.rotary_emb.inv_freq) == self.model.config.head_dim

    @torch.no_grad()
    def logits(self, input_ids: np.ndarray, lengths: list[int] | None = None) -> np.ndarray:
        """input_ids [B, T] -> logits [B, T, V], without a cache.

        `lengths` [T] says for frequencies how long the sequence was when each token was added; T if it is not given.
        """
        rotary = self.model.model.rotary_emb
        rotary.lengths = lengths
        try:
            return self.model(torch.from_numpy(np.asarray(input_ids)), use_cache=False).logits.numpy()
        finally:
            rotary.lengths = None

    @torch.no_grad()
    def stepwise(self, input_ids: np.ndarray, first: int) -> np.ndarray:
        """input_ids [1, T] -> logits [1, T, V]: the first `first` tokens in one step, then each in one of its own.

        Computed without a cache, from the length of each token's step, and confirmed with transformers' cache, which
        holds keys as they were turned.
        """
        ids = np.asarray(input_ids)
        total = ids.shape[1]
        direct = self.logits(ids, [max(first, i + 1) for i in range(total)])
        cache, rows = DynamicCache(config=self.model.config), []
        for begin, end in [(0, first), *((i, i + 1) for i in range(first, total))]:
            part = torch.from_numpy(ids[:, begin:end])
            rows.append(self.model(part, past_key_values=cache, use_cache=True).logits.numpy())
        difference = max_over_rms(np.concatenate(rows, axis=1), direct)
        if not difference <= 1e-11:
            raise ValueError(f"with a cache the logits differ by {difference:.1e} of the rms")
        return direct

    def greedy(self, input_ids: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Greedy continuation of input_ids [1, T], a full forward each step, or, where frequencies depend on the length,
        what a cache that starts with one step for the prompt gives.

        Returns the tokens [steps], the gap between the two highest logits of each step [steps], and the root mean
        square of each step's logits [steps]. An end-of-sequence token does not stop it.
        """
        ids = np.asarray(input_ids)
        first = ids.shape[1]
        tokens, gaps, scales = [], [], []
        for _ in range(steps):
            logits = self.stepwise(ids, first) if self.depends_on_length() else self.logits(ids)
            row = logits[0, -1]
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
