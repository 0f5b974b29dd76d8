"""Answers as models of each family write them, with what a caller must see of them."""

from __future__ import annotations

from dataclasses import dataclass

from isochrone.text.tools import Called, Dialect, Opening, Parser, Piece, Said, Thought
from isochrone.text.tools.forced import Forced
from isochrone.text.tools.gemma import FUNCTION_GEMMA, GEMMA_4
from isochrone.text.tools.harmony import Harmony
from isochrone.text.tools.hermes import Hermes
from isochrone.text.tools.llama import Llama
from isochrone.text.tools.mistral import Mistral
from isochrone.text.tools.thinking import Thinking

NAMES = frozenset({"get_weather", "now"})
THINK = Thinking("<think>", "</think>")
HERMES, QWEN_3 = Dialect(Hermes(), None, True), Dialect(Hermes(), THINK, True)
LLAMA, FORCED = Dialect(Llama(), None, True), Dialect(Forced(), None, False)
MISTRAL_LIST, MISTRAL_NAMED = Dialect(Mistral(named=False), None, True), Dialect(Mistral(named=True), None, True)
GEMMA, GEMMA_WITH_THOUGHTS = (
    Dialect(FUNCTION_GEMMA, None, True),
    Dialect(GEMMA_4, Thinking("<|channel>", "<channel|>", "thought"), True),
)
HARMONY = Dialect(Harmony(), None, True)

BONN = '{"city": "Bonn", "days": 3}'
NASTY = '{"city": "a \\"}]{ <tool_call> \\\\", "days": -1}'


@dataclass(frozen=True, slots=True)
class Golden:
    """id  what it shows;  pieces  as they are once joined"""

    id: str
    dialect: Dialect
    text: str
    pieces: list[Piece]
    opening: Opening = "may"

    def parser(self) -> Parser:
        parser = self.dialect.parser(NAMES, self.opening)
        assert parser is not None
        return parser


def call(arguments: str, name: str = "get_weather", key: str = "arguments") -> str:
    return f'{{"name": "{name}", "{key}": {arguments}}}'


def tagged(inner: str) -> str:
    return f"<tool_call>\n{inner}\n</tool_call>"


def weather(index: int, arguments: str = BONN) -> Called:
    return Called(index, "get_weather", arguments)


_ANALYSIS = "<|channel|>analysis<|message|>Look it up.<|end|><|start|>assistant"
_TO_WEATHER = "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"

