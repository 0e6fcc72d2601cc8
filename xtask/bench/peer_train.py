"""One measurement of PyTorch with transformers and PEFT: prints {"step_seconds", "peak_bytes"} as JSON.

    peer_train.py WORK SETTING STEPS [MODEL]

WORK is `s_full`, `m_lora`, `m_full` or `s_dpo`, the shapes of the table in RESULTS.md; SETTING is `f32`, `bf16` (autocast; for
`m_lora` a bf16 base, for `m_full` weights, gradients and the optimizer's states in bf16) or `compiled`. `make_model DIR` writes a random bf16 model of the larger shape and ends.
"""

import json
import pathlib
import resource
import statistics
import sys
import time

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

torch.set_num_threads(2)
torch.manual_seed(0)


def small():
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=8192,
            hidden_size=384,
            intermediate_size=1024,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=2,
            head_dim=64,
            tie_word_embeddings=True,
        )
    )


def large():
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=32768,
    )
    torch.set_default_dtype(torch.bfloat16)
    model = Qwen2ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return model


def logp_of_answers(model, ids, answer):
    logits = model(input_ids=ids).logits[:, :-1].float()
    logp = torch.gather(logits.log_softmax(-1), 2, ids[:, 1:, None])[..., 0]
    return logp[:, -answer:].sum(-1)


def main():
    work, setting, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    vocabulary = 8192
    if work == "m_lora":
        from peft import LoraConfig, get_peft_model

        model = large() if setting == "bf16" else large().float()
        targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=targets))
        shape, vocabulary = (1, 512), 151936
    elif work == "m_full":
        model = large() if setting == "bf16" else large().float()
        shape, vocabulary = (1, 512), 151936
    else:
        model, shape = small(), (8, 256)
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    run = torch.compile(model) if setting == "compiled" else model
    narrow = work.startswith("s_") and setting in ("bf16", "compiled")
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow)
    reference = torch.zeros(8)
    seconds = []
    for _ in range(steps):
        ids = torch.randint(0, vocabulary, shape)
        if work == "s_dpo":
            ids[4:, :128] = ids[:4, :128]
        start = time.perf_counter()
        with autocast:
            if work == "s_dpo":
                margin = logp_of_answers(run, ids, 128) - reference
                loss = -torch.nn.functional.logsigmoid(0.1 * (margin[:4] - margin[4:])).mean()
            else:
                loss = run(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"step_seconds": statistics.median(seconds[2:]), "peak_bytes": peak}))


if __name__ == "__main__":
    if sys.argv[1] == "make_model":
        directory = pathlib.Path(sys.argv[2])
        large().save_pretrained(directory)
    else:
        main()
