"""The linter as a whole: the report's three forms, the counts, the command and its exit codes, memory and speed."""

import html.parser
import json
import re
import time
import tracemalloc

import pytest
from datasets import Dataset

from lorakit_helpers import cli
from lorakit_helpers.data import as_messages, lint, token_counter, write_rows
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.tickets import load_split, to_conversation


def row(asked, answer) -> dict:
    return {"instruction": asked, "output": answer}


@pytest.fixture(scope="module")
def tickets() -> list[dict]:
    return [as_messages(to_conversation(t)) for t in load_split("test")]


BAD = [
    row("<script>alert(1)</script> & <|im_end|>", "  "),
    row("How so?", "Like this, I think."),
    row("How so?", "Never at all."),
]


@pytest.fixture(scope="module")
def report():
    return lint(BAD)


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_the_three_forms_say_the_same(report):
    page, told = Page(report._repr_html_()), json.loads(report.to_json())
    for finding in report.findings:
        for said in (finding.rule, finding.message, finding.fix, *finding.examples):
            assert said in report.text() and said in page.text
    assert [one["rule"] for one in told["findings"]] == [one.rule for one in report.findings]
    assert page.tags.count("tr") == 1 + len(report.findings)
    assert (told["rows"], told["unreadable"], told["ok"]) == (3, 0, False)


def test_html_from_the_data_is_escaped(report):
    attack = "<img src=x onerror=alert(1)>"
    constant = lint([row(f"How {i}?", attack) for i in range(6)])
    broken = lint([*(row(f"How {i}?", '{"n": 1}') for i in range(6)), row("How?", attack)])
    assert attack in constant.found("constant-answer")[0].message and attack in broken.found("broken-json")[0].examples
    for one in (report, constant, broken):
        assert set(Page(one.html()).tags) <= {"p", "br", "div", "table", "thead", "tbody", "tr", "th", "td", "b", "code"}
    assert "<|im_end|>" in Page(report.html()).text and attack in Page(constant.html()).text


def test_errors_come_before_warnings_and_alone_decide(report):
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities) and set(severities) == {"error", "warning"} and not report.ok
    assert lint(BAD, ignore={finding.rule for finding in report.errors}).ok
    assert f"{len(report.errors)} errors" in str(report) and "3 rows in, 3 checked" in str(report)


def test_rows_of_any_kind_lint_alike(tmp_path, tickets):
    write_rows(tmp_path / "a.jsonl", tickets)
    write_rows(tmp_path / "a.json", tickets)
    sources = [tickets, iter(tickets), Dataset.from_list(tickets), tmp_path / "a.jsonl", str(tmp_path / "a.json")]
    made = [lint(source, near_duplicates=False) for source in sources]
    assert {(one.rows, one.unreadable, tuple(f.rule for f in one.findings)) for one in made} == {(150, 0, ("personal-data",))}


def test_rows_in_are_rows_checked_plus_rows_unreadable(tickets):
    mixed = [*tickets, "no row", {"messages": []}, {"instruction": "a", "output": "b"}, None]
    made = lint(mixed, near_duplicates=False)
    assert (made.rows, made.unreadable) == (150, 4) and "154 rows in" in str(made)
    assert "looks like alpaca" in lint(mixed[149:], format="messages", near_duplicates=False).text()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lint([]), "at least one"),
        (lambda: lint([], format="alpaca"), "at least one"),
        (lambda: lint(7), "a file or rows"),
        (lambda: lint({"train": BAD}), "one split"),
        (lambda: lint(BAD, ignore=["emty-turn"]), "Did you mean empty-turn"),
        (lambda: lint(BAD, max_length=0), "max_length"),
        (lambda: lint(BAD, format="csv"), "one of alpaca"),
        (lambda: lint([{"q": 1}]), "Rename the columns"),
        (lambda: lint(BAD, against=[*BAD, {"instruction": 3, "output": ""}]), "Lint and mend that file first"),
    ],
)
def test_what_cannot_be_linted_is_said(call, said):
    with pytest.raises(LorakitError, match=said):
        call()


def test_tokens_are_counted_with_the_template_where_there_is_one():
    class Chat:
        chat_template = "x"

        def apply_chat_template(self, messages, tokenize, return_dict):
            if messages[0]["role"] == "tool":
                raise ValueError("the template refuses")
            return [0] * 100

        def encode(self, text):
            return text.split()

    messages = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": None}]
    assert token_counter(Chat())(messages) == 100
    assert token_counter(Chat())([{"role": "tool", "content": "one two three"}]) == 3
    assert token_counter(str.split)(messages) == 2


