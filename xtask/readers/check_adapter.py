"""Adapters both ways with PEFT: those that Parlor wrote are read by PEFT, those that PEFT wrote are read by Parlor, and the
log-probabilities are the same.

usage: check_adapter.py PARLOR BASE SCRATCH ADAPTER...

PARLOR: the program. BASE: a model directory. ADAPTER: directories that Parlor trained beside it. Exits with 1 and a
sentence on the first difference.
"""

import json
import pathlib
import subprocess
import sys

import peft
import torch
import transformers

IDS = [5, 17, 42, 99, 7, 300, 255, 12, 64, 5, 5, 180]
# Both sides compute in f32; log-probabilities near 6 of a few hundred sums each differ in the sixth digit.
TOLERANCE = 2e-5

MADE = {
    "plain": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    "all_linear": dict(r=2, lora_alpha=3, target_modules="all-linear", use_rslora=True),
    "dora": dict(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], use_dora=True),
    "whole_modules": dict(r=2, lora_alpha=4, target_modules=["o_proj"], modules_to_save=["norm"]),
}


def by_parlor(parlor, base, adapter):
    ids = ",".join(map(str, IDS))
    out = subprocess.run([parlor, "score", "-m", base, "-a", str(adapter), "--ids", ids, "--json"],
                         capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit(f"{adapter}: parlor score ended with {out.returncode}: {out.stderr}")
    return json.loads(out.stdout)["logprobs"][1:]


def by_peft(model):
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0].double()
    chosen = torch.log_softmax(logits, -1)[:-1].gather(1, torch.tensor(IDS[1:])[:, None])
    return chosen[:, 0].tolist()


def compare(name, ours, theirs, plain):
    difference = max(abs(a - b) for a, b in zip(ours, theirs))
    effect = max(abs(a - b) for a, b in zip(theirs, plain))
    if effect < 1e-3:
        sys.exit(f"{name}: the adapter changes nothing, so nothing was compared")
    if len(ours) != len(theirs) or difference > TOLERANCE:
        sys.exit(f"{name}: log-probabilities differ by {difference:.2e}")
    print(f"{name}: within {difference:.1e}; the adapter moves them by {effect:.2f}")


def main(parlor, base, scratch, *adapters):
    scratch = pathlib.Path(scratch)

    def load():
        return transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)

    plain = by_peft(load())
    for adapter in adapters:
        model = peft.PeftModel.from_pretrained(load(), adapter).eval()
        compare(f"PEFT {peft.__version__} reads {pathlib.Path(adapter).name}", by_parlor(parlor, base, adapter),
                by_peft(model), plain)
    for seed, (name, options) in enumerate(MADE.items()):
        torch.manual_seed(seed)
        model = peft.get_peft_model(load(), peft.LoraConfig(task_type="CAUSAL_LM", **options)).eval()
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.add_(torch.randn_like(parameter) * 0.05)
        model.save_pretrained(scratch / name)
        compare(f"Parlor reads PEFT's {name}", by_parlor(parlor, base, scratch / name), by_peft(model), plain)


if __name__ == "__main__":
    main(*sys.argv[1:])
