"""Speed of PyTorch with transformers, for `parlor bench --against torch`: prints tokens per second.

    python - WORK DTYPE THREADS CONFIG   (CONFIG is the text of a config.json)

WORK is prefill, decode, decode8, train or lora; DTYPE float32 or bfloat16. Weights are random.
"""

import json
import os
import statistics
import sys
import time

work, dtype, threads, config = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
os.environ["OMP_NUM_THREADS"] = str(threads)

import torch
from transformers import AutoConfig, AutoModelForCausalLM

torch.set_num_threads(threads)
torch.manual_seed(0)
values = json.loads(config)
model = AutoModelForCausalLM.from_config(
    AutoConfig.for_model(values.pop("model_type"), **values), dtype=getattr(torch, dtype)
)
vocabulary = model.config.vocab_size
PROMPT, BEFORE, ROUNDS = 512, 64, 5


def ids(rows, count):
    return torch.tensor([[n * 7919 % vocabulary for n in range(count)]] * rows)


def median(step, tokens):
    step()
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return tokens / statistics.median(seconds)


if work in ("train", "lora"):
    model.train()
    if work == "lora":
        from peft import LoraConfig, get_peft_model

        targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
        model = get_peft_model(model, LoraConfig(r=16, target_modules=targets))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    batch = ids(1, PROMPT)

    def step():
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    speed = median(step, PROMPT)
else:
    model.eval()
    with torch.inference_mode():
        if work == "prefill":
            batch = ids(1, PROMPT)
            speed = median(lambda: model(input_ids=batch, use_cache=True, logits_to_keep=1), PROMPT)
        else:
            rows = 8 if work == "decode8" else 1
            cache = model(input_ids=ids(rows, BEFORE), use_cache=True, logits_to_keep=1).past_key_values

            def step():
                model(input_ids=ids(rows, 1), past_key_values=cache, use_cache=True)
                cache.crop(-1)

            speed = median(step, rows)
print(json.dumps({"tokens_per_second": speed}))
