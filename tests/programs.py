"""Programs that a machine may have, pdflatex and Chromium, started so that nothing leaves the machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUM = next(
    (name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), ""
)
needs_pdflatex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()
_OWN = re.compile(r"(.*\.)?(google|googleapis|gstatic)\.com")  # Chromium asks its maker for this and that


def compiled(text: str, work: Path) -> str:
    """Compile a LaTeX document; its log, and after it the names of the files that were read."""
    (work / "t.tex").write_text(text)
    command = "pdflatex -no-shell-escape -interaction=nonstopmode -halt-on-error -recorder t.tex".split()
    run = subprocess.run(command, cwd=work, capture_output=True, timeout=120, check=False)
    log = (work / "t.log").read_text(errors="replace")
    assert run.returncode == 0, log[-3000:]
    return log + (work / "t.fls").read_text()


def opened(page: Path, work: Path) -> tuple[str, set[str]]:
    """A page as a browser has it when its scripts are done, and the hosts that it asked for something."""
    log = work / "net.json"
    options = [f"--user-data-dir={work / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command = [CHROMIUM, *FLAGS, *options, f"--log-net-log={log}", "--dump-dom", page.as_uri()]
    run = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=60, check=True)
    addresses = re.findall(r'"url":\s*"(\w+://[^"]*)"', log.read_text(errors="replace"))
    hosts = {urlsplit(address).hostname or "" for address in addresses if address.startswith(("http", "ws"))}
    return run.stdout, {host for host in hosts if not _OWN.fullmatch(host)}
