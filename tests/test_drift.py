"""Every library call of the course against the installed libraries; and planted changes, which must be found."""

import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lorakit_helpers.drift import check, course_sources, read_source
from lorakit_helpers.drift.signatures import UNSLOTH, Gone, accepted, find, unsloth_accepts
from lorakit_helpers.files import project_root

PACKAGES = Path(importlib.util.find_spec("unsloth").origin).parents[1]
FILES = sorted({place[0] for places in UNSLOTH.values() for place in places} | {"unsloth/models/llama.py"})
UNSLOTH_CALL = """
from unsloth import FastLanguageModel
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name="x", max_seq_length=2048, dtype=None, load_in_4bit=True, use_gradient_checkpointing="unsloth",
    attn_implementation="eager",
)
model = FastLanguageModel.get_peft_model(model, r=32, target_modules=["q_proj"], lora_alpha=32, lora_dropout=0.05, bias="none",
    use_gradient_checkpointing="unsloth", random_state=42)
FastLanguageModel.for_inference(model)
model.save_pretrained_gguf("folder", tokenizer, quantization_method="q4_k_m")
model.save_pretrained_merged("folder", tokenizer, save_method="merged_16bit")
"""


def calls_of(text: str, *libraries):
    return read_source([("here", text)], libraries or ("lib",))[1]


# The course ----------------------------------------------------------------------------------------------------------


#: In a process of its own, where the libraries are as installed and not as Unsloth leaves them in this one: once as they are,
#: once with names and keywords taken away.
BOTH = """
import inspect, json
from lorakit_helpers.start import start
start("cpu")
from lorakit_helpers.drift import check, course_sources
from lorakit_helpers.drift.check import _accepted
clean = check()

import datasets, peft, transformers, trl

def without(target, name):
    signature = inspect.signature(target)
    assert name in signature.parameters
    return signature.replace(parameters=[p for p in signature.parameters.values() if p.name != name])

trl.SFTConfig.__signature__ = without(trl.SFTConfig, "pad_to_multiple_of")
peft.LoraConfig.__signature__ = without(peft.LoraConfig, "lora_alpha")
trl.SFTTrainer.__signature__ = without(trl.SFTTrainer, "processing_class")
transformers.BitsAndBytesConfig.__signature__ = without(transformers.BitsAndBytesConfig, "bnb_4bit_quant_type")
del datasets.Dataset.from_list
def from_pretrained(name, *, device_map=None, quantization_config=None, attn_implementation=None, **kwargs): ...
transformers.PreTrainedModel.from_pretrained = from_pretrained  # dtype is gone
_accepted.cache_clear()
wanted = ("lorakit_helpers/training.py", "07_train_with_qlora.ipynb")
planted = check({name: pieces for name, pieces in course_sources().items() if name in wanted})
print(json.dumps([clean.to_dict(), planted.to_dict()]))
"""


@pytest.fixture(scope="module")
def reports():
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True, cwd=project_root())
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_installed_libraries_have_every_name_and_keyword_the_course_uses(reports):
    report = reports[0]
    assert report["findings"] == []
    assert report["unread"] == []  # each of these would be a keyword that nobody checked
    assert report["calls"] > 900 and report["keywords"] > 700 and report["unsloth_calls"] >= 4


def test_keywords_and_names_that_disappear_are_found_where_the_course_uses_them(reports):
    found = {(f["path"], f["problem"], f["where"].split(":")[0].split(" ")[0]) for f in reports[1]["findings"]}
    training = "lorakit_helpers/training.py"
    assert {
        ("trl.SFTConfig", "no keyword pad_to_multiple_of", training),  # comes through ** from sft_arguments
        ("trl.SFTConfig", "no keyword pad_to_multiple_of", "07_train_with_qlora.ipynb"),
        ("peft.LoraConfig", "no keyword lora_alpha", training),
        ("trl.SFTTrainer", "no keyword processing_class", training),
        ("transformers.AutoModelForCausalLM.from_pretrained", "no keyword dtype", training),
        ("datasets.Dataset.from_list", "datasets.Dataset has no from_list", training),
    } <= found
    assert ["transformers.BitsAndBytesConfig", "bnb_4bit_quant_type"] in reports[1]["unread"]  # it takes any keyword


def test_no_from_pretrained_of_the_course_is_overlooked():
    classes = "AutoTokenizer|AutoModelForCausalLM|AutoConfig|FastLanguageModel|PeftModel"
    pattern = re.compile(rf"^(?!\s*(#|\"|'|>>>)).*\b({classes})\.from_pretrained\(", re.M)
    for name, pieces in course_sources().items():
        written = sum(len(re.findall(pattern, text)) for _, text in pieces)
        calls = read_source(pieces, {"transformers", "peft", "unsloth"})[1]
        seen = sum(any(re.search(rf"\.({classes})\.from_pretrained$", path) for path in call.paths) for call in calls)
        assert seen >= written, name


# Unsloth's GPU classes ------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path):
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGES / file, tmp_path / file)
    return tmp_path


