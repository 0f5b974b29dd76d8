"""A tool that every client is given: its schema is small, so that a small model's call of it is soon complete."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

City = Literal["Oslo", "Rome", "Cairo"]
CITIES = get_args(City)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": list(CITIES)}, "days": {"type": "integer", "enum": [1, 2, 3]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
QUESTION = "What will the weather be in Rome in the next 2 days?"


class Forecast(BaseModel):
    """What the tool is asked for; validates what a model wrote."""

    model_config = ConfigDict(extra="forbid")

    city: City
    days: Literal[1, 2, 3]
