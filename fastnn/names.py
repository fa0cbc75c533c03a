"""Names that users type: looking them up, and saying which one was probably meant."""

from __future__ import annotations


def unknown(what: str, name: str, known) -> ValueError:
    """The error for a name that nothing bears, with the nearest one suggested."""
    import difflib

    known = list(known)
    low = str(name).lower()
    near = [k for k in known if low and k.startswith(low)]
    near = near or difflib.get_close_matches(low, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {what} {name!r}{hint} Known: {', '.join(map(repr, known))}")
