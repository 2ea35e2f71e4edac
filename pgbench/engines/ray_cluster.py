"""Joining a Ray cluster, or starting one on this machine: quietly, and leaving the process as it was."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from pgbench.engines.devices import usable_cores
from pgbench.errors import RunStopped, UsageError

_STORE = 100 << 20  # bytes of shared memory of a Ray of our own; it takes 30 % of the machine otherwise
_PATIENCE = 5.0  # seconds
_LONGEST = 300  # characters of a reason that Ray gives
_LOOK = 5.0  # seconds between looks at what this process is connected to
GONE = 20.0  # seconds without an answer; Ray kills its drivers 60 after it lost the head of the cluster


def why(error: Exception) -> str:
    """The one line of Ray's page of text that says what happened; it names no machine."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    detail = re.search(r"exit detail: (.*?)(?:\. Some common causes|\.?$)", str(error), re.MULTILINE)
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*:", line)]
    text = detail[1] if detail else (raised or lines[:1] or ["no reason given"])[-1]
    return f"{type(error).__name__}: {text}"[:_LONGEST]


@contextlib.contextmanager
def joined(ray: Any, address: str | None, workers: int | None) -> Iterator[None]:
    """As a node of a cluster, or as a Ray of our own without an address.

    Raises UsageError where the cluster does not answer.
    """
    if address is not None:
        _require_answer(address)
    own = {
        "address": "local",
        "num_cpus": workers or usable_cores(),
        "include_dashboard": False,
        "object_store_memory": _STORE,
    }
    with _quietly(own=address is None), _kept_handler():
        try:
            ray.init(
                **(own if address is None else {"address": address}),
                configure_logging=False,
                log_to_driver=False,
            )
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            place = "start Ray here" if address is None else f"join the Ray cluster {address}"
            raise UsageError(f"cannot {place}: {why(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


class Pulse:
    """Whether the node that this process belongs to, and the head of the cluster, are still there.

    Ray (2.60) tells a driver of neither: it waits for messages that cannot come any more.
    """

    def __init__(self, ray: Any) -> None:
        context = ray.get_runtime_context()
        own = context.get_node_id()
        host, _, port = context.gcs_address.rpartition(":")
        self._ends: dict[str, str | tuple[str, int]] = {"head": (host.strip("[]"), int(port))}
        if paths := [node["RayletSocketName"] for node in ray.nodes() if node["NodeID"] == own]:
            self._ends["node"] = paths[0]
        self._heard = dict.fromkeys(self._ends, time.monotonic())
        self._next = 0.0

    def require(self) -> None:
        """Looks every few seconds. Raises RunStopped once one of them has not answered for `GONE`."""
        if time.monotonic() < self._next:
            return
        for name, end in self._ends.items():
            if _answers(end):
                self._heard[name] = time.monotonic()
            elif time.monotonic() - self._heard[name] > GONE:
                whose = "of this machine" if name == "node" else "of the cluster"
                raise RunStopped(f"the Ray {name} {whose} has gone")
        self._next = time.monotonic() + _LOOK


def _answers(end: str | tuple[str, int]) -> bool:
    remote = socket.AF_INET6 if ":" in end[0] else socket.AF_INET
    with socket.socket(socket.AF_UNIX if isinstance(end, str) else remote) as line:
        line.settimeout(_PATIENCE)
        try:
            line.connect(end)
        except OSError:
            return False
    return True


def _require_answer(address: str) -> None:
    """Ray (2.60) tries an address where nobody is for minutes. Raises UsageError."""
    host, _, port = address.rpartition(":")
    if not host:  # "auto", which Ray looks up itself
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address} ({error}); expected auto, or the host:port of ray start"
        ) from error


@contextlib.contextmanager
def _quietly(*, own: bool) -> Iterator[None]:
    """No usage statistics, no advice; and for a Ray of our own a key that is written nowhere.

    Ray (2.60) would write one into the user's home otherwise; the nodes of a cluster have theirs.
    """
    logger = logging.getLogger("ray")
    level = logger.level
    settings = {"RAY_USAGE_STATS_ENABLED": "0"}
    if own and not any(name.startswith("RAY_AUTH_") for name in os.environ):
        settings["RAY_AUTH_TOKEN"] = _key()
    before = {name: os.environ.get(name) for name in (*settings, "RAY_AUTH_MODE")}
    os.environ |= settings
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@functools.cache
def _key() -> str:
    """One a process: Ray reads it once."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _kept_handler() -> Iterator[None]:
    """`ray.init` puts a handler of its own that exits in place of whatever handled SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