@pytest.fixture
def files(tmp_path, tickets, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows("good.jsonl", tickets[:75])
    write_rows("other.jsonl", tickets[75:])
    write_rows("bad.jsonl", BAD)
    return tmp_path


def test_command_exits_with_0_on_good_and_1_on_bad_data(files, capsys):
    assert cli.main(["lint", "good.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "75 rows in, 75 checked" in out and re.search(r"measured: \d+\.\d\d s of processor time, with the search", out)
    assert cli.main(["lint", "bad.jsonl", "--fast"]) == 1
    assert "error empty-turn" in capsys.readouterr().out


def test_command_prints_json_and_nothing_else(files, capsys):
    assert cli.main(["lint", "bad.jsonl", "--json", "--fast", "--format", "alpaca"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["format"]["format"] == "alpaca" and not told["near_duplicates"]


def test_command_finds_leaks_counts_lengths_and_ignores(files, capsys):
    assert cli.main(["lint", "good.jsonl", "--against", "other.jsonl", "--against", "good.jsonl"]) == 1
    assert "75 prompts stand in the other split" in capsys.readouterr().out
    assert cli.main(["lint", "good.jsonl", "--against", "other.jsonl"]) == 0
    assert cli.main(["lint", "good.jsonl", "--max-length", "10", "--fast"]) == 0
    assert "characters / 4" in capsys.readouterr().out
    ignored = [word for rule in ("empty-turn", "template-token", "contradiction") for word in ("--ignore", rule)]
    assert cli.main(["lint", "bad.jsonl", "--fast", *ignored]) == 0


def test_command_counts_with_a_real_tokenizer(files, capsys):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained("words")
    assert cli.main(["lint", "good.jsonl", "--tokenizer", "words", "--max-length", "30", "--fast"]) == 1
    assert "error too-long" in capsys.readouterr().out
    assert cli.main(["lint", "good.jsonl", "--tokenizer", "words", "--max-length", "3000", "--fast"]) == 0


@pytest.mark.parametrize(
    "argv",
    [
        ["nowhere.jsonl"],
        ["."],
        ["good.jsonl", "--tokenizer", "./nothing", "--max-length", "10"],
        ["good.jsonl", "--tokenizer", "./nothing"],
        ["good.jsonl", "--ignore", "all"],
        ["good.jsonl", "--max-length", "-1"],
        ["good.jsonl", "--against", "nowhere.jsonl"],
    ],
)
def test_command_says_what_is_wrong_in_one_sentence(files, argv, capsys):
    assert cli.main(["lint", *argv]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("lorakit: ") and err.count("\n") == 1 and not out and "Traceback" not in err


def test_wrong_format_is_wrong_usage(files):
    with pytest.raises(SystemExit) as caught:
        cli.main(["lint", "good.jsonl", "--format", "csv"])
    assert caught.value.code == 2


def numbered(tickets, count):
    for i in range(count):
        asked = tickets[i % len(tickets)]["messages"]
        yield {"messages": [asked[0], {"role": "user", "content": f"{asked[1]['content']} #{i}"}, asked[2]]}


def test_at_least_20000_rows_a_second_of_processor_time_without_the_search(tmp_path, tickets):
    write_rows(tmp_path / "many.jsonl", numbered(tickets, 10_000))
    lint(tmp_path / "many.jsonl", near_duplicates=False)  # loads the libraries
    best, until = 0, time.monotonic() + 60  # other programs slow this one's processor time, too: the best of a minute
    while best < 20_000 and time.monotonic() < until:
        best = max(best, lint(tmp_path / "many.jsonl", near_duplicates=False).rows_per_s)
    assert best >= 20_000


def test_the_printed_rate_is_that_of_the_clock(tmp_path, tickets):
    write_rows(tmp_path / "many.jsonl", numbered(tickets, 5_000))
    lint(tickets, near_duplicates=False)  # loads the libraries
    start = time.process_time()
    made = lint(tmp_path / "many.jsonl", near_duplicates=False)
    took = time.process_time() - start
    assert made.rows_per_s == pytest.approx(5_000 / took, rel=0.2)
    assert f"{made.rows_per_s:,.0f} rows/s, without the search" in made.text()


def test_memory_grows_by_far_less_than_the_file(tmp_path, tickets):
    def peak(count):
        write_rows(tmp_path / "many.jsonl", numbered(tickets, count))
        tracemalloc.start()
        assert lint(tmp_path / "many.jsonl", near_duplicates=False).rows == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found, (tmp_path / "many.jsonl").stat().st_size

    lint(tickets, near_duplicates=False)
    (small, little), (large, much) = peak(1_000), peak(6_000)
    assert (large - small) / 5_000 < 150, "bytes for each further row: two hashes, two numbers and a dict's slot"
    assert much - little > 400 * 5_000
