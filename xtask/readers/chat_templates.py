"""What the checks of chat templates share: the templates of the installed `trl`, the reference's rendering, and the program
that is compared with it."""

import datetime
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import jinja2

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "fixtures"))

from make.templates import NOW, frozen_clock, render  # noqa: E402

SPECIAL = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>", "unk_token": "<|unk|>"}
# How much of two texts is shown around the place where they part.
CONTEXT = 60
SHOWN = 20


def trl_templates():
    """Name and source of each chat template inside the installed `trl`."""
    [package] = importlib.util.find_spec("trl").submodule_search_locations
    paths = sorted((pathlib.Path(package) / "chat_templates").glob("*.jinja"))
    if not paths:
        sys.exit("the installed trl has no chat_templates/*.jinja: is it trl==1.16.0 of requirements.txt?")
    # As TRL and a tokenizer's file have them: without a change of line ends.
    return {path.stem: path.read_bytes().decode() for path in paths}


def has_generation_blocks(source):
    return re.search(r"\{%-?\s*generation\s*-?%\}", source) is not None


def in_parts(messages):
    """The same conversation with each content as a list of one part."""
    return [{**message, "content": [{"type": "text", "text": message["content"]}]}
            if isinstance(message.get("content"), str) else message for message in messages]


def expect(name, source, messages, tools, add_generation_prompt, kwargs, now=NOW):
    """A case: what is rendered, and what the reference makes of it. `error` holds the words of `raise_exception`, and is
    empty where Python itself stops, whose words are not compared."""
    text = spans = error = None
    try:
        with frozen_clock(now):
            text, spans = render(source, messages, tools, add_generation_prompt, kwargs)
    except Exception as raised:  # noqa: BLE001 - whatever stops the reference is a refusal
        error = str(raised) if type(raised) is jinja2.exceptions.TemplateError else ""
    return {"name": name, "source": source, "messages": messages, "tools": tools,
            "add_generation_prompt": add_generation_prompt, "kwargs": kwargs, "now": now.isoformat(),
            "expected": text, "error": error, "assistant_spans": spans}


def answers(renderer, cases, *flags):
    """What RENDERER says of each case: a JSON object a line."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "cases.json"
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
        path.write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")
        out = subprocess.run([renderer, *flags, str(path)], capture_output=True)
    if out.returncode != 0:
        sys.exit(f"{renderer} ended with {out.returncode}: {out.stderr.decode(errors='replace')[-2000:]}")
    # Not `splitlines`: a text may hold other line separators as they are.
    found = [json.loads(line) for line in out.stdout.decode().split("\n") if line]
    if len(found) != len(cases):
        sys.exit(f"{renderer} gave {len(found)} answers to {len(cases)} cases")
    return found


def parting(ours, theirs):
    """The surroundings of the first character at which two texts differ."""
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    start = max(at - CONTEXT, 0)
    return (f"at character {at}:\n    reference {theirs[start:at + CONTEXT]!r}\n"
            f"    Parlor    {ours[start:at + CONTEXT]!r}")


def difference(case, answer):
    """Why `answer` is not what the reference makes of `case`; None where it is."""
    refused = answer.get("error")
    if case["error"] is not None:
        if refused is None:
            return f"rendered as {answer['text'][:200]!r}, but the reference refuses: {case['error'] or 'an error'}"
        if case["error"] not in refused:
            return f"refused with {refused!r}, without the template's words {case['error']!r}"
        return None
    if refused is not None:
        return f"refused: {refused}\n    reference {case['expected'][:200]!r}"
    if answer["text"] != case["expected"]:
        return parting(answer["text"], case["expected"])
    if case["assistant_spans"] is not None and answer.get("spans") != case["assistant_spans"]:
        return f"generation blocks at {answer.get('spans')}, but the reference has {case['assistant_spans']}"
    return None


def report(what, total, differences):
    """Prints the summary and the first differences, and ends the program."""
    print(f"{total - len(differences)} of {total} {what} equal")
    for name, why in differences[:SHOWN]:
        print(f"- {name}: {why}")
    if len(differences) > SHOWN:
        print(f"and {len(differences) - SHOWN} more")
    sys.exit(1 if differences else 0)


def moment(text):
    return datetime.datetime.fromisoformat(text)
