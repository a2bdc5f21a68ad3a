"""The job file: what is read is what was written, and what is wrong is named with its key."""

import json

import pytest
import yaml

from lorakit_helpers.data import write_rows
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.profiles import PROFILES
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.scale import SCHEMA, Job, job_rows, read_job, write_job
from lorakit_helpers.tickets import load_split, to_conversation


@pytest.fixture
def written(tmp_path):
    def write(text: str):
        path = tmp_path / "job.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    "job",
    [
        Job(profile="smoke"),
        Job(profile="gpu-24gb", engine="plain", rows=7, validation=0.1, seed=3, output="ä b/c"),
        Job(Recipe(r=4, target_modules=("q_proj",), learning_rate=1e-5, optim="x"), base="a/b", data="x.jsonl"),
        Job(Recipe(gradient_checkpointing="unsloth"), profile="cpu", base="here", validation="held out.jsonl"),
    ],
    ids=str,
)  # fmt: skip
def test_a_written_job_is_read_back_equal(job, tmp_path):
    assert read_job(write_job(job, tmp_path / "job.yaml")) == job


def test_what_is_written_is_plain_yaml_of_the_jobs_own_dict(tmp_path):
    job = Job(profile="cpu", seed=9)
    assert yaml.safe_load(write_job(job, tmp_path / "job.yaml").read_text()) == job.to_dict()
    assert job.to_dict()["seed"] == 9 and "seed" not in job.to_dict()["recipe"]
    json.dumps(job.to_dict())


def test_a_recipe_left_out_is_the_profiles_and_one_field_changes_that_field_only(written):
    assert read_job(written("schema: 1\nprofile: smoke\n")).recipe == PROFILES["smoke"].recipe
    changed = read_job(written("schema: 1\nprofile: smoke\nseed: 5\nrecipe:\n  r: 4\n"))
    assert changed.recipe == PROFILES["smoke"].recipe.but(r=4, seed=5)
    assert read_job(written("schema: 1\nbase: x\n")).recipe == Recipe()


def test_a_rate_written_as_2e_minus_4_is_a_number(written):
    assert yaml.safe_load("2e-4") == "2e-4", "PyYAML reads it as a number now: the rule of ours can go"
    assert read_job(written("schema: 1\nbase: x\nrecipe: {learning_rate: 2e-4}\n")).recipe.learning_rate == 2e-4


@pytest.mark.parametrize(
    "text, said",
    [
        ("profile: smoke", "schema: 1"),
        ("schema: 1\nprofil: smoke", "Did you mean profile"),
        ("schema: 1\nprofile: gpu16", "Did you mean gpu-16gb"),
        ("schema: 1\nbase: x\nengine: unslot", "Did you mean unsloth"),
        ("schema: 1\nbase: x\nrecipe: {learing_rate: 1}", "recipe.learing_rate.*Did you mean learning_rate"),
        ("schema: 1\nbase: x\nrecipe: {seed: 1}", "seed at the top"),
        ("schema: 1\nbase: x\nrecipe: {learning_rate: fast}", "recipe.learning_rate.*number"),
        ("schema: 1\nbase: x\nrecipe: {learning_rate: 5}", "learning_rate.*below 1"),
        ("schema: 1\nbase: x\nrecipe: {r: true}", "recipe.r.*integer"),
        ("schema: 1\nbase: x\nbase: y", "base: .*twice"),
        ("schema: 1\nbase: x\nrecipe: {r: 1, r: 2}", "r: .*twice"),
        ("schema: 1\nbase: [x", "line 2"),
        ("schema: 1", "neither profile nor base"),
        ("schema: 1\nbase: x\nvalidation: 1.5", "share above 0 and below 1"),
        ("schema: 1\nbase: x\nrows: 0", "at least 1"),
        ("schema: 1\nbase: ' '", "base.*text"),
        ("- schema", "list"),
        ("", "NoneType"),
        ("schema: 1\nbase: !!python/object/apply:os.getcwd []", "constructor"),
        ("schema: 1\n[a]: x", "YAML"),
        ("schema: 1\nbase: \x07", "YAML"),
    ],
)  # fmt: skip
def test_a_wrong_job_is_one_sentence_with_the_file_and_the_key(written, text, said):
    path = written(text)
    with pytest.raises(LorakitError, match=said) as caught:
        read_job(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_a_newer_schema_says_to_update_whatever_else_is_in_it(written):
    with pytest.raises(LorakitError, match="newer lorakit: update"):
        read_job(written(f"schema: {SCHEMA + 1}\nsomething: new\nprofile: {{a: b}}\n"))
    with pytest.raises(LorakitError, match="schema: expected 1"):
        read_job(written("schema: true\nbase: x\n"))


@pytest.mark.parametrize("make", [lambda p: p / "none.yaml", lambda p: p])
def test_no_file_and_a_folder_are_said_so(tmp_path, make):
    with pytest.raises(LorakitError, match=r"no such file|a folder"):
        read_job(make(tmp_path))


def test_bytes_that_are_no_text_and_a_huge_file_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"schema: \xff")
    (tmp_path / "b.yaml").write_text("# \n" * 500_000)
    for name, said in (("a.yaml", "UTF-8"), ("b.yaml", "1,500,000 bytes")):
        with pytest.raises(LorakitError, match=said):
            read_job(tmp_path / name)


