"""The course's thirteen notebooks: titles, times, which of them are in this folder, and how far the learner is in each."""

from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from .files import project_root
from .htmlpage import html_table
from .progress import Progress, read_progress, recording

__all__ = ["LESSONS", "Lesson", "LessonProgress", "lesson_progress", "progress_map", "running_order"]


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
    Lesson("12_scale_up", "Larger models and GPUs, your own data", 3, uses="07"),
)


@dataclass(frozen=True)
class LessonProgress:
    """How far the learner is in one lesson.

    Attributes:
        lesson: which one.
        right, exercises: exercises solved, and how many it has.
        state: ``planned`` (not in this folder), ``not begun``, ``begun`` (an exercise was checked), ``exercises done``.
    """

    lesson: Lesson
    right: int
    exercises: int
    state: str

    def __str__(self):
        return f"{self.lesson.stem}: {self.right} of {self.exercises} exercises right, {self.state}"

    def to_dict(self) -> dict:
        return asdict(self)


def lesson_progress(progress: Progress) -> list[LessonProgress]:
    """One entry per lesson, in order."""
    from .exercises import EXERCISES

    folder, found = project_root() / "notebooks", []
    for lesson in LESSONS:
        own = [key for key in EXERCISES if key.split(".")[0] == str(int(lesson.stem[:2]))]
        right = sum(key in progress.right for key in own)
        state = "begun" if any(key in progress.exercises for key in own) else "not begun"
        if own and right == len(own):
            state = "exercises done"
        elif not (folder / f"{lesson.stem}.ipynb").is_file():
            state = "planned"
        found.append(LessonProgress(lesson, right, len(own), state))
    return found


def progress_map(progress: Progress | None = None) -> str:
    """The map as HTML: every lesson with its time, what it uses, exercises solved and state; a lesson that is here is linked.

    Args:
        progress: what is recorded; read from the course folder when None.
    """
    from .evidence import find_evidence

    progress = read_progress() if progress is None else progress
    found = lesson_progress(progress)
    folder, rows = project_root() / "notebooks", []
    for entry in found:
        stem = escape(entry.lesson.stem)
        name = f'<a href="{stem}.ipynb">{stem}</a>' if (folder / f"{entry.lesson.stem}.ipynb").is_file() else stem
        done = f"{entry.right} of {entry.exercises}" if entry.exercises else "–"
        rows.append((name, entry.lesson.title, f"about {entry.lesson.minutes}", entry.lesson.uses or "–", done, entry.state))
    heads = ("lesson", "what you do", "minutes (cpu profile)", "uses", "exercises right", "state")
    notes = [f"{sum(e.right for e in found)} of {sum(e.exercises for e in found)} exercises right."]
    evidence = find_evidence() if recording() else None
    if evidence and (evidence.adapters or evidence.reports or evidence.claims):
        where = " (smoke profile, a quick check)" if evidence.quick else ""
        notes.append(f"Your runs have left {evidence}{where}.")
    table = html_table(heads, rows, row_heads=True, markup=(0,))
    said = escape(" ".join([*notes, progress.note]).strip())
    return f'<style>{_MAP_STYLE}</style><div class="lorakit-map">{table}<p>{said}</p></div>'


_MAP_STYLE = (  # the class twice: JupyterLab's own rule, which aligns cells right, is as specific as two classes
    ".lorakit-map.lorakit-map table :is(th,td){text-align:left;vertical-align:top}"
    ".lorakit-map.lorakit-map tbody th{font-weight:normal}"
    ".lorakit-map.lorakit-map tbody :is(th,td:nth-child(n+3)){white-space:nowrap}"
)


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
