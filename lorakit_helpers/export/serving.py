"""An exported model behind HTTP: llama.cpp's OpenAI-style server on 127.0.0.1, started and ended from Python.

The server is llama.cpp's own, from the prebuilt wheel ``xllamacpp``; it runs in a child process (see
:mod:`lorakit_helpers.export.serve`) and is spoken to over HTTP like any other, so ``curl`` or the ``openai`` client do as well.
"""

import importlib.util
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from ..errors import LorakitError
from . import _child
from .gguf import INSTALL
from .header import TEMPLATE_KEY, read_header

__all__ = ["Reply", "Server", "serve"]

# for the grammar engine of xllamacpp's build (llguidance): blanks as json.dumps writes them; others pass it over
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        text: as generated, control tokens left out.
        tokens, prompt_tokens: how many were generated, and read.
        seconds: from request to answer, as the caller waits.
        tokens_per_s: of generating alone, as llama.cpp timed it.
        finish_reason: ``"stop"`` (the model ended its turn) or ``"length"`` (it was cut off at ``max_tokens``).

    Example:
        >>> print(Reply("Hello.", 3, 20, 0.5, 30.0, "stop"))
        3 tokens in 0.5 s (30 tokens/s), ended by itself: 'Hello.'
    """

    text: str
    tokens: int
    prompt_tokens: int
    seconds: float
    tokens_per_s: float
    finish_reason: str

    def __str__(self):
        end = "ended by itself" if self.finish_reason == "stop" else "cut off"
        return f"{self.tokens} tokens in {self.seconds:.1f} s ({self.tokens_per_s:.0f} tokens/s), {end}: {self.text!r}"


class Server:
    """A running server; a context manager. Made by :func:`serve`.

    Attributes:
        path: the GGUF file it serves.
        url: ``http://127.0.0.1:PORT``; OpenAI clients add ``/v1``.
        pid: of the child process.
        template: the chat template in the GGUF, None where there is none.
    """

    def __init__(self, process, folder: Path, path: Path, header: dict, context: int):
        self.path, self.pid, self.url, self.context = path, process.pid, "", context
        self.template = header.get(TEMPLATE_KEY)
        self._process, self._folder = process, folder
        # ends the child when this object goes, at the latest when Python ends
        self._finalizer = weakref.finalize(self, _child.end, process, folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def __repr__(self):  # without port and process number, which differ from run to run
        return f"llama.cpp server of {self.path.name} on 127.0.0.1, {'running' if self.running else 'stopped'}"

    @property
    def running(self) -> bool:
        """Whether the child process is there."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the child process and remove its log; does nothing the second time."""
        self._finalizer()

    def log(self, lines: int = 5) -> str:
        """The last lines of the server's log while it is there."""
        return _child.last_lines(self._folder, lines)

    def chat(self, messages, *, schema: dict | None = None, max_tokens: int = 96, timeout: float = 120) -> Reply:
        """Answer a chat, greedily: the server renders it with the GGUF's own template.

        Args:
            messages: dicts with role and content.
            schema: a JSON schema; llama.cpp then lets only tokens through that can still become such JSON.
            max_tokens: at most so many are generated.
            timeout: seconds.

        Raises:
            LorakitError: for a GGUF without template, messages or a schema it cannot use, a prompt longer than the context, or
                a server that is gone or does not answer in time.
        """
        body = {"messages": self._checked(messages), "max_tokens": _positive("max_tokens", max_tokens)}
        body |= {"temperature": 0.0, "seed": 0}
        if schema is not None:
            shape = {"name": "answer", "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        answer, seconds = self._post("/v1/chat/completions", body, timeout)
        choice, usage = answer["choices"][0], answer["usage"]
        return Reply(
            choice["message"].get("content") or "", usage["completion_tokens"], usage["prompt_tokens"], seconds,
            answer["timings"]["predicted_per_second"], choice["finish_reason"],
        )  # fmt: skip

    def complete(self, prompt, *, schema: dict | None = None, max_tokens: int = 96, timeout: float = 120) -> Reply:
        """Continue a text, or a list of token ids, greedily and without any template.

        Raises:
            LorakitError: as :meth:`chat`.
        """
        body = {"prompt": prompt, "n_predict": _positive("max_tokens", max_tokens), "temperature": 0.0, "seed": 0}
        if schema is not None:
            body["json_schema"] = {"x-guidance": _COMPACT} | schema
        answer, seconds = self._post("/completion", body, timeout)
        return Reply(
            answer["content"], answer["tokens_predicted"], answer["tokens_evaluated"], seconds,
            answer["timings"]["predicted_per_second"], "length" if answer["stop_type"] == "limit" else "stop",
        )  # fmt: skip

    def tokenize(self, text: str) -> list[int]:
        """Token ids as llama.cpp makes them of a prompt: control tokens recognized, BOS put before if the GGUF says so."""
        return self._post("/tokenize", {"content": text, "add_special": True, "parse_special": True}, 60)[0]["tokens"]

    def apply_template(self, messages) -> str:
        """The prompt llama.cpp renders from a chat, with the assistant's turn opened."""
        return self._post("/apply-template", {"messages": self._checked(messages)}, 60)[0]["prompt"]

    def _checked(self, messages) -> list[dict]:
        from ..templates import check_messages

        if not self.template:
            raise LorakitError(
                f"GGUF {self.path.name}", got="no chat template in it", expected=f"one under {TEMPLATE_KEY}",
                do="llama.cpp would take ChatML, whatever the model was trained on: export it with the tokenizer that was "
                "trained with, or render the chat yourself and call complete().",
            )  # fmt: skip
        return check_messages(messages)

    def _post(self, path: str, body: dict, timeout: float) -> tuple[dict, float]:
        import httpx

        if not self.running:
            raise self._gone("before the request")
        begin = time.perf_counter()
        try:
            with httpx.Client(trust_env=False, timeout=httpx.Timeout(timeout)) as client:  # no proxy on the way to oneself
                response = client.post(self.url + path, json=body)
        except httpx.TimeoutException as error:
            raise LorakitError(
                f"llama.cpp server of {self.path.name}", got=f"no answer within {timeout:g} s", expected="one",
                do="Ask for fewer tokens, or pass a longer timeout.",
            ) from error  # fmt: skip
        except httpx.TransportError as error:
            raise self._gone("while it answered") from error
        except (TypeError, ValueError) as error:
            raise LorakitError("request", got=str(error), expected="what JSON can hold", do="Check the schema.") from error
        if response.status_code != 200:
            raise self._refusal(response)
        return response.json(), time.perf_counter() - begin

    def _gone(self, when: str) -> LorakitError:
        deadline = time.monotonic() + 2  # a process just killed takes a moment to be one that ended
        while self.running and time.monotonic() < deadline:
            time.sleep(0.02)
        stopped, code = not self._finalizer.alive, self._process.poll()
        self.stop()
        how = "it was stopped" if stopped else f"it ended {when} ({_child.how_it_ended(code)})"
        name = f"llama.cpp server of {self.path.name}"
        return LorakitError(name, got=how, expected="a running one", do="Call serve() again.")

    def _refusal(self, response) -> LorakitError:
        try:
            said = response.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            said = response.text[:200] or f"status {response.status_code}"
        do = "Check the messages and the schema."
        if "context size" in said:
            do = f"Shorten the prompt, or start the server with more than context={self.context}."
        return LorakitError(f"llama.cpp server of {self.path.name}", got=f"its refusal: {said}", expected="an answer", do=do)


def serve(gguf_path, *, port: int | None = None, lora=None, context: int = 512, threads: int | None = None,
          reuse_prompts: bool = False, timeout: float = 120) -> Server:  # fmt: skip
    """Serve a GGUF on 127.0.0.1 until the ``with`` block, the object or this process ends.

    Args:
        gguf_path: the model.
        port: None takes a free one.
        lora: a GGUF made by ``lora_to_gguf``, applied while the base's GGUF is loaded.
        context: tokens of prompt and answer together.
        threads: None uses all cores this process may use.
        reuse_prompts: keep what was computed for the last prompt where the next begins alike. Faster, but llama.cpp's
            batches then differ from request to request, and with them the last bits of the logits.
        timeout: seconds for loading.

    Raises:
        LorakitError: for a file that is missing or no GGUF, a port in use, no ``xllamacpp``, or a server that does not start,
            with the last lines of its log.

    Example:
        with serve("tickets-Q4_K_M.gguf") as server:
            print(server.chat([{"role": "user", "content": "Hello"}]))
    """
    path, header = Path(gguf_path).resolve(), read_header(gguf_path)
    if lora is not None and read_header(lora).get("general.type") != "adapter":
        raise LorakitError(f"lora {lora}", got="a whole model", expected="an adapter's GGUF", do="Make it with lora_to_gguf.")
    if importlib.util.find_spec("xllamacpp") is None:
        raise LorakitError("xllamacpp", got="not installed", expected="llama.cpp's server", do=f"Run `{INSTALL}` once.")
    _child.check_port(port)
    command = ["--model", str(path), "--port", str(port or 0), "--context", str(_positive("context", context))]
    command += ["--threads", str(_positive("threads", _child.cores() if threads is None else threads))]
    command += ["--lora", str(Path(lora).resolve())] if lora is not None else []
    command += ["--reuse-prompts"] if reuse_prompts else []
    process, folder = _child.start(command)
    server = Server(process, folder, path, header, context)
    try:
        server.url = _child.await_address(process, folder, path.name, timeout)
    except BaseException:  # an interrupt as well
        server.stop()
        raise
    return server


def _positive(name: str, value) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise LorakitError(name, got=repr(value), expected="a whole number of at least 1", do=f"Leave {name} out if in doubt.")
    return value
