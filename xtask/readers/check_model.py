"""Reads a model directory that Parlor wrote with the programs it is meant for, and compares what they see.

usage: check_model.py DIR TOKENIZE.json RENDER.json MESSAGES.json

DIR: a model directory. TOKENIZE.json: what `parlor tokenize --json` said of the text in it. RENDER.json: what
`parlor render --json` said of MESSAGES.json. Exits with 1 and a sentence on the first difference.
"""

import json
import pathlib
import sys

import transformers
from safetensors import safe_open

TEXT = "Hello, Parlor! 12345 naïve café ☕ \n\n\ttabs"


def expect(what, got, want):
    if got != want:
        sys.exit(f"{what}: {got!r}, but Parlor says {want!r}")


def main(directory, tokenized, rendered, messages):
    directory = pathlib.Path(directory)
    config = transformers.AutoConfig.from_pretrained(directory)
    shapes = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="np") as weights:
            expect("safetensors metadata", weights.metadata().get("format"), "pt")
            for name in weights.keys():
                shapes[name] = tuple(weights.get_slice(name).get_shape())
    expect("embedding", shapes["model.embed_tokens.weight"], (config.vocab_size, config.hidden_size))
    layers = {int(name.split(".")[2]) for name in shapes if name.startswith("model.layers.")}
    expect("layers", layers, set(range(config.num_hidden_layers)))
    for layer in layers:
        prefix = f"model.layers.{layer}"
        expect("gate_proj", shapes[f"{prefix}.mlp.gate_proj.weight"], (config.intermediate_size, config.hidden_size))

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    tokenized = json.loads(pathlib.Path(tokenized).read_text())
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    expect("ids", ids, tokenized["ids"])
    expect("decoded text", tokenizer.decode(ids), TEXT)
    assert len(tokenizer) <= config.vocab_size, "the vocabulary exceeds the embedding"

    rendered = json.loads(pathlib.Path(rendered).read_text())
    messages = json.loads(pathlib.Path(messages).read_text())
    expect("rendered text", tokenizer.apply_chat_template(messages, tokenize=False), rendered["text"])
    out = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    expect("rendered ids", list(out["input_ids"]), rendered["ids"])
    expect("assistant's tokens", list(out["assistant_masks"]), rendered["assistant_mask"])
    generation = transformers.GenerationConfig.from_pretrained(directory)
    assert generation.eos_token_id is not None, "generation_config.json names no end of sequence"
    print(f"transformers {transformers.__version__} reads {directory.name}: {len(shapes)} tensors, {len(ids)} ids")


if __name__ == "__main__":
    main(*sys.argv[1:])
