"""The clinic's fourteen cases: what is seen, what it could be, what it is and why. Figures come from the run itself."""

from dataclasses import asdict, dataclass

from .errors import LorakitError

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        id: its key in :data:`CASES`.
        title: the fault's name.
        symptom: what a learner sees, without figures.
        options: what it could be.
        right: the place of the right one.
        why: for each option, why it is right or wrong.
        tool: the part of the course that finds it.
        cure: what to do.
    """

    id: str
    title: str
    symptom: str
    options: tuple[str, ...]
    right: int
    why: tuple[str, ...]
    tool: str
    cure: str

    def judge(self, place: int) -> tuple[bool, str]:
        """Whether an option is right, and why.

        Example:
            >>> CASES["too fast"].judge(CASES["too fast"].right)[0]
            True
        """
        return place == self.right, self.why[place]

    def ask(self, guess: str | None = None) -> str:
        """The symptom and the options by letter; with a letter, whether it is right and why.

        Raises:
            LorakitError: for a letter that is none of them.

        Example:
            >>> print(CASES["too fast"].ask("B").splitlines()[0])
            B is right: the learning rate is far too high.
        """
        letters = "ABCDEFG"[: len(self.options)]
        if guess is None:
            return "\n".join([self.symptom, *(f"  {a}  {text}" for a, text in zip(letters, self.options, strict=True))])
        if guess not in tuple(letters):
            raise LorakitError("guess", got=repr(guess), expected="one of " + ", ".join(letters), do="Choose a letter.")
        place = letters.index(guess)
        right, why = self.judge(place)
        return f"{guess} is {'right' if right else 'wrong'}: {self.options[place]}.\n{why}"

    def to_dict(self) -> dict:
        return asdict(self)


def _case(id, title, symptom, *options, tool, cure):
    """Options are ``(text, why)``; the right one's text begins with ``*``."""
    (right,) = (place for place, (text, _) in enumerate(options) if text.startswith("*"))
    texts = tuple(text.removeprefix("*") for text, _ in options)
    return Case(id, title, symptom, texts, right, tuple(why for _, why in options), tool, cure)


