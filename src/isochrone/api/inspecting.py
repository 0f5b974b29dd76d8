"""What the compiler makes of a model, stage by stage, as text and as data."""

from __future__ import annotations


