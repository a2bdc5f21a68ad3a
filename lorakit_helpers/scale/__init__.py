"""From a laptop to a real GPU, many GPUs and bigger models."""
