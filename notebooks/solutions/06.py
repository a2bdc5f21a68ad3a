# %% [ex:6.1]
from lorakit_helpers.exercises import check, hint


def chatml(messages: list[dict], add_generation_prompt: bool) -> str:
    """The chat as ChatML text."""
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return text + "<|im_start|>assistant\n" if add_generation_prompt else text


chatml = check("6.1", chatml)


# %% [ex:6.2]
def answers_only(ids: list[int], header: list[int], end: int) -> list[int]:
    """Labels that train every answer and the token that ends it."""
    labels, inside = [-100] * len(ids), False
    for i, token in enumerate(ids):
        inside = inside or ids[max(0, i - len(header)) : i] == header
        if inside:
            labels[i] = token
            inside = token != end
    return labels


answers_only = check("6.2", answers_only)


# %% [ex:6.3]
def packed(lengths: list[int], room: int) -> int:
    """How many sequences of `room` tokens first-fit decreasing needs."""
    left = []
    for n in sorted(lengths, reverse=True):
        fits = [i for i, free in enumerate(left) if free >= n]
        if fits:
            left[fits[0]] -= n
        else:
            left.append(room - n)
    return len(left)


packed = check("6.3", packed)


# %% [ex:6.4]
def smallest_max_length(lengths: list[int], share: float) -> int:
    """The smallest max_length that keeps at least this share of the rows whole."""
    return min(n for n in lengths if sum(m <= n for m in lengths) >= share * len(lengths))


smallest_max_length = check("6.4", smallest_max_length)


# %% [ex:6.5]
def without_control(text: str, tokens: list[str]) -> str:
    """The text without any of the control strings, however they were hidden in it."""
    while any(token in text for token in tokens):
        for token in tokens:
            text = text.replace(token, "")
    return text


without_control = check("6.5", without_control)
