"""LoRA fine-tuning with transformers, peft, trl and accelerate, on PROCESSES processes that share every update.

Written by lorakit, and needs none of it. README.md beside it has the commands that start it.
"""

import hashlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import torch
from datasets import Dataset, concatenate_datasets, disable_progress_bars
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.utils.data import Sampler
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PrinterCallback, TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig, SFTTrainer

# --- settings
PROCESSES = 2  # each update's rows are shared among so many processes
BASE = "model"  # folder or Hub name
DEVICE = "cpu"  # or "cuda"
LOAD_IN_4BIT = True  # QLoRA: frozen weights rounded to NF4; needs bitsandbytes
ATTENTION = None  # None lets transformers choose
GROUP_BY_LENGTH = True
LORA = {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
TRAINING = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "seed": 42}  # arguments of trl's SFTConfig
# --- end of settings

HERE = Path(__file__).resolve().parent
DATA = HERE / "train.jsonl"
RANK, WORLD, LOCAL_RANK = (int(os.environ.get(name, default)) for name, default in
                           (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))  # fmt: skip
AGAIN = "Start the same command again: it goes on from the last checkpoint."

# With several processes on a CPU, transformers 5.17 asks torch to load the optimizer's state onto "cpu:0", a name that
# torch does not know; all of it lies in the same memory.
torch.serialization.register_package(
    50, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
)


def check_world():
    """Refuse a number of processes this file was not written for: the batch sizes below would mean another training."""
    if WORLD != PROCESSES:
        sys.exit(
            f"train.py was written for {PROCESSES} process{'es' * (PROCESSES > 1)}, and {WORLD} started (WORLD_SIZE). Start it "
            f"with `torchrun --standalone --nproc_per_node {PROCESSES} train.py`. (`accelerate launch --cpu --num_processes "
            "N` starts one process, whatever N is; with `--config_file accelerate_config.yaml` it starts them all.)"
        )


def stop_with_the_others():
    """End this process at once when torchrun says so (SIGTERM) or is gone, even while it waits for another worker."""
    parent, (ours, told) = os.getppid(), socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)  # written to even while Python itself is blocked
    signal.signal(signal.SIGTERM, lambda *_: None)

    def watch():
        while True:
            ended = bool(select.select([ours], [], [], 1.0)[0]) and signal.SIGTERM in ours.recv(64)
            orphaned = "TORCHELASTIC_RUN_ID" in os.environ and os.getppid() != parent
            if ended or orphaned:
                why = "was told to stop (SIGTERM): another worker failed, or the run was ended" if ended else "lost torchrun"
                print(f"train.py: worker {RANK} of {WORLD} {why}. {AGAIN}", file=sys.stderr, flush=True)
                os._exit(143 if ended else 1)

    threading.Thread(target=watch, daemon=True).start()


def load_model():
    """The base model with a new adapter, the same in every process: the seed decides the adapter's start."""
    if DEVICE == "cuda":
        TRAINING["bf16"] = torch.cuda.is_bf16_supported(including_emulation=False)
        TRAINING["fp16"] = not TRAINING["bf16"]
    compute = torch.bfloat16 if TRAINING["bf16"] else (torch.float16 if TRAINING["fp16"] else torch.float32)
    options = {"attn_implementation": ATTENTION} if ATTENTION else {}
    if LOAD_IN_4BIT:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
        )  # fmt: skip
    where = {"": LOCAL_RANK} if DEVICE == "cuda" else "cpu"
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=compute, device_map=where, **options)
    if TRAINING["gradient_checkpointing"] and LOAD_IN_4BIT:
        model = prepare_model_for_kbit_training(model)
    torch.manual_seed(TRAINING["seed"])
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", bias="none", **LORA))
    for module in model.modules():  # bitsandbytes 0.50 repacks 4-bit weights for AVX512-BF16 and never unpacks them
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


