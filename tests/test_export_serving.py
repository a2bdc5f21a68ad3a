"""The server, with a random two-layer Llama behind it: its answers, its refusals, and that no process stays behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.export import serving
from lorakit_helpers.export.gguf import convert, find_tools, lora_to_gguf
from lorakit_helpers.export.header import TEMPLATE_KEY
from lorakit_helpers.export.modelfile import template_check
from lorakit_helpers.export.serving import serve

CHAT = [{"role": "user", "content": "Ça va? Order 1234567 — “lamp” <|im_end|>"}]
CHATS = [CHAT, [{"role": "system", "content": "Ticket to JSON."}, *CHAT], [*CHAT, {"role": "assistant", "content": "b"}, *CHAT]]
TEXTS = ("Hello", "Ticket to JSON.", "Order 1234567 and a lamp", "def f(x):")
SCHEMA = {
    "type": "object", "properties": {"intent": {"enum": ["refund", "exchange"]}, "order_id": {"type": ["null", "boolean"]}},
    "required": ["intent", "order_id"], "additionalProperties": False,
}  # fmt: skip

there = find_spec("xllamacpp") is not None and find_tools().converter is not None
needs_llama = pytest.mark.skipif(not there, reason="llama.cpp's parts are not installed: make gguf")


def children():
    """Serving processes of this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "lorakit_helpers.export.serve" in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def ended(pid, within_s=8.0):
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(autouse=True)
def nothing_stays_behind():
    before = set(children())
    yield
    assert set(children()) == before


@pytest.fixture(scope="module")
def file(tiny, tmp_path_factory):
    return convert(tiny, tmp_path_factory.mktemp("gguf") / "tiny.gguf", "bf16")


@pytest.fixture(scope="module")
def server(file):
    with serve(file, threads=1) as running:
        yield running


@pytest.fixture(scope="module")
def model(tiny):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()


