"""Which characters of a conversation are trained, for chat templates that do not mark the assistant's words themselves: what
Parlor finds, against the training templates that TRL has for the same families.

usage: check_masks.py [--exact] RENDERER

RENDERER: a program that is given `--masks` and a file of cases, a list of `source` (the stock template's text), `messages`,
`tools`, `kwargs` and `now`, and prints a line per case: `{"text": ..., "spans": [[start, end], ...]}`, in characters of the
rendered text, or `{"error": ...}`.

TRL has `NAME.jinja`, as published, and `NAME_training.jinja`, with `{% generation %}` blocks. What is compared:

1. Where both render the same text: the spans, those that touch as one. TRL's families differ in what they take in beside the
   words and the end-of-turn token, so of each span
   - the beginning may lie anywhere between TRL's and the end of the generation cue: what the template adds to the messages
     before by `add_generation_prompt`, as far as the text agrees with it, but without an opening of thoughts (`<think>`) at
     its end. TRL marks the line end after Qwen2.5's `assistant`, the whole header of DeepSeek, gpt-oss and Muse, and DeepSeek's
     end of the tools' outputs before it;
   - the ends must be equal but for white space: TRL marks the line end after the end-of-turn token in most families, and not
     the space after it in llava_next. Ours may also leave out `eos_token` at the very end of the text, after the last
     message's own end of turn (Phi), and the tag of the next role (GLM, whose end of turn it is).
   `--exact` allows none of this.
2. Where the texts differ: Qwen3's training templates keep thoughts in earlier turns, the stock ones drop them. Where
   RENDERER renders the training template's text, its spans as under 1, and else, of the stock template's text, the pieces
   that are trained, in order, TRL's with and without what is named above, without thoughts (`<think>...</think>`) and
   without white space around them.
3. Where the stock template refuses: that RENDERER refuses.

Conversations that the training template refuses are left out. Exits with 1 when anything differs.
"""

import argparse
import re

from chat_templates import SHOWN, SPECIAL, answers, expect, has_generation_blocks, in_parts, trl_templates
from make import conversations as talk

THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
OPENED = re.compile(r"<think>\s*(</think>\s*)?\Z")
# GLM stops at the next role's tag.
NEXT_ROLE = re.compile(r"<\|(user|observation|system)\|>\Z")

# TRL's template for DeepSeek-V3 spells arguments that are a text as a JSON text, the stock one as they are.
LEFT_OUT = {("deepseekv3", "string_arguments with tools")}

INLINE = [talk.user("2+2?"), talk.assistant("<think>\nAdd them.\n</think>\n\n4"), talk.user("3+3?"),
          talk.assistant("<think>\nAgain.\n</think>\n\n6")]


def conversations():
    """Name, messages, tools; each has a word of the assistant."""
    groups = {**talk.PLAIN, **talk.DISORDER, **talk.THINKING, "thoughts_inline": INLINE,
              "system_and_turns": [talk.system("Be brief."), *talk.PLAIN["answered"]],
              # What the user says is what the assistant says.
              "echo": [talk.user("Yes."), talk.assistant("Yes."), talk.user("Yes."), talk.assistant("Yes.")],
              "last_from_user": [*talk.PLAIN["answered"], talk.user("Blue.")]}
    for name, messages in groups.items():
        if any(message["role"] == "assistant" for message in messages):
            yield name, messages, None
    with_tools = {**talk.WITH_TOOLS, "parallel_calls": talk.PARALLEL, "string_arguments": talk.STRING_ARGUMENTS,
                  "thought_before_tool": talk.THINKING["thought_before_tool"]}
    for name, messages in with_tools.items():
        yield f"{name} with tools", messages, talk.TOOLS
    for name in ("answered", "turns"):
        yield f"{name} in parts", in_parts(talk.PLAIN[name]), None


def pairs():
    """Name, stock template, training template."""
    found = trl_templates()
    trained = [name.removesuffix("_training") for name in found if name.endswith("_training")]
    without = [name for name, source in found.items()
               if name not in trained and not name.endswith("_training") and not has_generation_blocks(source)]
    print(f"{len(trained)} families; without a training template, so not compared: {', '.join(without)}")
    return [(name, found[name], found[f"{name}_training"]) for name in trained]


