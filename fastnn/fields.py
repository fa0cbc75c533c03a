"""The types of the values of a description in a file, which nobody may trust."""

from __future__ import annotations

from .files import shown

#: Types that a value may have. They are exact: a boolean is not a number.
NULL = type(None)
BOOL, INT, NUMBER, STR, LIST = (bool,), (int,), (int, float), (str,), (list,)
STR_OR_OBJECT, OBJECT_OR_NULL = (str, dict), (dict, NULL)
NUMBER_OR_OBJECT, NUMBER_OR_STR = (int, float, dict), (int, float, str)
STR_OR_NULL, LIST_OR_NULL = (str, NULL), (list, NULL)
INT_OR_NULL, NUMBER_OR_NULL, OBJECT = (int, NULL), (int, float, NULL), (dict,)
EXPECTED = {
    BOOL: "true or false", INT: "a whole number", NUMBER: "a number", STR: "text",
    LIST: "a list", STR_OR_OBJECT: "text or an object", OBJECT_OR_NULL: "an object or null",
    STR_OR_NULL: "text or null", LIST_OR_NULL: "a list or null",
    NUMBER_OR_OBJECT: "a number or an object", INT_OR_NULL: "a whole number or null",
    NUMBER_OR_NULL: "a number or null", NUMBER_OR_STR: "a number or text", OBJECT: "an object",
}  # fmt: skip

#: Most characters of a name in a description.
_MAX_NAME = 100


def check_fields(
    given: dict, types: dict[str, tuple], place: str, complete=True, longest: int = _MAX_NAME
) -> None:
    """Refuse unknown keys, values of another type, long names, and missing keys.

    Raises
    ------
    ValueError
    """
    for key, value in given.items():
        if key not in types:
            raise ValueError(f"{place} has the key {shown(key)}, which this fastnn does not know")
        if type(value) not in types[key]:
            raise ValueError(f"{place}: {key} must be {EXPECTED[types[key]]}, not {shown(value)}")
        if type(value) is str and len(value) > longest:
            raise ValueError(f"{place}: {key} has {len(value)} characters, more than {longest}")
    missing = sorted(types.keys() - given.keys())
    if complete and missing:
        raise ValueError(f"{place} lacks {', '.join(missing)}")
