"""A lock has one holder, whoever dies, sleeps, or tries at the same moment."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pgbench import locks
from pgbench.errors import RunLocked, StoreError
from pgbench.holders import Holder, holder_of, look
from pgbench.locks import Lock

QUICK = {"patience": 0.6, "beat": 0.1}
HOLD = """
import os, signal, sys, time
from pathlib import Path
from pgbench.locks import Lock
path, patience, beat, then = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
with Lock(path, patience=patience, beat=beat) as lock:
    print("held", flush=True)
    if then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.readline()
    try:
        lock.require()
        print("still mine", flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


def holding(path: Path, then: str = "wait", **times: float) -> subprocess.Popen[str]:
    """A process that holds the lock until a line comes."""
    patience, beat = times.get("patience", 120.0), times.get("beat", 5.0)
    words = [sys.executable, "-c", HOLD, str(path), str(patience), str(beat), then]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / ".lock-0-of-1"


def lie(path: Path, content: object, age: float = 0.0) -> None:
    """A lock file as somebody else left it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode() + b"\n")
    then = time.time() - age
    os.utime(path, (then, then))


def other(**changes: Any) -> dict[str, Any]:
    """A holder on another machine."""
    elsewhere = replace(Holder.new(), host="node7", namespace="another boot pid:[1]")
    return asdict(replace(elsewhere, **changes))


def files(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(RunLocked) as caught, Lock(path, **more):
        pass
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_it_names_its_holder_and_goes_with_it(path: Path) -> None:
    with Lock(path) as lock:
        said = json.loads(path.read_bytes())
        assert files(path) == [path.name]
        assert lock.still_mine()
        lock.require()
    assert (said["host"], said["pid"]) == (socket.gethostname(), os.getpid())
    assert set(said) == {"host", "pid", "started", "namespace", "token"}
    assert all(said.values())
    assert files(path) == []
    with lock:  # again
        assert lock.still_mine()


def test_a_second_one_is_told_who_holds_it_and_since_when(path: Path) -> None:
    process = holding(path)
    then = time.time() - 17
    os.utime(path, (then, then))
    message = refusal(path)
    assert message.startswith(
        f"cannot write {path.parent}: another process is writing it (pid {process.pid} on "
    )
    assert f"on {socket.gethostname()}, last heartbeat 17 s ago)" in message
    assert holder_of(path) == Holder(**json.loads(path.read_bytes()))
    assert files(path) == [path.name]
    process.communicate("\n", timeout=30)
    with Lock(path):
        pass


def test_two_in_one_process_exclude_each_other(path: Path) -> None:
    with Lock(path):
        refusal(path)
    with Lock(path):
        pass


def test_a_killed_holder_is_noticed_at_once(path: Path) -> None:
    process = holding(path, "die")
    process.communicate(timeout=30)
    assert path.exists()
    assert holder_of(path) is None
    with Lock(path) as lock:
        assert lock.still_mine()
        assert files(path) == [path.name]


def test_a_zombie_does_not_write(path: Path) -> None:
    process = holding(path, "die")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped
    with Lock(path):
        pass
    process.communicate(timeout=30)


def test_a_number_that_belongs_to_another_process_by_now(path: Path) -> None:
    process = holding(path)
    true = json.loads(path.read_bytes())
    refusal(path)
    lie(path, true | {"started": str(int(true["started"]) - 1)})
    with Lock(path):
        pass
    process.communicate("\n", timeout=30)


def test_what_this_process_failed_to_release(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, Lock(path):
        broken(patch, "unlink", errno.EIO)
    assert path.exists()
    with Lock(path):
        pass
    assert files(path) == []


def test_a_pipe_in_place_of_the_lock_is_not_waited_for(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        other(),
        other(host=socket.gethostname()),  # another pid namespace: its numbers mean other processes
        other(namespace=Holder.new().namespace),
        b"",
        b'{"host": "node7", "pi',
        b"[]",
        b"\xff\xfe\x00",
        b"[" * 4000,
        other(pid="12"),
        asdict(replace(Holder.new(), pid=-1)),
        asdict(replace(Holder.new(), pid=2**40)),
        other(host="two\nlines"),
        other(token="../../etc/passwd"),
        other(started=None),
        other() | {"more": 1},
    ],
)
def test_what_cannot_be_known_is_judged_by_its_age(path: Path, content: object) -> None:
    lie(path, content, age=100)
    message = refusal(path)
    assert "last heartbeat 100 s ago" in message
    assert files(path) == [path.name]
    lie(path, content, age=130)
    with Lock(path) as lock:
        assert lock.still_mine()
    assert files(path) == []


def test_ages_are_told_by_the_file_servers_clock_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = 3600.0  # seconds that the server is behind this machine
    touch = os.utime

    def stamped(file: Any, times: Any = None) -> None:
        then = time.time() - slow
        touch(file, times or (then, then))

    monkeypatch.setattr(os, "utime", stamped)
    lie(path, other(), age=slow + 30)
    assert "last heartbeat 30 s ago" in refusal(path)
    lie(path, other(), age=slow + 130)
    with Lock(path):
        pass


def test_heartbeats_come_while_it_is_held_and_no_longer(path: Path) -> None:
    with Lock(path, **QUICK) as lock:
        first = path.stat().st_mtime_ns
        threads = threading.active_count()
        time.sleep(0.5)
        assert path.stat().st_mtime_ns - first > 2e8
        assert lock.still_mine()
    assert threading.active_count() == threads - 1


def test_a_holder_that_cannot_touch_its_lock_loses_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lock(path, beat=60, patience=0.2) as lock:
        time.sleep(0.3)
        with Lock(path, patience=0.2) as taker:
            assert not lock.still_mine()
            with pytest.raises(RunLocked, match=f"taken over by pid {os.getpid()} on .* writes no more"):
                lock.require()
            taker.require()
    with Lock(path) as lock:
        path.unlink()
        with pytest.raises(RunLocked, match="was removed while"):
            lock.require()


def test_a_suspended_process_wakes_up_without_its_lock_and_leaves_the_new_one(path: Path) -> None:
    process = holding(path, "wait", **QUICK)
    process.send_signal(signal.SIGSTOP)
    refusal(path, **QUICK)
    time.sleep(0.8)
    with Lock(path, **QUICK) as lock:
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate("\n", timeout=30)
        assert said.startswith(f"RunLocked the lock of {path.parent} was taken over by pid {os.getpid()} on ")
        assert lock.still_mine()
    assert files(path) == []


def test_a_holder_that_wakes_up_in_time_keeps_it(path: Path) -> None:
    lie(path, other(), age=500)
    stale = look(path)
    assert stale is not None
    os.utime(path)  # touched after it was judged, before it was taken
    lock = Lock(path)
    lock._announce()
    assert not lock._taken_over(stale)
    os.close(lock._file)
    assert json.loads(path.read_bytes())["host"] == "node7"


RACE = """
import os, sys, time
from pathlib import Path
from pgbench.errors import RunLocked
from pgbench.locks import Lock
root, own, count, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def together(name):
    (root / f"{name}.{own}").touch()
    while sum(entry.startswith(f"{name}.") for entry in os.listdir(root)) < count:
        time.sleep(0.0002)
for number in range(rounds):
    together(f"start-{number}")
    try:
        with Lock(root / f"round-{number}" / "lock") as lock:
            (root / f"won-{number}.{own}").touch()
            together(f"tried-{number}")  # held until everybody has tried
            lock.require()
    except RunLocked:
        together(f"tried-{number}")
"""


def test_of_many_takers_at_once_one_wins(tmp_path: Path) -> None:
    """Stale locks of a dead process, torn ones, foreign ones, and none at all."""
    takers, rounds = 6, 24
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = asdict(replace(Holder.new(), pid=dead.pid, started="1"))
    for number in range(rounds):
        lock = tmp_path / f"round-{number}" / "lock"
        if number % 4:
            lie(lock, (gone, b"{", other())[number % 4 - 1], age=1000)
    words = [sys.executable, "-c", RACE, str(tmp_path)]
    processes = [subprocess.Popen([*words, str(own), str(takers), str(rounds)]) for own in range(takers)]
    try:
        assert [process.wait(timeout=100) for process in processes] == [0] * takers
    finally:
        for process in processes:
            process.kill()
    winners = [len(list(tmp_path.glob(f"won-{number}.*"))) for number in range(rounds)]
    assert winners == [1] * rounds
    assert list(tmp_path.glob("round-*/*")) == []


def test_a_slower_taker_does_not_take_the_lock_of_a_faster_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both saw the same stale lock; the second acts after the first has finished."""
    lie(path, other(), age=500)
    stale = look(path)
    assert stale is not None
    with Lock(path) as faster:
        slower = Lock(path)
        slower._announce()
        assert not slower._taken_over(stale)
        os.close(slower._file)
        assert faster.still_mine()


def test_a_taker_that_was_killed_half_way_blocks_nobody(path: Path) -> None:
    lie(path, other(token="5ta1e"), age=500)
    process = holding(path.with_name(f"{path.name}.5ta1e"), "die")
    process.communicate(timeout=30)
    with Lock(path):
        pass
    assert files(path) == []


def test_a_taker_at_work_is_left_to_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_TRIES", 3)
    lie(path, other(token="5ta1e"), age=500)
    process = holding(path.with_name(f"{path.name}.5ta1e"))
    assert "others are taking it over" in refusal(path)
    process.communicate("\n", timeout=30)
    with Lock(path):
        pass


def test_what_killed_takers_left_is_tidied_up(path: Path) -> None:
    lie(path.with_name(f"{path.name}.01d"), b"", age=500)
    lie(path.with_name(f"{path.name}.new"), b"")
    lie(path.with_name(".lock-1-of-10.x"), b"", age=500)  # of another lock
    with Lock(path):
        assert files(path) == [path.name, f"{path.name}.new", ".lock-1-of-10.x"]


@pytest.fixture
def linkless(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("linkless")
def test_a_file_system_without_hard_links(path: Path) -> None:
    with Lock(path, **QUICK) as lock:
        refusal(path)
        first = path.stat().st_mtime_ns
        time.sleep(0.3)
        assert path.stat().st_mtime_ns > first
        assert lock.still_mine()
        assert files(path) == [path.name]
    assert files(path) == []
    lie(path, other(), age=500)
    with Lock(path):
        pass


def test_a_file_server_whose_answer_was_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)  # sent again: the first one had worked

    monkeypatch.setattr(os, "link", twice)
    with Lock(path) as lock:
        assert lock.still_mine()


def test_a_forked_child_leaves_the_lock_alone(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from pgbench.locks import Lock\n"
        "path = Path(sys.argv[1])\n"
        "with Lock(path, beat=None) as lock:\n"
        "    child = os.fork()\n"
        "    if child: os.waitpid(child, 0); print(path.exists(), lock.still_mine())\n"
    )
    words = [sys.executable, "-c", code, str(path)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "True True\n"
    assert files(path) == []


def broken(patch: pytest.MonkeyPatch, name: str, number: int) -> None:
    def fails(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    patch.setattr(os, name, fails)


def test_a_full_disk_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write: Callable[..., int] = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:5]))
        with pytest.raises(StoreError) as caught, Lock(path):
            pass
    assert str(caught.value) == f"cannot write {path.parent}: No space left on device"
    assert files(path) == []
    with monkeypatch.context() as patch:
        broken(patch, "link", errno.EDQUOT)
        with pytest.raises(StoreError, match="quota exceeded"), Lock(path):
            pass
    assert files(path) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_folder_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    with monkeypatch.context() as patch:
        broken(patch, "open", number)
        with pytest.raises(StoreError) as caught, Lock(path):
            pass
    assert str(caught.value) == f"cannot write {path.parent}: {os.strerror(number)}"


