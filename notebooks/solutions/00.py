# %% [ex:0.1]
import json

from lorakit_helpers.exercises import check, hint
from lorakit_helpers.tickets import KEYS


def is_valid(text: str) -> bool:
    """Whether a program can read the text as an answer."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and tuple(value) == KEYS


is_valid = check("0.1", is_valid)


# %% [ex:0.2]
def share(flags: list[bool]) -> float:
    """The share of True values."""
    return sum(flags) / len(flags) if flags else 0.0


share = check("0.2", share)
