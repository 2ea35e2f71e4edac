"""What every test stands on: no network, no user's cache, no inherited settings, one thread.

The variables are set before any test module is imported, since torch and huggingface_hub read them once,
at import. Programs that a test starts inherit them.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest

LOCAL = ("127.", "localhost", "::1", "0.0.0.0")
HOME = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
INHERITED = (
    "COLUMNS",
    "FORCE_COLOR",
    "GITHUB_ACTIONS",  # else a check in these tests would write into the summary of their own run
    "GITHUB_STEP_SUMMARY",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "HUGGING_FACE_HUB_TOKEN",
    "LINES",
    "PYTHONDONTWRITEBYTECODE",  # a program that a test starts shall start as fast as a user's
    "PYTHONWARNINGS",
    "http_proxy",
    "https_proxy",
)


def pytest_configure(config: pytest.Config) -> None:
    """Before collection: a cache of this process's own (xdist's workers have one each)."""
    home = config.stash[HOME] = tempfile.TemporaryDirectory(prefix="pgbench-tests-")
    os.environ |= {
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": home.name,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell starts what runs behind it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("ci")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[HOME].cleanup()


def is_local(address: object) -> bool:
    """Whether a socket's address is on this machine; a path is a Unix socket."""
    return not isinstance(address, tuple) or str(address[0]).startswith(LOCAL)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's settings change no test; terminals are wide and colourless."""
    for name in (*INHERITED, *(name for name in os.environ if name.startswith("PGBENCH_"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")  # rich wraps at the terminal's width


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """A connection that would leave this machine fails at once, whatever library asks for it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if not is_local(address):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield
