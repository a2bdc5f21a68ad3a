"""Out of the notebook: merge, GGUF, Modelfile, serve, and what each of it costs in fidelity."""