def test_the_walkthroughs_unsloth_calls_bind_to_the_gpu_classes_and_the_cpu_class():
    report = check({"here": [("here", UNSLOTH_CALL)]}, names={"unsloth"})
    assert report.findings == () and report.unsloth_calls == report.calls == 5


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("unsloth/models/loader.py", "        max_seq_length = 2048,", "        max_length = 2048,", "max_seq_length"),
        ("unsloth/models/llama.py", "        lora_dropout = 0.0,", "        dropout = 0.0,", "lora_dropout"),
        ("unsloth/models/llama.py", 'kwargs.pop("attn_implementation"', 'kwargs.pop("attention"', "attn_implementation"),
        ("unsloth_zoo/cpu/loader.py", "        load_in_4bit = True,", "        four_bit = True,", "load_in_4bit"),
        ("unsloth/save.py", "def unsloth_save_pretrained_gguf(", "def save_gguf(", "no unsloth_save_pretrained_gguf"),
    ],
)  # fmt: skip
def test_a_keyword_renamed_in_unsloths_source_is_found(copied, file, old, new, told):
    text = (copied / file).read_text()
    assert old in text
    (copied / file).write_text(text.replace(old, new))
    report = check({"here": [("here", UNSLOTH_CALL)]}, names={"unsloth"}, unsloth_root=copied)
    assert report.findings and all(told in finding.problem for finding in report.findings), report.findings


def test_what_is_read_from_a_source_is_what_inspect_sees():
    for owner, name in ((json.JSONDecoder, "__init__"), (json.JSONEncoder, "__init__"), (None, "dumps"), (None, "load")):
        target = getattr(owner or json, name)
        file, parameters = Path(inspect.getfile(target)), inspect.signature(target).parameters.values()
        read = unsloth_accepts(file.name, owner and owner.__name__, name, root=file.parent)
        assert {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} <= read.names
        assert read.positional == sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)


# The reader -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "keywords"),
    [
        ("import lib.sub as s\ns.f(a=1)", "lib.sub.f", ("a",)),
        ("from lib import f as g\ng(a=1, **{'b': 2})", "lib.f", ("a", "b")),
        ("from lib import f\no = {'b': 2} if x else {}\no['c'] = 3\nf(**o)", "lib.f", ("b", "c")),
        ("from lib import f\ndef make():\n    d = {'b': 2}\n    d['c'] = 3\n    return d\nf(**make())", "lib.f", ("b", "c")),
        ("def g():\n    from lib import C\n    with C() as c:\n        c.run(fast=True)", "lib.C.run", ("fast",)),
        ("from lib import C\nC(1).run(fast=True)", "lib.C.run", ("fast",)),
    ],
)  # fmt: skip
def test_calls_are_followed_through(text, path, keywords):
    assert (path, keywords) in [(call.paths[0], call.keywords) for call in calls_of(text)]


@pytest.mark.parametrize(
    "text",
    ["from lib import f\ndef g(f):\n    f(a=1)", "from .lib import f\nf(a=1)", "from lib import f\nf = 3\nf(a=1)",
     "from other import f\nf(a=1)", "from lib import f\nfor f in x:\n    f(a=1)"],
)  # fmt: skip
def test_what_is_not_the_library_is_left_alone(text):
    assert calls_of(text) == []


def test_a_conventional_name_means_the_course_s_class_until_it_is_something_else():
    model = calls_of("def f(base_model):\n    base_model.generate(max_new_tokens=1)", "peft")[0]
    assert "transformers.LlamaForCausalLM.generate" in model.paths and model.instance
    assert calls_of("def f(model):\n    model.is_ours(1)", "peft") == []


def test_too_many_values_by_position_are_found():
    assert check({"x": [("x", "import json\njson.loads('1')")]}, names={"json"}).findings == ()
    found = check({"x": [("x", "import json\njson.loads('1', 2)")]}, names={"json"}).findings
    assert [str(finding) for finding in found] == ["x:2: json.loads: 2 values by position, it takes 1"]


def test_names_that_do_not_exist_are_found():
    found = check({"x": [("x", "from json import dump, dumb\nimport json.nothing")]}, names={"json"}).findings
    assert [finding.path for finding in found] == ["json.dumb", "json.nothing"]
    with pytest.raises(Gone, match="json has no nothing"):
        find("json.nothing.deep")


def test_a_compiled_function_is_read_from_its_documentation():
    assert {"dtype", "device", "requires_grad"} <= accepted("torch.empty").names
    assert "dype" not in accepted("torch.empty").names and accepted("torch.empty").how == "documentation"


def test_properties_are_matplotlibs_own_and_a_widgets_traits():
    from matplotlib.artist import ArtistInspector
    from matplotlib.patches import Rectangle

    assert set(ArtistInspector(Rectangle).get_setters()) <= accepted("matplotlib.patches.Rectangle").names
    assert "facecolour" not in accepted("matplotlib.patches.Rectangle").names
    assert {"value", "min", "readout_format"} <= accepted("ipywidgets.IntSlider").names
