"""Texts of others and moments, made fit to be shown."""

from __future__ import annotations

import time

from toolkit.units import duration

__all__ = ["ago", "clean", "duration", "moment", "printable"]


def clean(text: str) -> str:
    """The text without halves of characters, which no answer could carry."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str) -> str:
    """A line in which characters that would steer a terminal, or turn a text around, are spelled out."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\t" else ascii(sign)[1:-1] for sign in text)


def moment(seconds: float | None) -> str:
    """A time of day, with the date where it was not today."""
    if seconds is None:
        return "at an unknown time"
    try:
        when, today = time.localtime(seconds), time.localtime()
    except (ValueError, OverflowError, OSError):
        return "at an unknown time"
    return time.strftime("%H:%M" if when[:3] == today[:3] else "%Y-%m-%d %H:%M", when)


def ago(seconds: float) -> str:
    """How long something has been continuing."""
    return duration(max(0.0, seconds))
