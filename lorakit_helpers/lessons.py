"""The course's thirteen notebooks: titles, times, and which of them are in this folder."""

from dataclasses import dataclass
from pathlib import Path

from .files import project_root

__all__ = ["LESSONS", "Lesson", "lessons_table", "running_order"]


@dataclass(frozen=True)
class Lesson:
    """One notebook.

    Attributes:
        stem: file name without ending.
        title: what it teaches.
        minutes: on the ``cpu`` profile; planned for lessons that are not here.
        uses: number of a lesson whose result it shows where there is one; it runs without it, too.
    """

    stem: str
    title: str
    minutes: int
    uses: str = ""


LESSONS = (
    Lesson("00_start_here", "Check-up, map, first look at the base model", 1),
    Lesson("01_prompt_rag_or_finetune", "Prompting, RAG or fine-tuning, measured on the same questions", 7, uses="07"),
    Lesson("02_vram_math", "Where the memory goes", 1),
    Lesson("03_low_rank_and_lora", "LoRA by hand, equal to peft", 2, uses="07"),
    Lesson("04_quantization_and_qlora", "NF4 by hand, equal to bitsandbytes", 1),
    Lesson("05_prepare_your_dataset", "Formats, linting, splits", 7),
    Lesson("06_chat_templates_and_lengths", "Templates, masks, lengths", 3, uses="07"),
    Lesson("07_train_with_qlora", "Train the ticket adapter, before and after", 14),
    Lesson("08_hyperparameter_lab", "What each knob does", 1),
    Lesson("09_evaluate", "Is it really better?", 8, uses="07"),
    Lesson("10_merge_swap_export", "Merge, swap, GGUF, serve", 8, uses="07"),
    Lesson("11_pitfalls_clinic", "Fourteen pitfalls, caused and cured", 8),
    Lesson("12_scale_up", "Larger models and GPUs", 6),
)


def lessons_table() -> str:
    """The map as a Markdown table; a lesson that is in the folder is linked and marked *here*."""
    folder = project_root() / "notebooks"
    lines = ["| lesson | what you do | minutes (cpu profile) | |", "|---|---|---|---|"]
    for lesson in LESSONS:
        here = (folder / f"{lesson.stem}.ipynb").is_file()
        name = f"[{lesson.stem}]({lesson.stem}.ipynb)" if here else lesson.stem
        lines.append(f"| {name} | {lesson.title} | about {lesson.minutes} | {'here' if here else 'planned'} |")
    return "\n".join(lines)


def running_order(paths: list[Path]) -> list[Path]:
    """Notebooks in the order in which running them all shows the most: after the lesson whose result they use, else by number.

    Example:
        >>> [path.name[:2] for path in running_order([Path("03_low_rank_and_lora.ipynb"), Path("07_train_with_qlora.ipynb")])]
        ['07', '03']
    """
    uses = {lesson.stem: lesson.uses for lesson in LESSONS}

    def place(path):
        number, used = path.stem[:2], uses.get(path.stem, "")
        return max(number, used), number < used, number

    return sorted(paths, key=place)
