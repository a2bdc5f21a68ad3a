# %% [ex:5.1]
from lorakit_helpers.exercises import check, hint

NAMES = {"system": "system", "human": "user", "gpt": "assistant"}


def to_messages(row: dict) -> list[dict]:
    """The turns of a ShareGPT row as {"role", "content"}."""
    return [{"role": NAMES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]


to_messages = check("5.1", to_messages)


# %% [ex:5.2]
def padding_share(lengths: list[int], batch_size: int) -> float:
    """Share of the computed tokens that is padding, batches taken in order."""
    batches = [lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size)]
    return 1 - sum(lengths) / sum(max(batch) * len(batch) for batch in batches)


padding_share = check("5.2", padding_share)


# %% [ex:5.3]
def leaks(train: list[str], test: list[str]) -> list[int]:
    """Indices of test prompts that stand in train as well, without regard to case and spaces."""
    known = {" ".join(prompt.lower().split()) for prompt in train}
    return [i for i, prompt in enumerate(test) if " ".join(prompt.lower().split()) in known]


leaks = check("5.3", leaks)


# %% [ex:5.4]
def contradictions(rows: list[tuple[str, str]]) -> list[str]:
    """Prompts (lower case, single spaces) with more than one answer, sorted; rows are (prompt, answer)."""
    answers = {}
    for prompt, answer in rows:
        answers.setdefault(" ".join(prompt.lower().split()), set()).add(answer)
    return sorted(prompt for prompt, given in answers.items() if len(given) > 1)


contradictions = check("5.4", contradictions)


# %% [ex:5.5]
def distinct(texts: list[str], n: int) -> float:
    """Different runs of n words over all runs of n words, in lower case, none across two texts."""
    words = [text.lower().split() for text in texts]
    grams = [tuple(one[i : i + n]) for one in words for i in range(len(one) - n + 1)]
    return len(set(grams)) / len(grams)


distinct = check("5.5", distinct)
