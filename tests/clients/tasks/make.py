"""Writes questions.jsonl: 200 questions with one short answer and two wrong ones, from sums and everyday words.

    python -m tests.clients.tasks.make
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).with_name("questions.jsonl")
OPPOSITES = (
    "hot cold, big small, up down, day night, open shut, wet dry, early late, full empty, fast slow, hard soft, "
    "light dark, high low, old young, rich poor, left right, first last, long short, loud quiet, near far, "
    "strong weak, thick thin, happy sad, inside outside, push pull, give take, begin end, win lose, buy sell, "
    "clean dirty, sweet sour, true false, deep shallow, wide narrow, heavy light, smooth rough"
)
YOUNG = (
    "cat kitten, dog puppy, cow calf, sheep lamb, horse foal, hen chick, duck duckling, goat kid, bear cub, "
    "frog tadpole"
)
HOMES = "bird nest, bee hive, spider web, lion den, horse stable, cow barn, fish water, ant hill, pig sty, king castle"
COLOURS = (
    "grass green, snow white, coal black, blood red, a lemon yellow, a clear sky blue, a carrot orange, milk white"
)
PARTS = "see eyes, hear ears, smell nose, walk legs, taste tongue, think brain, bite teeth, hold hands"
CAPITALS = (
    "France Paris, Italy Rome, Spain Madrid, Japan Tokyo, Germany Berlin, Egypt Cairo, Greece Athens, Russia Moscow, "
    "China Beijing, England London, Ireland Dublin, Austria Vienna"
)
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
Row = tuple[str, str, list[str]]


def questions() -> list[dict[str, object]]:
    """The 200 rows; equal at every run."""
    draw = random.Random(4)
    rows = [*_sums(draw), *_words(draw)][:200]
    assert len(rows) == 200 and len({row[0] for row in rows}) == 200
    made = []
    for question, answer, wrong in rows:
        choices = [answer, *wrong]
        draw.shuffle(choices)
        made.append({"question": question, "choices": choices, "answer": choices.index(answer), "text": answer})
    return made


def _sums(draw: random.Random) -> Iterator[Row]:
    pairs = [(a, b) for a in range(1, 11) for b in range(1, 11)]
    draw.shuffle(pairs)
    for at, (a, b) in enumerate(pairs):
        match at % 3:
            case 0:
                question, answer = f"What is {a} plus {b}?", a + b
            case 1:
                question, answer = f"What is {a + b} minus {b}?", a
            case _:
                question, answer = f"What is {a} times {b}?", a * b
        yield question, str(answer), [str(answer + 1), str(answer + draw.choice((2, 3, 10)))]


def _words(draw: random.Random) -> Iterator[Row]:
    yield from _pairs(draw, OPPOSITES, "What is the opposite of {}?")
    yield from _pairs(draw, CAPITALS, "What is the capital of {}?")
    yield from _pairs(draw, YOUNG, "What is the young of a {} called?")
    yield from _pairs(draw, HOMES, "Where does a {} live?")
    yield from _pairs(draw, COLOURS, "Which colour has {}?")
    yield from _pairs(draw, PARTS, "With what do people {}?")
    for names, unit in ((DAYS, "day"), (MONTHS, "month")):
        for at, name in enumerate(names):
            following = names[(at + 1) % len(names)]
            wrong = draw.sample([other for other in names if other not in (name, following)], 2)
            yield f"Which {unit} comes after {name}?", following, wrong


def _pairs(draw: random.Random, text: str, question: str) -> Iterator[Row]:
    pairs = [pair.rpartition(" ")[::2] for pair in text.split(", ")]
    answers = sorted({answer for _, answer in pairs})
    for about, answer in pairs:
        others = [other for other in answers if other not in (about, answer)]
        yield question.format(about), answer, draw.sample(others, 2)


if __name__ == "__main__":
    FILE.write_text("".join(json.dumps(row) + "\n" for row in questions()))
