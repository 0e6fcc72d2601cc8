"""Renders the chat templates inside the installed `trl`, times the conversations of the fixtures, with `transformers` and with
Parlor, and compares texts, refusals and generation blocks.

usage: check_templates.py [--cases FILE] RENDERER
       check_templates.py --snippets FILE --messages FILE [--now TIME] RENDERER

RENDERER: a program that is given a file of cases, as fixtures/templates/cases.json but with the template's text as
`source`, and prints a line per case: `{"text": ..., "spans": [[start, end], ...]}`, in characters, or `{"error": ...}`.
--cases: also leaves the cases and the reference's answers in FILE. --snippets: small templates, JSON Lines of
`{"template": ..., "want": text or null}`, rendered with the messages of the other file; `want` must be what the installed
`transformers` makes of them, and what RENDERER does. Exits with 1 when anything differs.
"""

import argparse
import json
import pathlib

from chat_templates import NOW, SPECIAL, answers, difference, expect, in_parts, moment, report, trl_templates
from make import conversations as talk
from transformers.utils.chat_template_utils import _get_template_variables

# Variables that only some templates read, and what to set them to; tried where the template names them.
VARIABLES = {
    "add_vision_id": [True],
    "builtin_tools": [["browser", "python"], ["code_interpreter"]],
    "current_date": ["2025-05-06"],
    "custom_tools": [[talk.CLOCK]],
    "date_string": ["26 Jul 2024"],
    "enable_thinking": [True, False],
    "keep_past_thinking": [True],
    "knowledge_cutoff": ["2025-01"],
    "low_effort": [True],
    "medium_effort": [True],
    "model_identity": ["You are Parlor's test."],
    "preserve_thinking": [True, False],
    "reasoning_effort": ["low", "high", "none"],
    "reasoning_strength": ["low"],
    "tool_namespace_descriptions": [{"clock": "Tells the time."}],
    "tools_in_user_message": [False],
    "truncate_history_thinking": [False],
}

# A user part that no text-only template knows, as chat clients send it.
PARTS = {
    "parts": (talk.PARTS, None),
    "unknown_part": (talk.UNKNOWN_PART, None),
    "turns_in_parts": (in_parts(talk.PLAIN["turns"]), None),
    "answered_in_parts": (in_parts(talk.PLAIN["answered"]), None),
    "tool_turn_in_parts": (in_parts(talk.WITH_TOOLS["tool_turn"]), talk.TOOLS),
}


def conversations():
    """Name, messages, tools."""
    for name, messages in {**talk.PLAIN, **talk.DISORDER, **talk.THINKING}.items():
        yield name, messages, None
    with_tools = {**talk.WITH_TOOLS, "parallel_calls": talk.PARALLEL, "string_arguments": talk.STRING_ARGUMENTS,
                  "short_id": talk.SHORT_ID}
    for name, messages in with_tools.items():
        yield name, messages, talk.TOOLS
        yield f"{name} without tools", messages, None
    yield "no tools", talk.PLAIN["turns"], []
    yield "thought_before_tool with tools", talk.THINKING["thought_before_tool"], talk.TOOLS
    yield "only_system", [talk.system("Use tools.")], [talk.CLOCK]
    yield "developer", [{"role": "developer", "content": "Be brief."}, talk.user("Hi.")], None
    yield "no_content", [{"role": "user"}], None
    for name, (messages, tools) in PARTS.items():
        yield name, messages, tools


def cases():
    """Every case, with the reference's answer."""
    found = []
    for style, source in trl_templates().items():
        for name, messages, tools in conversations():
            for prompt in (False, True):
                found.append(expect(f"{style} on {name}{' with prompt' if prompt else ''}", source, messages, tools,
                                    prompt, SPECIAL))
        for variable in sorted(_get_template_variables(source) & VARIABLES.keys()):
            for value in VARIABLES[variable]:
                kwargs = {**SPECIAL, variable: value}
                for name, messages, tools, prompt in [
                        ("hello", talk.PLAIN["hello"], None, True),
                        ("last_thought", talk.THINKING["last_thought"], None, False),
                        ("past_thought", talk.THINKING["past_thought"], None, True),
                        ("tool_turn", talk.WITH_TOOLS["tool_turn"], talk.TOOLS, True)]:
                    found.append(expect(f"{style} on {name}, {variable}={value!r}", source, messages, tools, prompt,
                                        kwargs))
    return found


def check_templates(renderer, kept):
    made = cases()
    if kept:
        pathlib.Path(kept).write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8", newline="\n")
    refused = sum(case["error"] is not None for case in made)
    styles = len({case["source"] for case in made})
    print(f"{len(made)} renderings of {styles} templates, {refused} of them refusals")
    found = ((case["name"], difference(case, answer)) for case, answer in zip(made, answers(renderer, made)))
    report("template renderings", len(made), [(name, why) for name, why in found if why])


def check_snippets(renderer, snippets, messages, now):
    # One snippet a line; line separators other than \n stand inside texts.
    rows = [json.loads(line) for line in pathlib.Path(snippets).read_text(encoding="utf-8").split("\n") if line]
    messages = json.loads(pathlib.Path(messages).read_text(encoding="utf-8"))
    made = [expect(row["template"], row["template"], messages, None, False, {}, now) for row in rows]
    stale = [(row["template"], f"the file wants {row['want']!r}, the reference gives {case['expected']!r}")
             for row, case in zip(rows, made) if row["want"] != case["expected"]]
    if stale:
        report("wants of the file and the reference are", len(rows), stale)
    found = ((repr(case["name"]), difference(case, answer)) for case, answer in zip(made, answers(renderer, made)))
    report("snippets", len(made), [(name, why) for name, why in found if why])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("renderer")
    parser.add_argument("--cases")
    parser.add_argument("--snippets")
    parser.add_argument("--messages")
    parser.add_argument("--now", type=moment, default=NOW)
    given = parser.parse_args()
    if (given.snippets is None) != (given.messages is None):
        parser.error("--snippets and --messages are given together")
    if given.snippets:
        check_snippets(given.renderer, given.snippets, given.messages, given.now)
    else:
        check_templates(given.renderer, given.cases)
