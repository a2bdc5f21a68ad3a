"""What the machine is, which profile fits, and how a notebook starts."""

import json
import os
from pathlib import Path
from unittest import mock

import psutil
import pytest

from lorakit_helpers import hardware
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.hardware import Hardware, choose_profile, current_profile, detect
from lorakit_helpers.memory import find_gpu
from lorakit_helpers.profiles import PROFILES
from lorakit_helpers.start import outputs_dir, start

GIB = 2**30
CORES = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else range(psutil.cpu_count())


def gpu(total, bf16=True) -> Hardware:
    return Hardware("cuda", "Tesla Test", total, total - 1, bf16, 8, ("made for a test",))


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(hardware, "_nvidia_driver_present", lambda: False)
    monkeypatch.delenv("LORAKIT_PROFILE", raising=False)


@pytest.mark.parametrize(
    ("card", "name"),
    [("RTX 3070 8 GB", "cpu"), ("RTX 3080 10 GB", "cpu"), ("RTX 3060 12 GB", "gpu-16gb"), ("T4", "gpu-16gb"),
     ("V100 16 GB", "gpu-16gb"), ("A10G", "gpu-24gb"), ("RTX 4090", "gpu-24gb"), ("A100 80 GB", "gpu-24gb")],
)  # fmt: skip
def test_memory_of_the_gpu_chooses_the_profile(card, name):
    total = find_gpu(card).memory_gib
    choice = choose_profile(gpu(total))
    assert choice.profile is PROFILES[name]
    assert "Tesla Test" in choice.reason and f"{total:.1f} GiB" in choice.reason


def test_without_gpu_even_a_large_memory_means_cpu():
    choice = choose_profile(Hardware("cpu", "Big Iron", 512.0, 500.0, True, 64, ()))
    assert choice.profile is PROFILES["cpu"] and "no usable NVIDIA GPU" in str(choice)


@pytest.mark.parametrize(("build", "said"), [(None, "a build for CPUs"), ("12.8", "run nvidia-smi")])
def test_a_gpu_that_torch_cannot_use_is_not_denied(monkeypatch, build, said):
    import torch

    monkeypatch.setattr(hardware, "_nvidia_driver_present", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert said in hardware.detect().reasons[0]
    assert said in choose_profile(Hardware("cpu", "Big Iron", 512.0, 500.0, True, 64, ())).reason


@pytest.mark.parametrize("name", [name for name, p in PROFILES.items() if p.device == "cuda"])
def test_gpu_profile_without_gpu_says_what_to_do(no_gpu, name):
    with pytest.raises(LorakitError) as caught:
        current_profile(name)
    assert name in str(caught.value) and "--profile cpu" in caught.value.do and "GPU" in str(caught.value)


def test_gpu_profile_with_gpu_is_granted(monkeypatch):
    monkeypatch.setattr(hardware, "detect", lambda: gpu(23.6))
    assert current_profile("gpu-16gb").profile is PROFILES["gpu-16gb"]
    monkeypatch.delenv("LORAKIT_PROFILE", raising=False)
    assert current_profile().profile is PROFILES["gpu-24gb"]


def test_a_profile_that_does_not_fit_is_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(hardware, "detect", lambda: gpu(14.75))
    with pytest.raises(LorakitError, match=r"profile gpu-24gb on Tesla Test: expected .* GiB to train and .* got 14\.8 GiB"):
        current_profile("gpu-24gb")


def test_a_card_that_others_hold_is_refused_and_told_how_to_free_it(monkeypatch):
    full = Hardware("cuda", "Tesla Test", 23.5, 3.0, True, 8, ())
    monkeypatch.setattr(hardware, "detect", lambda: full)
    monkeypatch.delenv("LORAKIT_PROFILE", raising=False)
    assert choose_profile(full).profile is PROFILES["gpu-24gb"]  # no other profile because another notebook is open
    for name in ("auto", "gpu-24gb"):
        with pytest.raises(LorakitError, match=r"got 3\.0 of 23\.5 GiB free\. Free the card"):
            current_profile(name)
    assert current_profile("cpu").profile is PROFILES["cpu"]


def test_what_this_process_holds_on_the_card_counts_as_free(monkeypatch):
    import torch

    for name, value in (("is_available", True), ("get_device_name", "Tesla Test"), ("is_bf16_supported", False),
                        ("mem_get_info", (2 * GIB, 16 * GIB)), ("memory_reserved", 3 * GIB)):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *a, value=value, **k: value)
    monkeypatch.setattr(hardware, "_nvidia_driver_present", lambda: True)
    found = detect()
    assert (found.device, found.memory_free_gib, found.memory_total_gib, found.bf16) == ("cuda", 5.0, 16.0, False)


