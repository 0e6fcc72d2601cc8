"""A Qwen3 directory as a GGUF file: gguf_of.py DIR q8_0|q4_0|f32 OUT. Needs the packages gguf, numpy and safetensors."""

import json
import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants
from safetensors.numpy import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "fixtures" / "make"))
from gguf_names import name_of  # noqa: E402


def vocabulary(writer, directory, size):
    """A byte-level BPE tokenizer of the `tokenizers` library."""
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    tokens, kinds = [f"[PAD{index}]" for index in range(size)], [gguf.TokenType.UNUSED] * size
    for token, index in tokenizer["model"]["vocab"].items():
        tokens[index], kinds[index] = token, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], gguf.TokenType.CONTROL
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer["added_tokens"][0]["id"])
    writer.add_add_bos_token(False)


def main():
    directory, kind, out = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    config = json.loads((directory / "config.json").read_text())
    assert config["model_type"] == "qwen3", config["model_type"]
    rope = config.get("rope_parameters") or config
    writer = gguf.GGUFWriter(out, "qwen3")
    writer.add_name(directory.name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    vocabulary(writer, directory, config["vocab_size"])
    matrix = {"q8_0": Type.Q8_0, "q4_0": Type.Q4_0, "f32": Type.F32}[kind]
    for name, values in load_file(directory / "model.safetensors").items():
        dtype = matrix if values.ndim == 2 else Type.F32
        values = quants.quantize(np.ascontiguousarray(values, dtype=np.float32), dtype)
        writer.add_tensor(name_of(name), values, raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
