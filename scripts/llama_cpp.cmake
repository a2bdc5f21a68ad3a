# Read by llama.cpp's own build when `make gguf` compiles llama-cpp-python: without the library behind llama.cpp's command
# line, which the bindings switch on and do not use. (A variable here goes before the cached one that they set.)
set(LLAMA_BUILD_COMMON OFF)
