"""Errors for unknown names, with the known name that was probably meant."""

from __future__ import annotations


def unknown(what: str, name: str, known) -> ValueError:
    """ValueError for an unknown name, with the closest match."""
    import difflib

    known = list(known)
    lower = str(name).lower()
    matches = [k for k in known if lower and k.lower().startswith(lower)]
    matches = matches or difflib.get_close_matches(lower, known, n=1, cutoff=0.5)
    hint = f"; did you mean {matches[0]!r}?" if matches else "."
    return ValueError(f"unknown {what} {name!r}{hint} Known: {', '.join(map(repr, known))}")
