"""Unsloth's own GGUF export, in a process of its own, as Unsloth patches the one it is imported into.

``python -m lorakit_helpers.export._unsloth FOLDER OUT '["f16", "q4_k_m"]'`` prints the files it made, as JSON after a mark.
"""

import json
import sys

__all__ = ["MARK", "main"]

MARK = "LORAKIT GGUF "


def main(folder: str, out: str, kinds: list[str]) -> None:
    """Load a merged model in 16 bits and let Unsloth write it into ``out`` in all kinds, named as Unsloth names them."""
    import torch
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(folder, dtype=torch.bfloat16, load_in_4bit=False)
    made = model.save_pretrained_gguf(out, tokenizer, quantization_method=kinds)
    print(MARK + json.dumps(made["gguf_files"] if isinstance(made, dict) else made))  # a list on a CPU


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