def agreement(text, other):
    """How many characters two texts have in common from the start."""
    return next((i for i, (a, b) in enumerate(zip(text, other)) if a != b), min(len(text), len(other)))


def cues(source, text, messages, tools):
    """Where in `text` the generation cue before each of the assistant's messages ends."""
    ends = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            before = expect("", source, messages[:index], tools, True, SPECIAL)["expected"]
            if before is not None:
                ends.append(agreement(text, OPENED.sub("", before)))
    return ends


def joined(spans):
    """Spans in order, those that touch as one."""
    found = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1][1] = max(end, found[-1][1])
        elif start < end:
            found.append([start, end])
    return found


def core(text, span, cues):
    """A span of TRL's without the generation cue, `eos_token` after the end of turn, and the next role's tag."""
    start, end = span
    start = max([start, *(after for after in cues if start < after <= end)])
    words = text[start:end]
    if end == len(text):
        words = words.removesuffix(SPECIAL["eos_token"])
    return start, start + len(NEXT_ROLE.sub("", words))


def agree(text, ours, theirs, cues):
    """Whether two lists of spans of one text are the same but for what is named above."""
    if len(ours) != len(theirs):
        return False
    for (start, end), span in zip(ours, theirs):
        latest, inner = core(text, span, cues)
        ends = {start + len(text[start:at].rstrip()) for at in (span[1], inner)}
        if not span[0] <= start <= latest or start + len(text[start:end].rstrip()) not in ends:
            return False
    return True


def pieces(text, spans):
    """What is trained, without thoughts."""
    found = (THOUGHTS.sub("", text[start:end]).strip() for start, end in spans)
    return [piece for piece in found if piece]


def shown(text, spans):
    """The text with its spans in brackets."""
    out, at = "", 0
    for start, end in spans:
        out += f"{text[at:start]}⟦{text[start:end]}⟧"
        at = end
    return repr((out + text[at:])[-600:])


def difference(stock, training, answer, exact):
    """Why the answer is not what TRL trains; None where it is."""
    refused = answer.get("error")
    if stock["expected"] is None:
        return None if refused is not None else "rendered, but the stock template refuses"
    if refused is not None:
        return f"refused: {refused}"
    text = answer["text"]
    if text not in (stock["expected"], training["expected"]):
        return "another text than the reference renders; see check_templates.py"
    ours, theirs = joined(answer["spans"]), joined(training["assistant_spans"])
    ends = cues(training["source"], training["expected"], training["messages"], training["tools"])
    if training["expected"] == text:
        same = ours == theirs or not exact and agree(text, ours, theirs, ends)
    else:
        cores = [core(training["expected"], span, ends) for span in theirs]
        same = pieces(text, ours) in (pieces(training["expected"], theirs), pieces(training["expected"], cores))
    return None if same else (f"trained is not what TRL trains:\n    TRL    {shown(training['expected'], theirs)}\n"
                              f"    Parlor {shown(text, ours)}")


def main(renderer, exact):
    cases = []
    for name, stock, training in pairs():
        for conversation, messages, tools in conversations():
            theirs = expect(f"{name} on {conversation}", training, messages, tools, False, SPECIAL)
            if theirs["expected"] is not None and (name, conversation) not in LEFT_OUT:
                cases.append((expect(theirs["name"], stock, messages, tools, False, SPECIAL), theirs))
    given = [{key: stock[key] for key in ("name", "source", "messages", "tools", "kwargs", "now")} for stock, _ in cases]
    found = answers(renderer, given, "--masks")
    classes = {"the same text": [], "another text": [], "refused by the stock template": []}
    for (stock, training), answer in zip(cases, found):
        if stock["expected"] is None:
            kind = "refused by the stock template"
        else:
            kind = "the same text" if stock["expected"] == training["expected"] else "another text"
        classes[kind].append((stock["name"], difference(stock, training, answer, exact)))
    differences = []
    for kind, results in classes.items():
        wrong = [one for one in results if one[1]]
        print(f"{len(results) - len(wrong)} of {len(results)} masks equal: {kind}")
        differences += wrong
    for name, why in differences[:SHOWN]:
        print(f"- {name}: {why}")
    if len(differences) > SHOWN:
        print(f"and {len(differences) - SHOWN} more")
    raise SystemExit(1 if differences else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("renderer")
    arguments = parser.parse_args()
    main(arguments.renderer, arguments.exact)