class SameOrder(Sampler):
    """The order of the rows for all processes together; accelerate deals it out, one batch to each process in turn.

    It depends on seed and epoch alone. Where the rows do not fill the last update, a row without labels (the last
    one of the data set, see :func:`build_trainer`) fills it: else accelerate would repeat rows there.
    """

    def __init__(self, trainer, lengths, rows_per_update):
        self.trainer, self.lengths, self.per_update = trainer, lengths, rows_per_update

    def __len__(self):
        return -(-len(self.lengths) // self.per_update) * self.per_update

    def __iter__(self):
        epoch = int((self.trainer.state.epoch or 0) + 1e-6)
        generator = torch.Generator().manual_seed(TRAINING["seed"] + epoch)
        if GROUP_BY_LENGTH:
            order = get_length_grouped_indices(self.lengths, self.per_update, generator=generator)
        else:
            order = torch.randperm(len(self.lengths), generator=generator).tolist()
        return iter(order + [len(self.lengths)] * (len(self) - len(order)))


class Trainer(SFTTrainer):
    """trl's, with the order above."""

    def _get_train_sampler(self, dataset=None):
        lengths = [len(ids) for ids in (dataset or self.train_dataset)["input_ids"]][:-1]
        batch, steps = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        return SameOrder(self, lengths, batch * steps * WORLD)


class JsonLines(TrainerCallback):
    """One JSON object a step on standard output, from the first process."""

    def __init__(self):
        self.start = time.perf_counter()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if RANK == 0 and "loss" in (logs or {}):
            known = {name: float(logs[name]) for name in ("loss", "learning_rate", "grad_norm") if name in logs}
            seconds = round(time.perf_counter() - self.start, 3)
            say(event="step", step=state.global_step, max_steps=state.max_steps, **known, seconds=seconds)


def say(**event):
    """Write one JSON line at once."""
    print(json.dumps(event), flush=True)


def build_trainer(model, tokenizer):
    """The trainer on train.jsonl, with the row without labels at the end."""
    rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").split("\n") if line]
    trainer = Trainer(
        model=model, processing_class=tokenizer, train_dataset=Dataset.from_list(rows),
        args=SFTConfig(output_dir=str(checkpoints()), ddp_find_unused_parameters=False, **TRAINING),
    )  # fmt: skip
    whole = sum(tokenizer.eos_token_id in labels for labels in trainer.train_dataset["labels"])  # trl drops rows without any
    if whole < len(rows):
        sys.exit(
            f"train.py: {len(rows) - whole} of {len(rows)} rows lose their answer's end to max_length: raise it in TRAINING."
        )
    trainer.train_dataset = concatenate_datasets([trainer.train_dataset, without_labels(trainer.train_dataset)])
    if trainer.args.fp16:  # trl makes adapters on a quantized model bf16, which fp16's gradient scaler cannot take
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(JsonLines())
    return trainer


def without_labels(rows):
    """The first row's first tokens, with none of them trained."""
    start = rows[0]["input_ids"][:8]
    return rows.select([0]).map(lambda row: {"input_ids": start, "labels": [-100] * len(start)}, features=rows.features)


def checkpoints():
    """A folder of its own for these settings and this data, so that a changed run never resumes an old one."""
    return HERE / "checkpoints" / hashlib.sha256(Path(__file__).read_bytes() + DATA.read_bytes()).hexdigest()[:12]


def last_checkpoint():
    """The newest checkpoint that was written to its end (its state file is the last to be written), or None."""
    found = []
    for path in checkpoints().glob("checkpoint-*"):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            found.append((int(path.name.split("-")[1]), str(path)))
        except (OSError, ValueError):
            continue
    return max(found)[1] if found else None


def main():
    check_world()
    stop_with_the_others()
    disable_progress_bar()
    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    trainer = build_trainer(load_model(), tokenizer)
    checkpoint = last_checkpoint()
    if RANK == 0:
        say(event="start", processes=WORLD, rows=len(trainer.train_dataset) - 1, resumed_from=checkpoint)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except Exception:
        print(f"train.py: worker {RANK} of {WORLD} stopped on an error (below). {AGAIN}", file=sys.stderr, flush=True)
        raise
    trainer.save_model(str(HERE / "adapter"))
    if RANK == 0:
        tokenizer.save_pretrained(HERE / "adapter")
        say(event="done", adapter=str(HERE / "adapter"))


if __name__ == "__main__":
    main()
