"""Exports to other training engines use only keys, types and values those engines publish, and lose nothing silently."""

import ast
import json
from dataclasses import fields

import pytest
import yaml

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.files import project_root
from lorakit_helpers.profiles import PROFILES
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.scale.configs import deepspeed_config
from lorakit_helpers.scale.engines import ENGINE_VERSIONS, export_axolotl, export_llamafactory, write_export

SCHEMAS = json.loads((project_root() / "tests" / "reference" / "engine_schemas.json").read_text())
AXOLOTL, FACTORY = SCHEMAS["axolotl==0.19.0"], SCHEMAS["llamafactory==0.9.5"]
TRANSFORMERS, DEEPSPEED = SCHEMAS["transformers==5.6.0"], SCHEMAS["deepspeed==0.19.8"]
EXPORTS = {"axolotl": export_axolotl, "llamafactory": export_llamafactory}
#: Recipes that differ from the default in every field, and use every choice there is.
RECIPES = {
    **{f"profile {name}": profile.recipe for name, profile in PROFILES.items()},
    "default": Recipe(),
    "other": Recipe(
        r=8, lora_alpha=24, lora_dropout=0.05, target_modules=("q_proj", "v_proj"), learning_rate=1e-5,
        lr_scheduler_type="cosine", warmup_steps=1, weight_decay=0.01, num_train_epochs=2.5, max_steps=77,
        per_device_train_batch_size=3, gradient_accumulation_steps=5, max_length=1024, gradient_checkpointing="unsloth",
        optim="adamw_8bit", attn_implementation="flash_attention_2", torch_compile=True, group_by_length=False,
        logging_steps=3, save_steps=9, seed=7,
    ),
    "constant": Recipe(lr_scheduler_type="constant_with_warmup", gradient_checkpointing=True, attn_implementation="eager"),
}  # fmt: skip


@pytest.fixture
def chat(tmp_path):
    turns = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello!"}]
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": turns}) + "\n")
    return path


def fits(value, annotation: str, schema) -> bool:
    """Whether a value is of a published type; an enumeration or model is looked up in the schema."""
    return _fits(value, ast.parse(annotation, mode="eval").body, schema)


def _fits(value, node, schema):
    match node:
        case ast.BinOp():
            return _fits(value, node.left, schema) or _fits(value, node.right, schema)
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str(text)):
            return fits(value, text, schema)
        case ast.Name(id="Any"):
            return True
        case ast.Name(id=("int" | "float" | "str" | "bool") as name):
            kind = {"int": int, "float": (int, float), "str": str, "bool": bool}[name]
            return isinstance(value, kind) and (name == "bool" or not isinstance(value, bool))
        case ast.Name(id=name) if name in schema["enums"]:
            return value in schema["enums"][name]
        case ast.Name(id=name) if name in schema["models"]:
            return isinstance(value, dict) and not faults(value, [name], schema)
        case ast.Subscript(value=ast.Name(id="Literal")):
            return value in ast.literal_eval(ast.Tuple([*getattr(node.slice, "elts", [node.slice])], ast.Load()))
        case ast.Subscript(value=ast.Name(id="list" | "List"), slice=inner):
            return isinstance(value, list) and all(_fits(v, inner, schema) for v in value)
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=elements)):
            return _fits(value, elements[0], schema)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return value is None or _fits(value, inner, schema)
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=elements)):
            return any(_fits(value, inner, schema) for inner in elements)
    return False


def faults(values: dict, models, schema) -> list[str]:
    """Keys no model has, and values no model's type allows."""
    known = {key: annotation for name in models for key, annotation in schema["models"][name].items()}
    return [k for k, v in values.items() if k not in known or not fits(v, known[k], schema)]


def engine_faults(export) -> list[str]:
    if export.engine == "axolotl":
        return faults(export.values, [m for m in AXOLOTL["models"] if m != "SFTDataset"], AXOLOTL)
    merged = {"models": FACTORY["models"] | {"HF": TRANSFORMERS["models"]["TrainingArguments"]},
              "enums": FACTORY["enums"] | TRANSFORMERS["enums"]}  # fmt: skip
    return faults(export.values, [m for m in merged["models"] if m != "DatasetAttr"], merged)


