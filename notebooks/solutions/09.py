# %% [ex:9.1]
from lorakit_helpers.exercises import check, hint


def general_needed(task_rows: int, share: float) -> int:
    """General rows so that they are `share` of all rows."""
    return round(task_rows * share / (1 - share))


general_needed = check("9.1", general_needed)


# %% [ex:9.2]
import math


def perplexity(nlls: list[list[float]]) -> float:
    """Perplexity over all tokens of all rows."""
    every = [x for row in nlls for x in row]
    return math.exp(sum(every) / len(every))


perplexity = check("9.2", perplexity)


# %% [ex:9.3]
def macro_f1(truth: list[str], guess: list[str]) -> float:
    """Mean F1 of the labels in truth."""
    found = []
    for label in set(truth):
        right = sum(t == g == label for t, g in zip(truth, guess, strict=True))
        found.append(2 * right / (truth.count(label) + guess.count(label)))
    return sum(found) / len(found)


macro_f1 = check("9.3", macro_f1)


# %% [ex:9.4]
def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p-value for wins against losses of a fair coin."""
    n = wins + losses
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(max(wins, losses), n + 1)) / 2**n)


sign_test = check("9.4", sign_test)


# %% [ex:9.5]
def longest_run(output: list[int], source: list[int]) -> int:
    """Length of the longest common run of tokens."""
    best = 0
    for i in range(len(output)):
        for j in range(len(source)):
            n = 0
            while i + n < len(output) and j + n < len(source) and output[i + n] == source[j + n]:
                n += 1
            best = max(best, n)
    return best


longest_run = check("9.5", longest_run)
