"""The rows a job trains on and those it measures the loss on: the course's own data, or a chat file of any known format."""

from pathlib import Path

from ..errors import LorakitError, did_you_mean
from ..profiles import get_profile
from .job import Job

__all__ = ["job_rows"]

_COURSE_DATA = ("tickets", "plain_style")


def job_rows(job: Job) -> tuple[list[dict], list[dict]]:
    """The rows to train on and those to measure the loss on, as ``{"prompt": messages, "completion": [one message]}``.

    Raises:
        LorakitError: for a file that cannot be read, or a row that does not end with the assistant's answer.
    """
    rows = _rows_of(job.data, "data")
    limit = job.rows or (get_profile(job.profile).train_rows if job.profile and job.data in _COURSE_DATA else None)
    rows = rows[:limit]
    if isinstance(job.validation, str):
        return rows, _rows_of(job.validation, "validation")
    if job.validation is None:
        return rows, []
    from ..data import split_rows

    parts = split_rows(rows, validation=job.validation, test=0, seed=job.seed)
    return parts.train, parts.validation


def _rows_of(name: str, key: str) -> list[dict]:
    if name == "tickets":
        from ..tickets import load_split, to_conversation

        return [to_conversation(ticket) for ticket in load_split("train")]
    if name == "plain_style":
        from .. import plain_style

        return [plain_style.to_conversation(pair) for pair in plain_style.load_split("train")]
    if not Path(name).exists():
        raise LorakitError(
            f"job, {key}", got=f"{name!r}, no such file", expected="tickets, plain_style, or a .jsonl or .json file",
            do=did_you_mean(name, _COURSE_DATA, "Check the path; it is relative to the folder this was started in."),
        )  # fmt: skip
    from ..data import as_messages, detect_format, iter_rows

    numbered = list(iter_rows(name))
    format = detect_format(row for _, row in numbered).format
    return [_to_completion(as_messages(row, format, f"{name}, line {line}"), f"{name}, line {line}") for line, row in numbered]


def _to_completion(row: dict, where: str) -> dict:
    """Everything before the last turn is the prompt; the last turn, the assistant's, is what is trained."""
    turns = [{"role": turn["role"], "content": turn.get("content") or ""} for turn in row["messages"]]
    last = turns[-1]["role"] if turns else "nothing"
    if last != "assistant" or len(turns) < 2 or any(turn.get("tool_calls") for turn in row["messages"]):
        tools = any(turn.get("tool_calls") for turn in row["messages"])
        raise LorakitError(
            where, got="tool calls" if tools else f"a chat of {len(turns)} turns that ends with {last}",
            expected="a prompt and then the assistant's answer in text", do="Mend the row; `lorakit lint` shows all such rows.",
        )  # fmt: skip
    return {"prompt": turns[:-1], "completion": turns[-1:]}