def test_a_name_wins_over_the_environment_and_the_environment_over_detection(no_gpu, monkeypatch):
    assert current_profile().profile.name == "cpu"
    monkeypatch.setenv("LORAKIT_PROFILE", "smoke")
    assert current_profile().profile.name == "smoke"
    assert current_profile("cpu").profile.name == "cpu"


def test_unknown_profile_in_the_environment_is_named(no_gpu, monkeypatch):
    monkeypatch.setenv("LORAKIT_PROFILE", "smokey")
    with pytest.raises(LorakitError, match="Did you mean smoke"):
        current_profile()


def test_empty_environment_variable_counts_as_unset(no_gpu, monkeypatch):
    monkeypatch.setenv("LORAKIT_PROFILE", "")
    assert current_profile().profile.name == "cpu"


def test_detect_agrees_with_psutil(no_gpu, monkeypatch):
    monkeypatch.setattr(hardware, "_cgroup_limit", lambda: None)
    found, memory = detect(), psutil.virtual_memory()
    assert found.device == "cpu"
    assert found.memory_total_gib == pytest.approx(memory.total / GIB)
    assert found.memory_free_gib == pytest.approx(memory.available / GIB, abs=1.0)  # another process may allocate meanwhile
    assert found.cores == len(CORES)
    assert 0 < found.memory_free_gib <= found.memory_total_gib


def test_container_limit_below_the_computers_memory_counts(no_gpu, monkeypatch):
    limit = GIB // 2
    monkeypatch.setattr(hardware, "_cgroup_limit", lambda: limit)
    found = detect()
    assert found.memory_total_gib == 0.5 and found.memory_free_gib <= 0.5
    assert any("container limit" in reason for reason in found.reasons)


def test_what_a_container_holds_already_is_not_free(no_gpu, monkeypatch):
    monkeypatch.setattr(hardware, "_cgroup_limit", lambda: GIB // 2)
    monkeypatch.setattr(hardware, "_cgroup_used", lambda: GIB // 8 * 3)
    assert detect().memory_free_gib == pytest.approx(0.125)
    monkeypatch.setattr(hardware, "_cgroup_used", lambda: GIB)
    assert detect().memory_free_gib == 0


def test_container_limit_above_the_computers_memory_does_not_count(no_gpu, monkeypatch):
    monkeypatch.setattr(hardware, "_cgroup_limit", lambda: 2**62)
    found = detect()
    assert found.memory_total_gib == pytest.approx(psutil.virtual_memory().total / GIB)
    assert any("psutil" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("flags", "native"),
    [("fpu avx2 avx512f", False), ("fpu avx512_bf16", True), ("fpu amx_bf16 amx_tile", True), ("fp asimd bf16", True),
     ("avx512_bf16x", False), ("", False)],
)  # fmt: skip
def test_bf16_is_read_from_the_processors_flags(no_gpu, monkeypatch, flags, native):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: set(flags.split()))
    found = detect()
    assert found.bf16 is native and ("native bf16" in str(found)) and ("no native" in str(found)) is not native
    assert len(found.reasons) == 3 and all(found.reasons)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux only")
def test_flags_are_those_of_proc_cpuinfo():
    lines = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features"))]
    assert hardware._cpu_flags() == set(lines[0].split(":", 1)[1].split())


def test_driver_without_usable_cuda_falls_back_to_cpu(monkeypatch):
    monkeypatch.setattr(hardware, "_nvidia_driver_present", lambda: True)
    monkeypatch.setattr(hardware, "_detect_cuda", lambda: None)
    assert detect().device == "cpu"


def test_hardware_reads_as_one_line_with_units_and_survives_json():
    machine = gpu(15.5, bf16=False)
    assert str(machine) == "cuda: Tesla Test, 14.5 of 15.5 GiB free, 8 cores, no native bf16"
    assert json.loads(json.dumps(machine.to_dict())) | {"reasons": machine.reasons} == machine.to_dict()


def test_smoke_results_never_replace_the_real_ones(no_gpu, monkeypatch, tmp_path):
    (tmp_path / "data" / "tickets").mkdir(parents=True)
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path))
    real, smoke = (outputs_dir(current_profile(name)) for name in ("cpu", "smoke"))
    assert real == tmp_path / "outputs" and smoke != real and smoke.is_relative_to(tmp_path)


def test_start_quiets_the_libraries_but_keeps_what_was_set(no_gpu):
    with mock.patch.dict(os.environ, {"TOKENIZERS_PARALLELISM": "true"}):
        os.environ.pop("HF_HUB_DISABLE_TELEMETRY", None)
        assert start("smoke").profile is PROFILES["smoke"]
        assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
        assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
