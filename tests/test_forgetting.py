"""The forgetting check: scores equal a plain forward pass, verdicts are honest, the mixture keeps its share."""

import json
import math
import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from leaks import near_copy, near_pairs, sketch

from lorakit_helpers import forgetting, probes
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.files import project_root
from lorakit_helpers.forgetting import compare_probes, general_rows, load_probes, mix, probes_table, score_probes
from lorakit_helpers.models import BaseModel
from lorakit_helpers.probes import HALVES, SKILLS, Probe, ProbeScores, option_log_probabilities

DATA = project_root() / "data"


@cache
def rows(place) -> list[dict]:
    """A file as the json module reads it, without the package."""
    return [json.loads(line) for line in (DATA / place).read_text(encoding="utf-8").split("\n") if line]


@cache
def asked(half=None) -> list[dict]:
    return [row for name in HALVES if half in (None, name) for row in rows(f"general_probes/{name}.jsonl")]


def right_reply(row) -> str:
    return row["options"][row["right"]] if row["kind"] == "choice" else row["answers"][0]


def choice(name, options=("Yes.", "No."), right=0, skill="facts") -> Probe:
    return Probe(f"report-{name}", skill, "choice", f"Question {name}?", options, right)


def written(name, *answers, skill="facts") -> Probe:
    return Probe(f"report-{name}", skill, "answer", f"Question {name}?", answers=answers)


def scores_of(correct, skills=("facts",)) -> ProbeScores:
    """Scores with the given right and wrong, the skills dealt in turn."""
    made = tuple(choice(f"x-{i:02d}", skill=skills[i % len(skills)]) for i in range(len(correct)))
    return ProbeScores(made, np.array(correct, dtype=float), ("Yes.",) * len(made), ((0.0, -1.0),) * len(made))


# --- the data


