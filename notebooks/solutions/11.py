# %% [ex:11.1]
from lorakit_helpers.exercises import check, hint


def cut_and_dropped(lengths: list[int], prompts: list[int], limit: int) -> tuple[int, int]:
    """How many rows lose the end of their answer, and how many the whole of it."""
    dropped = sum(prompt >= limit for prompt in prompts)
    return sum(length > limit for length in lengths) - dropped, dropped


cut_and_dropped = check("11.1", cut_and_dropped)


# %% [ex:11.2]
def mask_after(ids: list[int], marker: list[int]) -> list[int]:
    """Labels: -100 up to the end of the marker's last place, then the ids."""
    places = [i for i in range(len(ids)) if ids[i : i + len(marker)] == marker]
    if not places:
        return [-100] * len(ids)
    start = places[-1] + len(marker)
    return [-100] * start + ids[start:]


mask_after = check("11.2", mask_after)


# %% [ex:11.3]
def eval_rows(free: int, length: int, vocabulary: int) -> int:
    """Rows whose fp32 logits fit in so many bytes."""
    return free // (4 * length * vocabulary)


eval_rows = check("11.3", eval_rows)


# %% [ex:11.4]
def leaked(train: list[str], test: list[str]) -> float:
    """Share of the test texts that are in the training texts, whatever their case and spaces."""
    known = {" ".join(text.casefold().split()) for text in train}
    return sum(" ".join(text.casefold().split()) in known for text in test) / len(test)


leaked = check("11.4", leaked)


# %% [ex:11.5]
def above_trivial(right: list[bool], labels: list[str]) -> float:
    """Accuracy above what always giving the most frequent label gets."""
    return sum(right) / len(right) - max(labels.count(label) for label in labels) / len(labels)


above_trivial = check("11.5", above_trivial)
