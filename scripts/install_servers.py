"""Put the servers that the telemetry tests speak to into .servers/: `python scripts/install_servers.py [--required]`.

VictoriaMetrics (takes OTLP metrics), Prometheus (scrapes, evaluates rules) and promtool come from Debian's packages,
of a release that the machine itself need not run: they are Go programs. Its apt is asked for the archive's address, a
private configuration of apt fetches the lists and the packages, checksums are those pinned here, and nothing is
installed on the system. Where there is no Debian archive, or it has moved on, tests say why they skip; `--required`
makes that an error.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".servers"
SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
WHY_NOT = "why-not.txt"


class NotHereError(RuntimeError):
    """The servers cannot be had on this machine; one line."""


@dataclass(frozen=True)
class Package:
    """A Debian package with the program in it that is wanted. The checksum is of the .deb for amd64."""

    name: str
    version: str
    sha256: str
    program: str


PACKAGES = (
    Package(
        "victoria-metrics",
        "1.112.0+ds1-2",
        "1d3717f1a8ab5bf690271095dd286730f6fb0761cc8c09c0fc8f529c9838f346",
        "usr/bin/victoria-metrics",
    ),
    Package(
        "prometheus",
        "2.53.3+ds1-2",
        "58c3e6a86c56cb3bfd71032fa48d65945d526441a212f5815dfe5ed9cb787ecc",
        "usr/bin/prometheus",
    ),
    Package(
        "promtool",
        "2.53.3+ds1-2",
        "ff27654eacc95abd846d344e91fe4ba3b4f0588a50d606ed1d2f09ad3408722f",
        "usr/bin/promtool",
    ),
)


def main() -> None:
    """Install what is missing; print one line a server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--required", action="store_true", help="fail where a server cannot be had")
    required = parser.parse_args().required
    FOLDER.mkdir(exist_ok=True)
    why_not = FOLDER / WHY_NOT
    try:
        install()
    except NotHereError as error:
        why_not.write_text(f"{error}\n")
        sys.stderr.write(f"servers for the telemetry tests: {error}: those tests are skipped\n")
        if required:
            raise SystemExit(1) from None
    else:
        why_not.unlink(missing_ok=True)


def install() -> None:
    """Raises NotHereError."""
    missing = [package for package in PACKAGES if not is_there(package)]
    if not missing:
        return
    with tempfile.TemporaryDirectory(dir=FOLDER) as work:
        apt = private_apt(Path(work))
        for package in missing:
            fetch(apt, package, Path(work))
            sys.stdout.write(f"{package.name} {package.version}\n")


def is_there(package: Package) -> bool:
    """The program of this very version lies in .servers/."""
    stamp = FOLDER / f"{package.name}.version"
    return (FOLDER / Path(package.program).name).exists() and stamp.exists() and stamp.read_text() == package.version


def private_apt(work: Path) -> dict[str, str]:
    """An environment in which apt-get knows SUITE alone and writes below `work` alone. Raises NotHereError."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NotHereError("this machine has no apt-get")
    archive = debian_archive()
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    signed_by = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    (work / "sources.list").write_text(f"deb {signed_by}{archive} {SUITE} main\n")
    (work / "status").touch()
    (work / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{work}/sources.list";\nDir::Etc::sourceparts "-";\nDir::State::lists "{work}/lists";\n'
        f'Dir::State::status "{work}/status";\nDir::Cache "{work}/cache";\nAPT::Sandbox::User "";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf")}
    run(["apt-get", "update", "-qq"], work, environment)
    return environment


def debian_archive() -> str:
    """The address of the Debian archive that this machine's own apt uses. Raises NotHereError."""
    listed = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "--no-release-info"], ROOT, None)
    for line in listed.splitlines():
        address, _, component = line.partition(" ")
        if component == "main" and address.rstrip("/").endswith("/debian"):
            return address
    raise NotHereError("apt has no Debian archive here")


def fetch(environment: dict[str, str], package: Package, work: Path) -> None:
    """Download, compare, unpack, keep the program. Raises NotHereError."""
    run(["apt-get", "download", "-qq", f"{package.name}={package.version}"], work, environment)
    found = list(work.glob(f"{package.name}_*.deb"))
    if len(found) != 1:
        raise NotHereError(f"{package.name} {package.version} is not in the archive")
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != package.sha256:
        raise NotHereError(f"{found[0].name}: sha256 {digest}, {package.sha256} is expected")
    unpacked = work / package.name
    run(["dpkg-deb", "-x", str(found[0]), str(unpacked)], work, None)
    (unpacked / package.program).replace(FOLDER / Path(package.program).name)
    (FOLDER / f"{package.name}.version").write_text(package.version)


def run(command: list[str], folder: Path, environment: dict[str, str] | None) -> str:
    """Its standard output. Raises NotHereError with the last line of what it complained of."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise NotHereError(f"{' '.join(command[:2])}: {said[-1].strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