@needs_llama
def test_it_listens_on_this_machine_only(server):
    listening = [c for c in psutil.Process(server.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
    assert server.url == f"http://127.0.0.1:{listening[0].laddr.port}"
    assert repr(server) == "llama.cpp server of tiny.gguf on 127.0.0.1, running"


@needs_llama
def test_it_has_a_process_group_of_its_own(server):
    assert os.getpgid(server.pid) != os.getpgrp()


@needs_llama
def test_greedy_completion_is_the_models_most_likely_token(server, model, tokenizer):
    import torch

    compared = 0
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            first, second = model(torch.tensor([ids])).logits[0, -1].topk(2)
        if first[0] - first[1] > 0.05:  # else rounding to bf16 may decide
            answers = [server.complete(prompt, max_tokens=1) for prompt in (text, ids)]
            assert [a.text for a in answers] == [tokenizer.decode([second[0]])] * 2
            assert (answers[0].tokens, answers[0].prompt_tokens, answers[0].finish_reason) == (1, len(ids), "length")
            compared += 1
    assert compared


@needs_llama
def test_an_adapters_own_gguf_is_applied_while_loading(file, tiny, tokenizer, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"])
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32), config).eval()
    for name, values in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(values, std=0.5)
    tuned.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    lora = lora_to_gguf(tmp_path / "adapter", tiny, tmp_path / "lora.gguf")
    compared = 0
    with serve(file, lora=lora, threads=1) as running:
        for text in [*TEXTS, "one two three", "lamp", "Dear Sir or Madam", "{", "1 2 3 4", "Yours, Bo", "the", "import os"]:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            with torch.no_grad():
                values, best = tuned(ids).logits[0, -1].topk(2)
                with tuned.disable_adapter():
                    without = tuned(ids).logits[0, -1].argmax()
            if values[0] - values[1] > 0.05 and without != best[0]:  # else rounding to bf16, or the base alone, may decide
                assert running.complete(text, max_tokens=1).text == tokenizer.decode([best[0]])
                compared += 1
    assert compared


@needs_llama
def test_even_a_random_model_keeps_to_a_schema(server):
    for ask in (lambda **options: server.complete("x", **options), lambda **options: server.chat(CHAT, **options)):
        reply = ask(schema=SCHEMA, max_tokens=300)
        answer = json.loads(reply.text)
        assert answer["intent"] in ("refund", "exchange") and answer["order_id"] in (None, True, False)
        assert reply.finish_reason == "stop"
    with pytest.raises(ValueError):
        json.loads(server.chat(CHAT).text)  # what it says when it is free to


@needs_llama
def test_an_answer_does_not_depend_on_what_was_asked_before(server):
    first = server.chat(CHAT, max_tokens=24).text
    server.complete("something else", max_tokens=8)
    assert server.chat(CHAT, max_tokens=24).text == first


@needs_llama
def test_llama_cpp_renders_and_tokenizes_as_training_did(server, file, tokenizer):
    found = template_check(file, tokenizer, CHATS, server=server)
    assert found.same and found.against == ("GGUF", "llama.cpp")
    expected = tokenizer.apply_chat_template(CHATS[1], add_generation_prompt=True, return_dict=False)
    assert server.tokenize(server.apply_template(CHATS[1])) == expected
    assert server.chat(CHATS[1], max_tokens=1).prompt_tokens == len(expected)


@needs_llama
def test_refusals_say_what_to_do_and_the_server_goes_on(server):
    with pytest.raises(LorakitError, match="context=512"):
        server.chat([{"role": "user", "content": "word " * 600}])
    with pytest.raises(LorakitError, match="nonsense"):
        server.chat(CHAT, schema={"type": "nonsense"})
    with pytest.raises(LorakitError, match="role"):
        server.chat([{"role": "usr", "content": "x"}])
    with pytest.raises(LorakitError, match="max_tokens"):
        server.chat(CHAT, max_tokens=0)
    assert server.chat(CHAT, max_tokens=2).tokens == 2


@needs_llama
def test_no_answer_in_time_is_an_error_and_the_server_goes_on(server):
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(LorakitError, match=r"no answer within 0\.3 s"):
            server.chat(CHAT, timeout=0.3)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert server.chat(CHAT, max_tokens=2).tokens == 2


@needs_llama
def test_killed_while_it_answers(file):
    with serve(file, threads=1) as running:
        os.kill(running.pid, signal.SIGSTOP)  # so that the request is surely under way
        threading.Timer(0.4, os.kill, (running.pid, signal.SIGKILL)).start()
        with pytest.raises(LorakitError, match=r"it ended while it answered \(killed by SIGKILL\)"):
            running.chat(CHAT)
        assert not running.running and not running._folder.exists()
        with pytest.raises(LorakitError, match="running"):
            running.chat(CHAT)


@needs_llama
def test_stopped_twice_and_asked_after(file):
    running = serve(file, threads=1)
    folder = running._folder
    assert "listening" in running.log(50)
    running.stop()
    running.stop()
    assert ended(running.pid, 0.1) and not folder.exists()
    with pytest.raises(LorakitError, match="it was stopped"):
        running.complete("x")


@needs_llama
def test_one_that_does_not_react_is_killed(file):
    running = serve(file, threads=1)
    os.kill(running.pid, signal.SIGSTOP)
    running.stop()
    assert ended(running.pid, 0.1)


@needs_llama
def test_it_ends_when_nobody_holds_it_any_more(file):
    import gc

    running = serve(file, threads=1)
    pid = running.pid
    del running
    gc.collect()
    assert ended(pid, 1)


PARENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would this
from lorakit_helpers.export.serving import serve
with serve(sys.argv[1], threads=1) as running:
    print(running.pid, running._folder, flush=True)
    {then}
"""


@needs_llama
@pytest.mark.parametrize(
    "then, sent",
    [("time.sleep(60)", signal.SIGKILL), ("time.sleep(60)", signal.SIGINT), ("import os; os._exit(0)", None), ("1 / 0", None)],
    ids=["parent killed", "interrupt", "exit at once", "exception"],
)
def test_it_does_not_outlive_its_parent(file, then, sent):
    command = [sys.executable, "-c", PARENT.format(then=then), str(file)]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True, cwd=serving._child.SOURCE
    )  # fmt: skip
    pid, folder = parent.stdout.readline().split(maxsplit=1)
    if sent:
        os.killpg(parent.pid, sent)  # as Jupyter's interrupt: to the whole group
    parent.wait(20)
    parent.stdout.close()
    assert ended(int(pid)) and not Path(folder.strip()).exists()


@needs_llama
def test_killed_while_loading_the_parent_takes_the_server_along(file):
    code = PARENT.replace("with serve", "import lorakit_helpers.export._child as c; end = c.await_address\n"
                          "c.await_address = lambda p, *a: (print(p.pid, flush=True), end(p, *a))[1]\nwith serve")  # fmt: skip
    parent = subprocess.Popen(
        [sys.executable, "-c", code.format(then="time.sleep(60)"), str(file)], stdout=subprocess.PIPE, text=True,
        cwd=serving._child.SOURCE,
    )  # fmt: skip
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert ended(pid)


@needs_llama
def test_a_port_in_use(file):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LorakitError, match="in use"):
            serve(file, port=taken.getsockname()[1])
    for port in (0, 70_000, "8080", True):
        with pytest.raises(LorakitError, match="port"):
            serve(file, port=port)


@needs_llama
def test_a_port_of_ones_own(file):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serve(file, port=port, threads=1) as running:
        assert running.url.endswith(f":{port}") and running.complete("a", max_tokens=1).tokens == 1


@needs_llama
def test_a_port_taken_between_check_and_start_is_an_error_with_the_log(file, monkeypatch):
    monkeypatch.setattr(serving._child, "check_port", lambda port: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LorakitError, match="it ended while loading"):
            serve(file, port=taken.getsockname()[1], threads=1, timeout=30)


@needs_llama
def test_too_slow_to_start(file):
    with pytest.raises(LorakitError, match=r"not ready within 0\.01 s"):
        serve(file, timeout=0.01)


@needs_llama
def test_a_file_cut_off_in_its_weights_is_an_error_with_the_log(file, tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-200_000])
    with pytest.raises(LorakitError, match="it ended while loading") as caught:
        serve(cut, timeout=30)
    assert "cut.gguf" in str(caught.value) and "data is not within the file bounds" in str(caught.value)


@needs_llama
def test_without_a_chat_template_it_completes_but_does_not_chat(file, tmp_path):
    bare = tmp_path / "bare.gguf"
    bare.write_bytes(file.read_bytes().replace(TEMPLATE_KEY.encode(), TEMPLATE_KEY[:-1].encode() + b"X"))
    with serve(bare, threads=1) as running:
        for ask in (running.chat, running.apply_template):
            with pytest.raises(LorakitError, match="no chat template in it"):
                ask(CHAT)
        assert running.complete("a", max_tokens=1).tokens == 1


@needs_llama
def test_a_whole_model_is_no_adapter(file):
    with pytest.raises(LorakitError, match="lora_to_gguf"):
        serve(file, lora=file)


def test_files_that_are_none(tmp_path):
    with pytest.raises(LorakitError, match="no such file"):
        serve(tmp_path / "none.gguf")
    with pytest.raises(LorakitError, match="a folder"):
        serve(tmp_path)
    (tmp_path / "zip.gguf").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(LorakitError, match="begins with GGUF"):
        serve(tmp_path / "zip.gguf")


def test_without_xllamacpp_it_says_the_one_command(tmp_path, monkeypatch):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(16))
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LorakitError, match="make gguf"):
        serve(path)
