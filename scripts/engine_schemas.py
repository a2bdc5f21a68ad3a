"""Make tests/reference/engine_schemas.json anew: the keys, types and values that other training engines publish.

python scripts/engine_schemas.py                     # fetch the pinned releases with pip, read them, write the file
python scripts/engine_schemas.py --archives FOLDER   # read releases that lie there already
python scripts/engine_schemas.py --validate          # also hand the course's exports to the engines' own classes

Nothing is imported or run to make the file: the sources are read with ``ast`` from within the archives. ``--validate``
imports the engines' modules from the archives; beside the course's packages they want omegaconf and addict.
"""

import argparse
import ast
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "tests" / "reference" / "engine_schemas.json"

#: release -> source file in it -> classes to read; "enums" and "constants" are read from their files too.
SOURCES = {
    "axolotl==0.19.0": {
        "axolotl/utils/schemas/config.py": ["AxolotlInputConfig"],
        "axolotl/utils/schemas/model.py": ["ModelInputConfig", "ModelOutputConfig"],
        "axolotl/utils/schemas/peft.py": ["LoraConfig", "ReLoRAConfig"],
        "axolotl/utils/schemas/training.py": ["HyperparametersConfig", "JaggedLRConfig"],
        "axolotl/utils/schemas/datasets.py": ["SFTDataset"],
        "axolotl/utils/schemas/enums.py": ["ChatTemplate", "CustomSupportedOptimizers", "CANONICAL_ATTN_IMPLS"],
    },
    "llamafactory==0.9.5": {
        "llamafactory/hparams/model_args.py": ["BaseModelArguments", "QuantizationArguments"],
        "llamafactory/hparams/data_args.py": ["DataArguments"],
        "llamafactory/hparams/finetuning_args.py": ["LoraArguments", "FinetuningArguments"],
        "llamafactory/hparams/training_args.py": ["TrainingArguments"],
        "llamafactory/data/parser.py": ["DatasetAttr"],
        "llamafactory/extras/constants.py": ["AttentionFunction", "QuantizationMethod"],
        "llamafactory/data/template.py": ["register_template()"],
    },
    "transformers==5.6.0": {  # the newest that llamafactory 0.9.5 allows; its TrainingArguments are part of the keys
        "transformers/training_args.py": ["TrainingArguments", "OptimizerNames"],
        "transformers/trainer_utils.py": ["SchedulerType"],
    },
    "deepspeed==0.19.8": {
        "deepspeed/runtime/zero/config.py": ["DeepSpeedZeroConfig", "ZeroStageEnum"],
        "deepspeed/runtime/zero/offload_config.py": [
            "DeepSpeedZeroOffloadParamConfig", "DeepSpeedZeroOffloadOptimizerConfig", "OffloadDeviceEnum",
        ],
    },
}  # fmt: skip


def fetch(release: str, folder: Path) -> Path:
    """The release's archive in ``folder``, fetched with pip where it is not there yet."""
    name, version = release.split("==")
    for _ in range(2):
        found = [p for p in folder.glob(f"{name}-{version}*") if p.suffix in (".whl", ".gz")]
        if found:
            return found[0]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), release]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    raise SystemExit(f"{release}: pip left no archive in {folder}")


