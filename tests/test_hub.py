"""Before a download: access, licence and room. huggingface_hub talks to a small server here, whose answers are the Hub's."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from lorakit_helpers import hub, models
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.hub import cached, check_hub_model, download_gib
from lorakit_helpers.models import BaseModel, base_model, load_model
from lorakit_helpers.profiles import PROFILES

MODEL = PROFILES["gpu-16gb"].model_id


@pytest.fixture
def answer(monkeypatch, tmp_path):
    """A Hub that answers every request with the status and error code set in it."""
    import huggingface_hub
    import transformers  # noqa: F401  it must not see the class below when it is imported
    from huggingface_hub import HfApi as Api
    from huggingface_hub import constants

    state = SimpleNamespace(status=200, code="", gated=False, token=None, files={"model.safetensors": 2**30}, asked=[])

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append(self.path)
            files = [{"rfilename": name, "size": size} for name, size in state.files.items()]
            body = json.dumps({"id": "org/model", "gated": state.gated, "siblings": files}).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            if state.code:
                self.send_header("X-Error-Code", state.code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub, "HfApi", type("Api", (Api,), {"__init__": lambda self: Api.__init__(self, state.url)}))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: state.token)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "cached", lambda model_id: False)
    yield state
    server.shutdown()
    server.server_close()


def test_an_open_model_is_let_through(answer):
    check_hub_model(MODEL)
    assert answer.asked == [f"/api/models/{MODEL}?blobs=true"]


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize(
    ("model_id", "told"),
    [("meta-llama/Llama-3.1-8B-Instruct", "use unsloth/Meta-Llama-3.1-8B-Instruct, which has the same weights"),
     ("google/gemma-2-2b-it", "look for an open mirror")],
)  # fmt: skip
def test_a_gated_model_without_a_token_is_one_sentence_with_the_open_mirror(answer, model_id, told, status):
    answer.status, answer.gated = status, "manual"
    answer.code = "GatedRepo" if status == 403 else ""
    with pytest.raises(LorakitError, match=r"gated model .*no token on this machine") as caught:
        check_hub_model(model_id)
    assert told in caught.value.do and "hf auth login" in caught.value.do and "\n" not in str(caught.value)


def test_a_gated_model_is_open_to_a_token_with_access_only(answer):
    answer.gated, answer.token = "manual", "x"
    check_hub_model("google/gemma-2-2b-it")
    assert answer.asked[1:] == ["/api/models/google/gemma-2-2b-it/auth-check"]
    answer.status, answer.code = 403, "GatedRepo"
    with pytest.raises(LorakitError, match=r"whose owner has not been given access.*open mirror"):
        check_hub_model("google/gemma-2-2b-it")


@pytest.mark.parametrize("name", ["nobody/nothing", "no/such/folder"])
def test_an_unknown_model_is_told_to_check_its_name(answer, name):
    answer.status, answer.code = 401, "RepoNotFound"
    with pytest.raises(LorakitError, match=r"no such model on the Hub.*Check the spelling"):
        check_hub_model(name)


def test_a_profiles_model_needs_the_larger_of_both_sizes_and_any_other_its_own(answer, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=9 * 2**30))
    check_hub_model(MODEL)  # 8.1 GiB with its 4-bit copy
    answer.files = {"1.safetensors": 5 * 2**30, "2.safetensors": 4 * 2**30, "pytorch_model.bin": 2**40}
    for name in (MODEL, "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit"):
        with pytest.raises(LorakitError, match=r"at least 9\.45 GiB, got 9\.00 GiB free"):
            check_hub_model(name)
    answer.files = {"model.safetensors": 6 * 2**30}
    check_hub_model("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit")


def test_files_of_unknown_size_are_not_taken_for_missing_ones(answer):
    answer.files = {"model.safetensors": None}
    check_hub_model(MODEL)
    answer.files = {"pytorch_model.bin": 2**30}
    with pytest.raises(LorakitError, match="no safetensors"):
        check_hub_model(MODEL)


@pytest.mark.parametrize("how", ["broken", "gone", "offline"])
def test_no_hub_is_told_before_anything_is_loaded(answer, monkeypatch, how):
    from huggingface_hub import constants

    if how == "broken":
        answer.status = 500
    elif how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        answer.url = "http://127.0.0.1:9"
    with pytest.raises(LorakitError, match=r"no answer from the Hub.*--profile cpu"):
        base_model(PROFILES["gpu-16gb"])


def test_too_little_disk_is_told_before_the_hub_is_asked(answer, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=5 * 2**30))
    with pytest.raises(LorakitError, match=r"got 5\.00 GiB free.*HF_HOME"):
        base_model(PROFILES["gpu-24gb"])
    assert answer.asked == []


def test_a_gpu_profiles_model_is_checked_and_then_named(answer):
    found = base_model(PROFILES["gpu-24gb"])
    assert (found.path, found.source) == (PROFILES["gpu-24gb"].model_id, "hub") and len(answer.asked) == 1


def test_loading_a_gated_model_by_its_name_is_refused_as_well(answer):
    answer.status, answer.code = 403, "GatedRepo"
    with pytest.raises(LorakitError, match="gated"):
        load_model("meta-llama/Llama-3.2-1B-Instruct")


def test_download_is_the_published_size_of_the_weights_and_a_4_bit_copy():
    """16,060,522,496 bytes is ``total_size`` in the index file of Llama 3.1 8B's weights."""
    whole = 16_060_522_496 / 2**30
    assert whole * 1.3 < download_gib("unsloth/Meta-Llama-3.1-8B-Instruct") < whole * 1.5
    assert download_gib("nobody/nothing") == 0


def test_a_model_counts_as_cached_only_with_every_shard(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    api = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **o: api(name, cache_dir=tmp_path, **o))
    assert not cached("a/b")
    folder = tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text("c0ffee")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"x": "1.safetensors", "y": "2.safetensors"}})
    )
    (folder / "1.safetensors").write_bytes(b"")
    assert not cached("a/b")
    (folder / "2.safetensors").write_bytes(b"")
    assert cached("a/b")
    assert BaseModel("a/b", "hub", "").folder == folder and BaseModel(str(tmp_path), "hub", "").folder == tmp_path


def test_setting_a_model_aside_leaves_a_model_on_the_cpu_as_it_is():
    import torch

    model = SimpleNamespace(device=torch.device("cpu"))  # has no .to: it must not be called
    assert models.set_aside(model) is model


def test_setting_a_model_aside_empties_the_gpu(monkeypatch):
    import torch

    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))
    model = SimpleNamespace(device=torch.device("cuda"), to=calls.append)
    assert models.set_aside(model) is model and calls == ["cpu", "emptied"]