def test_a_job_made_in_python_is_checked_by_the_same_rules():
    for wrong in ({"engine": "axolotl"}, {"rows": -1}, {"data": ""}, {"profile": "gpu"}, {"validation": 2}):
        with pytest.raises(LorakitError):
            Job(**{"profile": "cpu"} | wrong)
    assert Job(Recipe(seed=5), profile="cpu").seed == 5
    assert Job(Recipe(seed=5), profile="cpu", seed=6).recipe.seed == 6
    assert Job(profile="cpu", seed=6).but(recipe=Recipe(seed=8)).seed == 8


def test_the_course_data_are_the_notebooks_rows_in_their_order():
    rows, held_out = job_rows(Job(profile="smoke"))
    assert rows == [to_conversation(t) for t in load_split("train")[: PROFILES["smoke"].train_rows]] and held_out == []
    assert len(job_rows(Job(base="x", rows=3))[0]) == 3


def test_a_validation_share_is_held_out_of_the_rows_and_the_seed_decides():
    job = Job(profile="smoke", rows=20, validation=0.25)
    kept, held_out = job_rows(job)
    everything = [to_conversation(t) for t in load_split("train")[:20]]
    assert sorted(map(str, kept + held_out)) == sorted(map(str, everything)) and 3 <= len(held_out) <= 7
    assert job_rows(job) == (kept, held_out) != job_rows(job.but(seed=1))


CHATS = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
    {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "A"},
                  {"role": "assistant", "content": "B"}, {"role": "user", "content": "C"},
                  {"role": "assistant", "content": "D"}]},
]  # fmt: skip


@pytest.mark.parametrize("name", ["chat.jsonl", "chat.json"])
def test_a_chat_files_last_answer_is_the_completion_and_all_before_it_the_prompt(tmp_path, name):
    path = tmp_path / name
    if name.endswith("jsonl"):
        write_rows(path, CHATS)
    else:
        path.write_text(json.dumps(CHATS))
    rows, held_out = job_rows(Job(base="x", data=str(path), validation=str(path)))
    assert [row["prompt"] + row["completion"] for row in rows] == [row["messages"] for row in CHATS]
    assert [row["completion"][0]["content"] for row in rows] == ["Hello!", "D"] and held_out == rows


def test_other_formats_are_read_as_lint_reads_them(tmp_path):
    write_rows(tmp_path / "a.jsonl", [{"instruction": "Add 1 and 1.", "output": "2"}])
    rows, _ = job_rows(Job(base="x", data=str(tmp_path / "a.jsonl")))
    assert rows == [
        {"prompt": [{"role": "user", "content": "Add 1 and 1."}], "completion": [{"role": "assistant", "content": "2"}]}
    ]


@pytest.mark.parametrize(
    "turns, said",
    [
        ([("user", "Hi")], "ends with user"),
        ([("assistant", "Hi")], "1 turns that ends with assistant"),
    ],
)
def test_a_row_without_an_answer_to_train_is_named_with_its_line(tmp_path, turns, said):
    bad = {"messages": [{"role": role, "content": text} for role, text in turns]}
    write_rows(tmp_path / "chat.jsonl", [CHATS[0], bad])
    with pytest.raises(LorakitError, match=f"line 2.*{said}"):
        job_rows(Job(base="x", data=str(tmp_path / "chat.jsonl")))


def test_data_that_is_neither_the_courses_nor_a_file_is_told_the_nearest():
    with pytest.raises(LorakitError, match="Did you mean tickets"):
        job_rows(Job(base="x", data="ticket"))
    with pytest.raises(LorakitError, match=r"validation.*no such file"):
        job_rows(Job(base="x", rows=2, validation="nowhere.jsonl"))
