"""What all tests of this room share."""

import os

import pytest


@pytest.fixture(autouse=True)
def nothing_waits_for_the_disk(monkeypatch):
    """A power cut cannot be tested here, and on a busy disk each fsync would take a second."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