@pytest.mark.parametrize("place", ["general_probes/select.jsonl", "general_probes/report.jsonl", "general_mix/train.jsonl"])
def test_every_row_keeps_the_schema(place):
    schema = json.loads((DATA / place).with_name("schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert [error.message for row in rows(place) for error in Draft202012Validator(schema).iter_errors(row)] == []


def test_every_probe_loads_as_it_is_written():
    assert [probe.id for probe in load_probes()] == [row["id"] for row in asked()]
    for half in HALVES:
        loaded = load_probes(half)
        assert [(p.prompt, p.skill, p.kind, p.half) for p in loaded] == [
            (r["prompt"], r["skill"], r["kind"], half) for r in asked(half)
        ]
        for probe, row in zip(loaded, asked(half), strict=True):
            assert (probe.options[probe.right] if probe.options else probe.answers[0]) == right_reply(row)


@pytest.mark.parametrize("half", HALVES)
def test_half_has_every_skill_in_like_numbers_and_ids_of_its_own(half):
    found = asked(half)
    assert len(found) >= 75 and all(row["id"].startswith(half + "-") for row in found)
    counts = Counter(row["skill"] for row in found)
    assert set(counts) == set(SKILLS) and min(counts.values()) >= 12 and max(counts.values()) <= 1.5 * min(counts.values())
    assert len({row["id"] for row in found}) == len(found)


def test_there_are_at_least_150_probes_and_both_kinds():
    assert len(asked()) >= 150
    assert min(Counter(row["kind"] for row in asked()).values()) >= 20


def test_right_options_place_tells_nothing():
    for size in (2, 3):
        places = [row["right"] for row in asked() if len(row.get("options", ())) == size]
        counts = [places.count(place) for place in range(size)]
        assert max(counts) - min(counts) <= 2 + 0.1 * len(places), (size, counts)


def test_length_tells_little():
    """Neither the longest nor the shortest option is right much more often than chance, and no option dwarfs another."""
    longest = shortest = expected = 0.0
    for row in asked():
        if row["kind"] == "choice":
            sizes = [len(option.encode()) for option in row["options"]]
            assert max(sizes) <= 2 * min(sizes) + 8, row["id"]
            for pick, extreme in (("longest", max(sizes)), ("shortest", min(sizes))):
                hit = (sizes[row["right"]] == extreme) / sizes.count(extreme)
                longest, shortest = (longest + hit, shortest) if pick == "longest" else (longest, shortest + hit)
            expected += 1 / len(sizes)
    assert abs(longest / expected - 1) < 0.3 and abs(shortest / expected - 1) < 0.3


def words(text) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def test_no_question_stands_twice_in_probes_and_mixture():
    texts = [words(row["prompt"]) for row in asked()] + [words(row["instruction"]) for row in rows("general_mix/train.jsonl")]
    assert [text for text, times in Counter(texts).items() if times > 1] == []


def test_mixture_and_halves_hold_no_near_copies_of_each_other():
    """Question and answer together: "plural of tooth" and "plural of mouse" share a frame, not what is asked."""
    sets = {half: {row["id"]: sketch(f"{row['prompt']} {right_reply(row)}") for row in asked(half)} for half in HALVES}
    sets["mix"] = {r["id"]: sketch(f"{r['instruction']} {r['answer']}") for r in rows("general_mix/train.jsonl")}
    for one, other in (("select", "report"), ("select", "mix"), ("report", "mix")):
        assert near_pairs(sets[one], sets[other]) == [], (one, other)


def test_the_search_for_near_copies_finds_a_planted_one():
    row = max(asked(), key=lambda r: len(r["prompt"]))
    text = f"{row['prompt']} {right_reply(row)}"
    assert near_pairs({"a": sketch(text)}, {"b": sketch(near_copy(text))})


def test_mixture_is_large_varied_and_without_probe_answers_to_learn_by_heart():
    found = rows("general_mix/train.jsonl")
    assert len(found) >= 120 and len({row["answer"] for row in found}) >= 0.95 * len(found)
    assert set(SKILLS) <= {row["skill"] for row in found}
    opening = Counter(" ".join(words(row["instruction"]).split()[:2]) for row in found)
    assert opening.most_common(1)[0][1] <= 0.2 * len(found)


def test_an_echo_of_the_prompt_is_never_an_answer():
    for probe in load_probes():
        assert not any(f" {words(answer)} " in f" {words(probe.prompt)} " for answer in probe.answers), probe.id


FAULTS = {
    "a choice without options": ({"options": None}, "options"),
    "a choice with answers": ({"answers": ["blue"]}, "answers"),
    "right beyond the options": ({"right": 2}, "options that differ"),
    "the same option twice": ({"options": ["Blue.", "Blue."]}, "options that differ"),
    "an unknown skill": ({"skill": "cooking"}, "one of facts"),
    "an answer with options": ({"kind": "answer", "answers": ["blue"]}, "options"),
    "an answer that an echo gives": (
        {"kind": "answer", "answers": ["sky"], "options": None, "right": None}, "stands in the prompt"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), FAULTS.values(), ids=FAULTS)
def test_faulty_row_is_named_with_its_line(tmp_path, change, said):
    good = {"id": "select-facts-01", "skill": "facts", "kind": "choice", "prompt": "What colour is the sky?",
            "options": ["Blue.", "Loud."], "right": 0, "note": "x"}  # fmt: skip
    bad = {key: value for key, value in (good | {"id": "select-facts-02"} | change).items() if value is not None}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n", encoding="utf-8")
    with pytest.raises(LorakitError, match=f"line 2.*{said}"):
        load_probes(path=path)


def test_unknown_half_is_refused():
    with pytest.raises(LorakitError, match="select or report"):
        load_probes("test")


# --- scoring


@pytest.fixture(scope="module")
def model(tiny):
    """The tests' tiny model in 32 bit, so that the order of sums does not show."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()


PAIRS = [
    ([{"role": "user", "content": "Which animal does wool come from?"}], "Wool comes from sheep."),
    ([{"role": "user", "content": "Hi"}], "Hello!"),
    ([{"role": "user", "content": "Say it in French, please, and in as few words as you can: the summer is long"}], "L'été"),
    ([{"role": "system", "content": "Short."}, {"role": "user", "content": "2 + 3?"}], "5"),
    ([{"role": "user", "content": "Hi"}], "Good morning to you and to everybody in your house, what a lovely day it is."),
]  # fmt: skip


def plain_log_probability(model, tokenizer, chat, text) -> float:
    """One row, no padding, one token at a time."""
    import torch

    ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True), add_special_tokens=False)
    ids, total = ids["input_ids"], 0.0
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        total += math.log(torch.softmax(logits.double(), -1)[token])
        ids = [*ids, token]
    return total


@pytest.mark.parametrize("batch_size", [1, 2, 5, 32])
def test_option_log_probabilities_equal_a_plain_pass_row_by_row(model, tokenizer, batch_size):
    wanted = [plain_log_probability(model, tokenizer, *pair) for pair in PAIRS]
    seen = []
    found = option_log_probabilities(model, tokenizer, PAIRS, batch_size=batch_size, progress=lambda *a: seen.append(a))
    assert found == pytest.approx(wanted, rel=1e-4)
    assert seen[-1] == (5, 5) and len(seen) == math.ceil(5 / batch_size)


def test_scores_are_per_byte_and_the_likeliest_option_is_the_reply(model, tokenizer):
    probe = choice("a-01", ("L'été est long.", "Blue paint.", "Nine hundred and two."), right=1)
    scores = score_probes(model, tokenizer, [probe])
    wanted = [plain_log_probability(model, tokenizer, probe.chat, o) / len(o.encode("utf-8")) for o in probe.options]
    assert scores.per_byte[0] == pytest.approx(wanted, rel=1e-4)
    best = int(np.argmax(wanted))
    assert scores.replies == (probe.options[best],) and scores.correct.tolist() == [float(best == 1)]


def test_result_does_not_depend_on_order_or_batch_and_the_model_is_left_as_it_was(model, tokenizer):
    asked = [choice("a-01"), written("b-01", "nine"), choice("c-01", ("Red wine, please.", "Blue.")), written("d-01", "ten")]
    side = tokenizer.padding_side
    model.train()
    try:
        first = score_probes(model, tokenizer, asked, batch_size=1)
        again = score_probes(model, tokenizer, asked[::-1], batch_size=8)
        assert model.training and tokenizer.padding_side == side
    finally:
        model.eval()
    assert first.replies == again.replies[::-1] and first.correct.tolist() == again.correct.tolist()[::-1]
    assert [first.per_byte[0], first.per_byte[2]] == [
        pytest.approx(x, rel=1e-4) for x in (again.per_byte[3], again.per_byte[1])
    ]


def test_progress_counts_options_and_answers_together(model, tokenizer):
    seen = []
    score_probes(model, tokenizer, [choice("a-01"), written("b-01", "nine")], progress=lambda *a: seen.append(a))
    assert seen == [(2, 3), (3, 3)]


@pytest.fixture
def told(monkeypatch):
    """Put words and log-probabilities into the model's mouth."""

    def set_up(sums=(), texts=()):
        monkeypatch.setattr(probes, "option_log_probabilities", lambda *a, **k: np.array(sums, dtype=float))
        monkeypatch.setattr(probes, "generate", lambda *a, **k: list(texts))

    return set_up


def test_a_tie_is_no_choice(told):
    asked = [choice("a-01", ("Left.", "Best."), 0), choice("b-01", ("Left.", "Best."), 1), choice("c-01", ("Left.", "Best."))]
    told([-5, -5, -5, -5, -5, -5.1])
    assert score_probes(None, None, asked).correct.tolist() == [0, 0, 1]


def test_length_is_counted_in_bytes(told):
    told([-6, -5])  # 3 bytes against 2 characters of 2 bytes: -2 against -1.25 per byte, -2 against -2.5 per character
    assert score_probes(None, None, [choice("a-01", ("abc", "éé"), 1)]).correct.tolist() == [1]


def test_answers_are_found_as_whole_words(told):
    asked = [written("a-01", "7", "seven"), written("b-01", "7"), written("c-01", "1 2 3"), written("d-01", "1 2 3")]
    told(texts=["That makes Seven.", "17", "Sure: 1, 2, 3, 4.", "1, 3, 2"])
    assert score_probes(None, None, asked).correct.tolist() == [1, 0, 1, 0]


def test_no_probes_are_refused():
    with pytest.raises(LorakitError, match="at least one"):
        score_probes(None, None, [])


def test_shares_and_chances_are_plain_counts_by_skill():
    made = [choice("a-01"), choice("b-01", ("a", "b", "c")), written("c-01", "x"), choice("d-01", skill="language")]
    scores = ProbeScores(tuple(made), np.array([1.0, 1, 0, 0]), ("",) * 4, ((),) * 4)
    assert scores.names == ("facts", "language", "all choices", "all answers", "overall")
    shares = {name: metric.value for name, metric in scores.metrics.items()}
    assert shares == pytest.approx({"facts": 2 / 3, "language": 0, "all choices": 2 / 3, "all answers": 0, "overall": 0.5})
    choices = (1 / 2 + 1 / 3 + 1 / 2) / 3
    assert scores.chance == pytest.approx(
        {"facts": (1 / 2 + 1 / 3) / 3, "language": 0.5, "all choices": choices, "all answers": 0, "overall": choices * 3 / 4}
    )
    part = scores.part(lambda probe: probe.skill == "language")
    assert part.names == ("language", "overall") and part.correct.tolist() == [0]
    with pytest.raises(LorakitError, match="at least one"):
        scores.part(lambda probe: False)
    with pytest.raises(LorakitError, match="facts, language, all choices"):
        scores.rows("cooking")
    assert json.loads(json.dumps(scores.to_dict()))["replies"][1]["correct"] is True
    assert "| language | 1 | 50% | 0.0%" in probes_table(scores)


# --- before and after


def test_differences_are_plain_counts_and_the_table_names_every_skill():
    before = scores_of([1, 1, 1, 1, 0, 0], ("facts", "language"))
    after = scores_of([0, 1, 0, 1, 1, 0], ("facts", "language"))
    found = compare_probes(before, after)
    assert {name: d.difference for name, d in found.differences.items()} == pytest.approx(
        {"facts": -1 / 3, "language": 0, "overall": -1 / 6}
    )
    assert [line.split(" | ")[0] for line in found.table.split("\n")[2:]] == ["| facts", "| language", "| overall"]
    assert json.loads(json.dumps(found.to_dict()))["verdicts"]["overall"] == "no evidence of a change"


@pytest.mark.parametrize(("before", "after", "said"), [(1, 0, "worse"), (0, 1, "better"), (1, 1, "no evidence of a change")])
def test_verdict_follows_the_results(before, after, said):
    found = compare_probes(scores_of([before] * 40), scores_of([after] * 40))
    assert found.verdict() == found.verdict("facts") == said and said in str(found)


def test_a_skill_is_judged_more_strictly_than_the_whole():
    """Seven of seven lost has p = 2 * 0.5**7 = 0.016: enough for one look, not for six."""
    skills = SKILLS
    lost = [0 if i % 6 == 0 and i < 42 else 1 for i in range(120)]
    found = compare_probes(scores_of([1] * 120, skills), scores_of(lost, skills))
    assert found.differences["facts"].p_value == pytest.approx(2 * 0.5**7)
    assert found.verdict("facts") == "no evidence of a change" and found.verdict() == "worse"


def test_different_probes_are_not_compared():
    with pytest.raises(LorakitError, match="same list"):
        compare_probes(scores_of([1, 1]), scores_of([1]))
    with pytest.raises(LorakitError, match="one of facts"):
        compare_probes(scores_of([1, 1]), scores_of([1, 0])).verdict("cooking")


# --- the cure


def test_general_rows_are_the_files_and_a_draw_has_no_row_twice():
    every = general_rows()
    assert [(r["prompt"][-1]["content"], r["completion"][0]["content"]) for r in every] == [
        (r["instruction"], r["answer"]) for r in rows("general_mix/train.jsonl")
    ]
    drawn = general_rows(50, seed=1)
    assert drawn == general_rows(50, seed=1) != general_rows(50, seed=2)
    assert len({json.dumps(row) for row in drawn}) == 50 and all(row in every for row in drawn)


@pytest.mark.parametrize("n", [0, -1, 1.5, 10_000])
def test_impossible_number_of_general_rows_is_refused(n):
    with pytest.raises(LorakitError, match="whole number from 1 to"):
        general_rows(n)


@pytest.mark.parametrize("share", [0, 0.05, 0.1, 0.5, 0.9])
def test_mixture_keeps_every_task_row_and_holds_its_share(share):
    task, general = [{"id": i} for i in range(200)], [{"id": f"g{i}"} for i in range(30)]
    before = (list(task), list(general))
    mixed = mix(task, general, share, seed=3)
    assert (task, general) == before
    counts = Counter(row["id"] for row in mixed)
    assert all(counts[i] == 1 for i in range(200))
    assert (len(mixed) - 200) / len(mixed) == pytest.approx(share, abs=0.01)
    times = [counts[row["id"]] for row in general]
    assert max(times) - min(times) <= 1
    assert mixed == mix(task, general, share, seed=3) != mix(task, general, share, seed=4)


def test_general_rows_are_spread_over_the_whole_mixture():
    mixed = mix([{"id": 0}] * 400, [{"id": 1}] * 400, 0.5)
    assert 0.4 < np.mean([row["id"] for row in mixed[:400]]) < 0.6


@pytest.mark.parametrize("share", [-0.1, 1, 1.5])
def test_impossible_share_is_refused(share):
    with pytest.raises(LorakitError, match="from 0 to below 1"):
        mix([{"id": 1}], [{"id": 2}], share)


def test_nothing_to_mix_in_is_refused_only_when_something_is_wanted():
    assert mix([{"id": 1}], [], 0) == [{"id": 1}]
    with pytest.raises(LorakitError, match="general_rows"):
        mix([{"id": 1}] * 10, [], 0.5)


# --- the command


@pytest.fixture
def small(tiny, monkeypatch):
    monkeypatch.setattr("lorakit_helpers.models.base_model", lambda: BaseModel(tiny, "wheel", ""))
    monkeypatch.setattr(
        forgetting, "load_probes", lambda half=None: [choice("a-01"), written("b-01", "nine", skill="language")]
    )


def test_command_prints_the_base_models_table(small, capsys):
    forgetting.main([])
    said = capsys.readouterr().out
    assert "| facts | 1 | 50% |" in said and "| overall | 2 |" in said and "s for 2 probes." in said


def test_command_compares_an_adapter_with_its_base(small, tiny, tmp_path, capsys):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "new")
    forgetting.main(["--adapter", str(tmp_path / "new")])
    said = capsys.readouterr().out
    wide = 100 * (1 - 0.025**0.5)  # what two probes out of two leave open
    assert f"+0.0 [-{wide:.1f}, +{wide:.1f}] | no evidence of a change |" in said  # a new adapter's B is zero


def test_command_names_a_folder_without_adapter(small, tmp_path):
    with pytest.raises(LorakitError, match=r"adapter_config\.json"):
        forgetting.main(["--adapter", str(tmp_path)])


def test_base_model_is_right_on_at_least_three_in_five_of_the_half_that_chose_nothing(base):
    from lorakit_helpers.models import load_model

    scores = score_probes(*load_model(base), load_probes("report"))
    assert scores.metrics["overall"].value >= 0.6
    for name, metric in scores.metrics.items():
        assert metric.value > scores.chance[name] + 0.15, name