@pytest.mark.parametrize("engine", EXPORTS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_key_and_value_is_one_the_engine_publishes(engine, name, chat):
    export = EXPORTS[engine](RECIPES[name], "HuggingFaceTB/SmolLM2-135M-Instruct", chat)
    assert engine_faults(export) == []
    read = yaml.safe_load(export.files()[f"{engine}.yaml"])
    assert read == export.values, "the file says what was checked"


@pytest.mark.parametrize("engine", EXPORTS)
def test_the_check_sees_a_wrong_key_and_a_wrong_value(engine, chat):
    export = EXPORTS[engine](Recipe(), "m", chat)
    key = {"axolotl": "lora_r", "llamafactory": "lora_rank"}[engine]
    export.values.update({key: "sixteen", "lora_rnk": 16, "weight_decay": "much"})
    assert sorted(engine_faults(export)) == sorted([key, "lora_rnk", "weight_decay"])


@pytest.mark.parametrize("engine", EXPORTS)
@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_field_is_carried_over_or_named_in_the_file(engine, name, chat):
    export = EXPORTS[engine](RECIPES[name], "m", chat)
    assert set(export.carried) | set(export.not_carried) == {f.name for f in fields(Recipe)}
    assert not set(export.carried) & set(export.not_carried)
    head = export.files()[f"{engine}.yaml"].split("\n")
    for field in export.not_carried:
        assert any(line.startswith(f"# not carried over: {field}: ") for line in head)
    assert all(key in export.values for keys in export.carried.values() for key in keys)


@pytest.mark.parametrize("engine", EXPORTS)
def test_a_changed_field_changes_the_file_unless_it_is_named_as_not_carried(engine, chat):
    default = EXPORTS[engine](Recipe(), "m", chat).values
    for field in fields(Recipe):
        changed = Recipe().but(**{field.name: getattr(RECIPES["other"], field.name)})
        export = EXPORTS[engine](changed, "m", chat)
        assert (export.values != default) is (field.name in export.carried), field.name


def test_both_engines_train_the_same_thing_as_the_recipe(chat):
    recipe = RECIPES["other"]
    a, f = (EXPORTS[engine](recipe, "m", chat).values for engine in EXPORTS)
    assert a["micro_batch_size"] * a["gradient_accumulation_steps"] == recipe.examples_per_step == 15
    assert f["per_device_train_batch_size"] * f["gradient_accumulation_steps"] == recipe.examples_per_step
    assert a["lora_alpha"] / a["lora_r"] == f["lora_alpha"] / f["lora_rank"] == recipe.scaling
    assert tuple(a["lora_target_modules"]) == tuple(f["lora_target"].split(",")) == recipe.target_modules
    assert a["sequence_len"] == f["cutoff_len"] == recipe.max_length and a["excess_length_strategy"] == "truncate"
    assert (a["adapter"], a["load_in_4bit"]) == ("qlora", True)
    assert (f["finetuning_type"], f["quantization_bit"], f["quantization_type"], f["double_quantization"]) == (
        "lora",
        4,
        "nf4",
        True,
    )
    assert not a["sample_packing"] and not f["packing"] and not a["train_on_inputs"] and not f["train_on_prompt"]
    assert a["datasets"][0]["roles_to_train"] == ["assistant"] and a["datasets"][0]["train_on_eos"] == "turn"
    assert f["mask_history"] and a["chat_template"] == "tokenizer_default" and "template" not in f
    assert f["use_unsloth_gc"] and not f["disable_gradient_checkpointing"] and a["activation_offloading"] is True


def test_names_of_optimizer_schedule_attention_and_template_are_known(chat):
    for recipe in RECIPES.values():
        a, f = (EXPORTS[engine](recipe, "m", chat).values for engine in EXPORTS)
        assert a["optimizer"] in TRANSFORMERS["enums"]["OptimizerNames"] + AXOLOTL["enums"]["CustomSupportedOptimizers"]
        assert f["optim"] in TRANSFORMERS["enums"]["OptimizerNames"]
        assert {a["lr_scheduler"], f["lr_scheduler_type"]} <= set(TRANSFORMERS["enums"]["SchedulerType"])
        assert a.get("attn_implementation", "sdpa") in AXOLOTL["enums"]["CANONICAL_ATTN_IMPLS"]
    assert a["chat_template"] in AXOLOTL["enums"]["ChatTemplate"]
    assert {"chatml", "llama3", "smollm2"} <= set(FACTORY["enums"]["templates"])


def test_an_attention_kernel_the_engine_lacks_is_named(chat):
    export = export_llamafactory(Recipe(attn_implementation="flex_attention"), "m", chat)
    assert "flash_attn" not in export.values and "flex_attention" in export.not_carried["attn_implementation"]


def test_llamafactorys_data_description_has_its_own_keys(chat):
    (info,) = export_llamafactory(Recipe(), "m", chat).dataset_info.values()
    known = FACTORY["models"]["DatasetAttr"]
    assert info["formatting"] in ast.literal_eval(ast.parse(known["formatting"], mode="eval").body.slice)
    assert set(info["columns"]) | set(info["tags"]) <= set(known)
    row = json.loads(chat.read_text())
    assert info["file_name"] == str(chat) and info["columns"]["messages"] in row
    assert {info["tags"]["role_tag"], info["tags"]["content_tag"]} == set(row["messages"][0])


def test_export_is_written_whole_with_its_comments(tmp_path, chat):
    folder = write_export(export_llamafactory(RECIPES["other"], "m", chat, template="chatml"), tmp_path / "new")
    assert sorted(p.name for p in folder.iterdir()) == ["dataset_info.json", "llamafactory.yaml"]
    text = (folder / "llamafactory.yaml").read_text()
    assert "15 examples an update" in text and "not carried over: torch_compile" in text and "template: chatml" in text
    assert "trust_remote_code" not in text


def test_reference_is_of_the_versions_exported_to():
    assert {f"{name}=={version}" for name, version in ENGINE_VERSIONS.items()} <= set(SCHEMAS)
    assert all(release.split("==")[1] in found["archive"] and len(found["sha256"]) == 64 for release, found in SCHEMAS.items())


@pytest.mark.parametrize(("stage", "offload"), [(2, "none"), (2, "optimizer"), (3, "none"), (3, "parameters")])
def test_deepspeeds_settings_are_keys_of_its_own_schema(stage, offload):
    zero = deepspeed_config(stage=stage, offload=offload).deepspeed["zero_optimization"]
    models = DEEPSPEED["models"]
    assert set(zero) <= set(models["DeepSpeedZeroConfig"])
    for key, model in (("offload_param", "ParamConfig"), ("offload_optimizer", "OptimizerConfig")):
        inner = zero.get(key, {"device": "none"})
        assert set(inner) <= set(models[f"DeepSpeedZeroOffload{model}"])
        assert inner["device"] in DEEPSPEED["enums"]["OffloadDeviceEnum"]


def test_data_in_another_format_or_missing_is_one_sentence(tmp_path):
    path = tmp_path / "alpaca.jsonl"
    path.write_text('{"instruction": "Say hello.", "output": "Hello!"}\n')
    with pytest.raises(LorakitError, match="expected chat messages, got the format alpaca"):
        export_axolotl(Recipe(), "m", path)
    with pytest.raises(LorakitError, match="no such file"):
        export_llamafactory(Recipe(), "m", tmp_path / "none.jsonl")


def test_an_unknown_precision_is_one_sentence(chat):
    with pytest.raises(LorakitError, match="precision: expected bf16 or fp16"):
        export_axolotl(Recipe(), "m", chat, precision="fp8")


def test_a_missing_model_or_template_name_is_one_sentence(chat):
    for model in ("", None, 3):
        with pytest.raises(LorakitError, match="export, model: expected a name"):
            export_axolotl(Recipe(), model, chat)
    with pytest.raises(LorakitError, match="export, template"):
        export_llamafactory(Recipe(), "m", chat, template=" ")