_ALL = (
    _case(
        "too fast", "Learning rate too high",
        "The loss falls for an update or two, then jumps far above its start and stays there.",
        ("bad rows in the middle of the data", "A few bad rows make a spike that passes; this does not come back."),
        ("*the learning rate is far too high", "Each update overshoots; after a few the model's abilities are gone."),
        ("the model is too small", "The same model learns the same rows with another rate."),
        tool="diagnosis.diagnose", cure="Start again from the base model at a hundredth (try 2e-4, then 1e-4, 5e-5).",
    ),
    _case(
        "epochs", "Too many epochs on few rows",
        "The training loss is close to 0. On new tickets the model is clearly worse than on its own.",
        ("the validation tickets are harder", "The control run scores about alike on both."),
        ("the learning rate is too low", "It learned its rows to the letter: low it was not."),
        ("*it learned its rows by heart", "So many passes over so few rows: the gap between the two losses is memory."),
        tool="diagnosis.diagnose", cure="One to three epochs, more rows.",
    ),
    _case(
        "template", "Wrong chat template",
        "Excellent in the training script's evaluation; in the application the same adapter is worse.",
        ("the adapter overfitted", "Then the evaluation on held-out rows would be poor as well."),
        ("*training and application write prompts differently", "Another family's headers: it was tuned on other tokens."),
        ("the application's machine rounds otherwise", "Rounding moves a logit by a hundredth, not a loss by this much."),
        tool="templates.check_template", cure="apply_chat_template of the tokenizer that was saved with the adapter.",
    ),
    _case(
        "length", "max_length too small, padding too large",
        "Training is quick and its loss looks fine, but long tickets get worse answers; some rows seem never to be read.",
        ("*rows are cut or dropped at max_length", "trl cuts in silence, and drops a row whose answer is gone altogether."),
        ("the rank is too low for long tickets", "Rank has nothing to do with length: look at the rows that arrive first."),
        ("too few epochs", "A row that is not there is not read in a second epoch either."),
        tool="data.length_cost", cure="max_length from the lengths, batches of similar length.",
    ),
    _case(
        "alike", "Rows that are all alike",
        "As many rows and updates as the control run, and a lower training loss; worse on real tickets.",
        ("*a few patterns were filled in again and again", "The rows differ in names and numbers only."),
        ("too few rows", "There are as many as in the control run."),
        ("too few updates", "The training loss is lower than the control run's: it was trained enough, on too little."),
        tool="data.diversity", cure="Collect tickets that differ; measure diversity before training.",
    ),
    _case(
        "memory", "Out of memory in training",
        "The model loads, and the first training step ends with an allocation error.",
        ("the model is too large for this device", "It was loaded: its weights fit. The step needs more on top of them."),
        ("a memory leak", "A leak grows over many steps; this is the first."),
        ("*activations and logits of the batch do not fit", "They grow with batch times length; the ladder takes them down."),
        tool="memory.plan", cure="Batch 1 and accumulation, then checkpointing, then shorter sequences.",
    ),
    _case(
        "baseline", "No baseline before training",
        "The urgency is right for a good share of tickets after training. Is that a success?",
        ("yes: it is far above one in three", "Chance among three labels is not what doing nothing gets."),
        ("no: it should be above 90 %", "What is possible depends on the task; first ask what is there without training."),
        ("*it cannot be said", "Without the base model's figure, and that of always giving one answer, it means nothing."),
        tool="evaluation.compare", cure="Measure the base model and a trivial answer on the same tickets before training.",
    ),
    _case(
        "4-bit evaluation", "Evaluation before training breaks 4-bit weights",
        "A QLoRA run learns well. With a baseline measured first, in the same process, it hardly learns, without any error.",
        ("the evaluation trained on the validation rows", "It computes no gradients; no weight is updated."),
        ("the random seed differs", "A seed moves the loss a little; here the gradient points elsewhere."),
        ("*the first forward pass without gradients repacked the weights", "The backward pass still reads the old layout."),
        tool="training.guard_model", cure="guard_model(model) before anything runs.",
    ),
    _case(
        "endless", "Padding is the end of turn",
        "The answer is right, and then the model goes on writing until it is cut off.",
        ("max_new_tokens is too high", "That only decides when it is cut off; it should have stopped by itself."),
        ("*the end of turn was never trained", "pad = eos, and the collator took every eos out of the labels."),
        ("the temperature is too high", "It generates greedily."),
        tool="diagnosis.label_facts", cure="Mask padding by place, not by number; look at a batch's labels.",
    ),
    _case(
        "double BOS", "BOS twice",
        "In the server every prompt is one token longer than in the evaluation, though the texts are the same.",
        ("the server adds a system prompt", "That would be many tokens, and stand in the text."),
        ("the server uses another vocabulary", "Then many prompts would differ, by more than one token."),
        ("*the prompt's first token is doubled", "The template writes BOS, and the tokenizer, asked for text, adds a second."),
        tool="templates.check_template", cure="Tokenize rendered text with add_special_tokens=False.",
    ),
    _case(
        "mask", "Empty loss mask",
        "Every logged loss is 0 or not a number, and the answers are exactly those of the base model.",
        ("the learning rate is too low", "Then the loss would be a usual number that hardly moves, not 0."),
        ("*no token carries loss", "The marker that should find the answer's start is not in the text: every label is -100."),
        ("the task is learned already", "A learned task has a small loss; exactly 0 or NaN means nothing was averaged."),
        tool="diagnosis.label_facts", cure="Rows of prompt and completion, or the marker of this model's own template.",
    ),
    _case(
        "leak", "Test rows in the training data",
        "The test score is excellent. The first week of real tickets is a disappointment.",
        ("real tickets have changed within a week", "New tickets from the same source score as low."),
        ("the metric is too strict", "It is the same metric on both."),
        ("*test rows were trained on", "The score measures memory: the same rows stand in both files."),
        tool="data.lint(against=…)", cure="split_rows keeps near-copies on one side; lint the training rows against the test.",
    ),
    _case(
        "4-bit merge", "Merged into 4-bit weights",
        "The adapter works on the 4-bit model. Merged into it, the answers change.",
        ("*the sum was rounded to 4 bits again", "The adapter's change is smaller than the step between two 4-bit levels."),
        ("merge_and_unload forgot a layer", "All layers are merged: in 16 bits the same call changes next to nothing."),
        ("the merged model lost its tokenizer", "The same tokenizer reads both."),
        tool="evaluation.paired_difference", cure="Load the base model in 16 bits, merge there, quantize afterwards.",
    ),
    _case(
        "evaluation memory", "Out of memory only in evaluation",
        "Training runs for an epoch. At the first evaluation the run dies.",
        ("*the logits of all rows are kept until the end", "With compute_metrics it does: rows x length x vocabulary."),
        ("evaluation needs gradients as well", "It runs without; one forward pass needs less than a step."),
        ("the optimizer doubles its state in evaluation", "It does nothing in evaluation."),
        tool="oom.EvalSetup", cure="Keep tokens or losses, not logits (preprocess_logits_for_metrics), and small batches.",
    ),
)  # fmt: skip

#: By id, in the order of the notebook.
CASES: dict[str, Case] = {case.id: case for case in _ALL}