def test_a_file_where_the_folder_should_be(path: Path) -> None:
    path.parent.write_text("")
    with pytest.raises(StoreError, match=r"^cannot write .*: (File exists|Not a directory)$"), Lock(path):
        pass


def test_a_folder_in_place_of_the_lock(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"^cannot write .*: Is a directory$"), Lock(path):
        pass


def test_a_folder_that_is_discarded_meanwhile_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, left = Path.mkdir, iter([True])

    def discarded(self: Path, *arguments: Any, **options: Any) -> None:
        mkdir(self, *arguments, **options)
        if next(left, False):
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", discarded)
    with Lock(path) as lock:
        assert lock.still_mine()


def test_whether_it_is_mine_cannot_always_be_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lock(path) as lock:
        with monkeypatch.context() as patch:
            broken(patch, "open", errno.EIO)
            with pytest.raises(StoreError, match=r"cannot read .*: Input/output error"):
                lock.require()
        lock.require()


def test_looking_costs_little(path: Path) -> None:
    """It is done before every write: a thousand times in a second, also on a busy core."""
    with Lock(path) as lock:
        before = time.process_time()
        for _ in range(1000):
            lock.require()
        assert time.process_time() - before < 0.5


def test_nobody_holds_what_is_not_there_or_old(path: Path) -> None:
    assert holder_of(path) is None
    lie(path, other(), age=30)
    assert str(holder_of(path)) == f"pid {os.getpid()} on node7"
    lie(path, other(), age=130)
    assert holder_of(path) is None
    path.unlink()
    path.mkdir()
    assert holder_of(path) is None