GOLDEN = [
    Golden("hermes words", HERMES, "It is warm.\n", [Said("It is warm.\n")]),
    Golden("hermes call", HERMES, tagged(call(BONN)), [weather(0)]),
    Golden("hermes words, call", HERMES, f"Let me see.\n\n{tagged(call(BONN))}\n", [Said("Let me see."), weather(0)]),
    Golden(
        "hermes two calls", HERMES, f"{tagged(call(BONN))}\n{tagged(call('{}', 'now'))}",
        [weather(0), Called(1, "now", "{}")],
    ),
    Golden("hermes nasty texts", HERMES, tagged(call(NASTY)), [weather(0, NASTY)]),
    Golden("hermes arguments first", HERMES, tagged(f'{{"arguments": {BONN}, "name": "get_weather"}}'), [weather(0)]),
    Golden(
        "hermes arguments as a text", HERMES, tagged('{"name": "now", "arguments": "{\\"a\\": 1}"}'),
        [Called(0, "now", '{"a": 1}')],
    ),
    Golden("hermes no arguments", HERMES, tagged('{"name": "now"}'), [Called(0, "now", "{}")]),
    Golden("hermes null arguments", HERMES, tagged('{"name": "now", "arguments": null}'), [Called(0, "now", "{}")]),
    Golden(
        "hermes unknown tool", HERMES, tagged(call("{}", "rm")), [Said(tagged(call("{}", "rm")))],
    ),
    Golden("hermes no JSON", HERMES, "<tool_call>later</tool_call>", [Said("<tool_call>later</tool_call>")]),
    Golden(
        "hermes broken, then right", HERMES, f"<tool_call>{tagged(call(BONN))}", [Said("<tool_call>"), weather(0)]
    ),
    Golden("hermes a bracket", HERMES, "a <b <tool_cal", [Said("a <b <tool_cal")]),
    Golden("hermes cut in the name", HERMES, '<tool_call>\n{"name": "get_w', [Said('<tool_call>\n{"name": "get_w')]),
    Golden(
        "hermes cut in the arguments", HERMES, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bo',
        [weather(0, '{"city": "Bo')],
    ),
    Golden(
        "qwen thought, words", QWEN_3, "<think>\nHm, 1 < 2.\n</think>\n\nYes.", [Thought("Hm, 1 < 2."), Said("Yes.")]
    ),
    Golden("qwen opened thought", QWEN_3, "\nHm.\n</think>\n\nYes.", [Thought("Hm."), Said("Yes.")], "open"),
    Golden("qwen unfinished thought", QWEN_3, "<think>\nHm, ", [Thought("Hm,")]),
    Golden("qwen no thought", QWEN_3, "  Yes <think>.", [Said("  Yes <think>.")]),
    Golden("qwen closed thought", QWEN_3, "<think>Yes", [Said("<think>Yes")], "no"),
    Golden(
        "qwen thought, call", QWEN_3, f"<think>\n</think>\n\n{tagged(call(BONN))}", [weather(0)],
    ),
    Golden("llama call", LLAMA, call(BONN, key="parameters"), [weather(0)]),
    Golden("llama python tag", LLAMA, f"<|python_tag|>{call(BONN, key='parameters')}", [weather(0)]),
    Golden(
        "llama two calls", LLAMA, f"{call(BONN, key='parameters')}; {call('{}', 'now', 'parameters')}",
        [weather(0), Called(1, "now", "{}")],
    ),
    Golden("llama words", LLAMA, '\n Sure: {"name": "now"} ', [Said('\n Sure: {"name": "now"} ')]),
    Golden("llama JSON that is no call", LLAMA, '{"name": "Ada", "age": 7}', [Said('{"name": "Ada", "age": 7}')]),
    Golden("forced call", FORCED, call(BONN), [weather(0)]),
    Golden("forced two calls", FORCED, f"{call(BONN)}\n{call(BONN)}", [weather(0), weather(1)]),
    Golden("forced words", FORCED, "Fine.", [Said("Fine.")]),
    Golden(
        "mistral list", MISTRAL_LIST, f"[TOOL_CALLS][{call(BONN)}, {call('{}', 'now')}]",
        [weather(0), Called(1, "now", "{}")],
    ),
    Golden("mistral spaced list", MISTRAL_LIST, f"[TOOL_CALLS] [{call(BONN)}]", [weather(0)]),
    Golden("mistral words", MISTRAL_LIST, "See [1].", [Said("See [1].")]),
    Golden(
        "mistral named", MISTRAL_NAMED, f"Now.[TOOL_CALLS]get_weather[ARGS]{NASTY}[TOOL_CALLS]now[ARGS]{{}}",
        [Said("Now."), weather(0, NASTY), Called(1, "now", "{}")],
    ),
    Golden("mistral id", MISTRAL_NAMED, f"[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{BONN}", [weather(0)]),
    Golden("mistral no mark", MISTRAL_NAMED, f"[TOOL_CALLS]get_weather{BONN}", [weather(0)]),
    Golden("mistral unknown", MISTRAL_NAMED, "[TOOL_CALLS]rm[ARGS]{}", [Said("[TOOL_CALLS]rm[ARGS]{}")]),
    Golden("mistral cut", MISTRAL_NAMED, "[TOOL_CALLS]get_we", [Said("[TOOL_CALLS]get_we")]),
    Golden(
        "gemma call", GEMMA,
        "<start_function_call>call:get_weather{city:<escape>Bonn<escape>,days:3}<end_function_call>", [weather(0)],
    ),
    Golden(
        "gemma nested", GEMMA,
        "<start_function_call>call:now{a:[1,true,{b:null}],c:<escape>x \"y\"\n<z<escape>}<end_function_call>",
        [Called(0, "now", '{"a": [1, true, {"b": null}], "c": "x \\"y\\"\\n<z"}')],
    ),
    Golden("gemma unquoted", GEMMA, "<start_function_call>call:now{a:Bonn}<end_function_call>",
           [Called(0, "now", '{"a": "Bonn"}')]),
    Golden(
        "gemma two calls", GEMMA,
        "<start_function_call>call:now{}<end_function_call><start_function_call>call:now{}<end_function_call>",
        [Called(0, "now", "{}"), Called(1, "now", "{}")],
    ),
    Golden("gemma unknown", GEMMA, "<start_function_call>call:rm{}", [Said("<start_function_call>call:rm{}")]),
    Golden(
        "gemma 4 thought, call", GEMMA_WITH_THOUGHTS,
        '<|channel>thought\nLook.<channel|><|tool_call>call:get_weather{city:<|"|>Bonn<|"|>,days:3}<tool_call|>',
        [Thought("Look."), weather(0)],
    ),
    Golden("harmony words", HARMONY, "<|channel|>final<|message|>Warm.<|return|>", [Said("Warm.")]),
    Golden(
        "harmony thought, words", HARMONY, f"{_ANALYSIS}<|channel|>final<|message|>Warm.",
        [Thought("Look it up."), Said("Warm.")],
    ),
    Golden(
        "harmony thought, call", HARMONY, f"{_ANALYSIS}{_TO_WEATHER}{BONN}<|call|>",
        [Thought("Look it up."), weather(0)],
    ),
    Golden(
        "harmony recipient in the role", HARMONY,
        f" to=functions.get_weather<|channel|>commentary json<|message|>{BONN}<|call|>", [weather(0)],
    ),
    Golden(
        "harmony preamble", HARMONY,
        f"<|channel|>commentary<|message|>One moment.<|end|><|start|>assistant{_TO_WEATHER}{BONN}",
        [Said("One moment."), weather(0)],
    ),
    Golden("harmony without a header", HARMONY, "Warm.", [Said("Warm.")]),
]  # fmt: skip
