"""A Llama GGUF as a transformers model and tokenizer, mapped directly from the file's tensors and metadata.

transformers can read GGUF itself; its weights are compared with these in `smollm2.py`. Its tokenizer is not used: it
ignores `tokenizer.ggml.pre`, so it does not split numbers off as the model was trained to expect (" ²1" comes out as
3351 127 33 instead of 216 19133 33).
"""

from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# ggml's block-local names -> transformers' names inside a layer.
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

_CONTROL = 3  # tokenizer.ggml.token_type of a special token


class GgufLlama:
    """A GGUF file of architecture llama, opened for reading."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.reader = gguf.GGUFReader(self.path)
        architecture = self.field("general.architecture")
        if architecture != "llama":
            raise ValueError(f"{path}: general.architecture is {architecture!r}; only llama is covered")

    def field(self, key: str, default: object = None) -> object:
        """The value of a metadata key, or `default` where the file lacks it."""
        found = self.reader.fields.get(key)
        return default if found is None else found.contents()

    def config(self) -> dict:
        """The metadata as entries of a transformers 5 config.json."""
        hidden_size = self.field("llama.embedding_length")
        heads = self.field("llama.attention.head_count")
        return {
            "vocab_size": len(self.field("tokenizer.ggml.tokens")),
            "hidden_size": hidden_size,
            "intermediate_size": self.field("llama.feed_forward_length"),
            "num_hidden_layers": self.field("llama.block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self.field("llama.attention.head_count_kv", heads),
            "head_dim": self.field("llama.attention.key_length", hidden_size // heads),
            "hidden_act": "silu",
            "max_position_embeddings": self.field("llama.context_length"),
            # Stored as float32: 9.999999747378752e-06 where the original config says 1e-05.
            "rms_norm_eps": self.field("llama.attention.layer_norm_rms_epsilon"),
            "rope_parameters": {"rope_type": "default", "rope_theta": self.field("llama.rope.freq_base", 10000.0)},
            "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in self.reader.tensors),
            "bos_token_id": self.field("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.field("tokenizer.ggml.eos_token_id"),
        }

    def weights(self) -> dict[str, np.ndarray]:
        """Dequantized float32 weights under transformers' names, q and k in transformers' row order."""
        heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
        weights = {}
        for tensor in self.reader.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
            if tensor.name.startswith("blk."):
                _, layer, block, kind = tensor.name.split(".")
                if block in heads:
                    values = rows_as_halves(values, self.field(heads[block]))
                weights[f"model.layers.{layer}.{_LAYER_NAMES[block]}.{kind}"] = values
            else:
                outer, kind = tensor.name.split(".")
                weights[f"{_OUTER_NAMES[outer]}.{kind}"] = values
        return weights

    def model(self, weights: dict[str, np.ndarray]) -> LlamaForCausalLM:
        """transformers' model in float64 with eager attention and exactly these weights."""
        config = LlamaConfig(**self.config(), attn_implementation="eager")
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        state = {name: torch.from_numpy(values.astype(np.float64)) for name, values in weights.items()}
        if config.tie_word_embeddings:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        model.load_state_dict(state, strict=True, assign=True)
        return model

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The byte-level BPE of the metadata with the `smollm` pre-tokenizer and the file's chat template."""
        kind = (self.field("tokenizer.ggml.model"), self.field("tokenizer.ggml.pre"))
        if kind != ("gpt2", "smollm"):
            raise ValueError(f"{self.path}: tokenizer.ggml.model, .pre are {kind}; only ('gpt2', 'smollm') is covered")
        tokens = self.field("tokenizer.ggml.tokens")
        merges = [tuple(merge.split(" ")) for merge in self.field("tokenizer.ggml.merges")]
        tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
        # llama.cpp's llama-vocab.cpp splits `smollm` by \p{N} first and by GPT-2's expression after that.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=self.field("tokenizer.ggml.add_space_prefix", False)),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        special = [t for t, kind in zip(tokens, self.field("tokenizer.ggml.token_type")) if kind == _CONTROL]
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
        wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        wrapped.chat_template = self.field("tokenizer.chat_template")
        return wrapped


def rows_as_halves(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows [heads * d, ..] of a rotated projection, from neighbouring pairs to the two halves of a head.

    GGUF stores row 2i of a head next to its partner 2i + 1 (ggml's normal rope); transformers rotates i with i + d/2.
    """
    grouped = values.reshape(heads, -1, 2, *values.shape[1:])  # [heads, d/2, pair, ..]
    return np.ascontiguousarray(grouped.swapaxes(1, 2)).reshape(values.shape)