def read_source(archive: Path, name: str) -> ast.Module:
    """One source file of a wheel or a source archive, parsed."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return ast.parse(opened.read(name))
    with tarfile.open(archive) as opened:
        member = next(m for m in opened.getmembers() if m.name.split("/", 1)[-1] == name)
        return ast.parse(opened.extractfile(member).read())


def read_class(node: ast.ClassDef) -> dict | list:
    """``{field: annotation}`` of a model, or the values of an enumeration."""
    if any("Enum" in ast.unparse(base) for base in node.bases):
        return [n.value.value for n in node.body if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant)]
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
    return {_alias(n) or n.target.id: _choices(n) or ast.unparse(n.annotation) for n in fields}


def _alias(node) -> str:
    """The name a file must use where it differs from the field's, as DeepSpeed's ``stage3_`` keys do."""
    keywords = node.value.keywords if isinstance(node.value, ast.Call) else ()
    return next((k.value.value for k in keywords if k.arg == "alias" and isinstance(k.value, ast.Constant)), "")


def _choices(node) -> str:
    """A ``Literal`` where the field's metadata lists the values, as transformers does."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Dict):
            for key, value in zip(inner.keys, inner.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "choices" and isinstance(value, ast.List):
                    return f"Literal{ast.unparse(value)}"
    return ""


def read_release(archive: Path, files: dict) -> dict:
    found = {"archive": archive.name, "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(), "models": {}, "enums": {}}
    for name, wanted in files.items():
        module = read_source(archive, name)
        for node in module.body:
            if isinstance(node, ast.ClassDef) and node.name in wanted:
                read = read_class(node)
                found["enums" if isinstance(read, list) else "models"][node.name] = read
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in wanted:
                values = next(n for n in ast.walk(node.value) if isinstance(n, ast.Set | ast.List))
                found["enums"][ast.unparse(node.targets[0])] = [n.value for n in values.elts]
        if "register_template()" in wanted:
            calls = [n for n in ast.walk(module) if isinstance(n, ast.Call) and ast.unparse(n.func) == "register_template"]
            found["enums"]["templates"] = [k.value.value for c in calls for k in c.keywords if k.arg == "name"]
        missing = {w for w in wanted if w not in found["models"] | found["enums"] and w != "register_template()"}
        if missing:
            raise SystemExit(f"{archive.name}, {name}: {', '.join(sorted(missing))} not found")
    return found


def validate(folder: Path, unpacked: Path) -> None:
    """Hand exports of the course's profiles to the engines' own schema classes."""
    sys.path.insert(0, str(ROOT))
    for release in ("axolotl==0.19.0", "llamafactory==0.9.5"):
        with zipfile.ZipFile(fetch(release, folder)) as opened:
            opened.extractall(unpacked)
    sys.path.insert(1, str(unpacked))
    from lorakit_helpers.profiles import PROFILES
    from lorakit_helpers.scale.engines import export_axolotl, export_llamafactory

    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "chat.jsonl"
        turns = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello!"}]
        data.write_text(json.dumps({"messages": turns}) + "\n")
        for name, profile in PROFILES.items():
            for check, export in ((_axolotl, export_axolotl), (_llamafactory, export_llamafactory)):
                exported = export(profile.recipe, "HuggingFaceTB/SmolLM2-135M-Instruct", data, output_dir=scratch + "/out")
                print(f"{name}: {exported.engine}: {check(exported.values)}")
    for engine in (_axolotl_tokens, _llamafactory_tokens):
        try:
            print(f"one ticket, SmolLM2: {engine(*_ticket())}")
        except ImportError as error:
            print(f"one ticket, {engine.__name__.strip('_')}: not checked: {error}")


def _ticket():
    """Tokenizer, the first ticket's messages, and the tokens of its prompt and of its answer as the course trains them."""
    from transformers import AutoTokenizer

    from lorakit_helpers.models import base_model
    from lorakit_helpers.tickets import load_split, to_conversation

    tokenizer, row = AutoTokenizer.from_pretrained(base_model(log=lambda _: None).path), to_conversation(load_split("train")[0])
    whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=False)
    prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
    assert whole[: len(prompt)] == prompt
    return tokenizer, row["prompt"] + row["completion"], prompt, whole[len(prompt) :]


def _axolotl_tokens(tokenizer, messages, prompt, answer) -> str:
    from axolotl.prompt_strategies.chat_template import load  # needs addict
    from axolotl.utils.dict import DictDefault

    asked = DictDefault({"sequence_len": 512, "train_on_inputs": False, "chat_template": "tokenizer_default"})
    data = {"chat_template": "tokenizer_default", "field_messages": "messages", "roles_to_train": ["assistant"]}
    row = load(tokenizer, asked, data | {"train_on_eos": "turn"}).tokenize_prompt({"messages": messages})
    trained = [label for label in row["labels"] if label != -100]
    rest = tokenizer.decode(answer[len(trained) :])
    same = row["input_ids"] == prompt + answer, trained == answer[: len(trained)]
    return f"axolotl: same tokens {same[0]}, trains {len(trained)} of {len(answer)} {same[1]}, without {rest!r}"


def _llamafactory_tokens(tokenizer, messages, prompt, answer) -> str:
    import importlib.machinery
    import types

    for name in ("torchaudio", "av"):  # imported beside the templates, for sound and film, and not used for them
        sys.modules.setdefault(name, types.ModuleType(name)).__spec__ = importlib.machinery.ModuleSpec(name, None)
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    template = get_template_and_fix_tokenizer(tokenizer, DataArguments(template=None, dataset="x", mask_history=True))
    source, target = template.encode_oneturn(tokenizer, messages[1:], messages[0]["content"])
    return f"llamafactory: same prompt {source == prompt}, same answer {target == answer}, {len(target)} tokens trained"


def _axolotl(values) -> str:
    from axolotl.utils.schemas.config import AxolotlInputConfig

    found = AxolotlInputConfig(**values)
    unknown = set(values) - set(AxolotlInputConfig.model_fields)
    changed = {k: getattr(found, k) for k, v in values.items() if k not in unknown | {"datasets"} and getattr(found, k) != v}
    return f"accepted by AxolotlInputConfig, unknown keys {sorted(unknown)}, changed values {changed}"


def _llamafactory(values) -> str:
    import os

    os.environ["DISABLE_VERSION_CHECK"] = "1"  # it asks for older libraries than the course's
    try:
        from llamafactory.hparams import DataArguments, FinetuningArguments, ModelArguments, TrainingArguments
    except ImportError as error:
        return f"not checked: {error}"
    from transformers import HfArgumentParser

    parser = HfArgumentParser((ModelArguments, DataArguments, FinetuningArguments, TrainingArguments))
    run_here = values | {"bf16": False, "fp16": False, "use_cpu": True}  # the machine may have no GPU
    parsed = parser.parse_dict(run_here, allow_extra_keys=False)
    return f"accepted by {', '.join(type(p).__name__ for p in parsed)}"


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=Path, help="folder with the releases; a temporary one otherwise")
    parser.add_argument("--validate", action="store_true", help="hand exports to the engines' own classes")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.archives or Path(scratch)
        found = {release: read_release(fetch(release, folder), files) for release, files in SOURCES.items()}
        TARGET.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{TARGET.relative_to(ROOT)}: " + ", ".join(f"{r} ({len(f['models'])} models)" for r, f in found.items()))
        if options.validate:
            validate(folder, Path(scratch) / "unpacked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
