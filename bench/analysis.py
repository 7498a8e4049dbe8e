"""Times the analysis against networkx, SciPy and rustworkx on the same questions.

Each tool answers in a process of its own, under a limit of time and memory; the seconds are those
of the answer, with the time to make the tool's own graph beside it, and without imports. Wherever
several tools finish, their answers must agree. A tool that meets a limit is not tried with more
tokens. Then whole reports, as `attnloom analyze`, from the start of the process to its end.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench import analysis_tools as tools

LENGTHS = (1024, 4096, 16_384, 65_536, 262_144, 1_048_576)

PATTERNS = {
    "window and global": "window(each_side=16)\nglobal(0)",
    "causal window": "window(last=256)",
    "window and random": "window(each_side=16)\nrandom(links=3, seed=1)",
}

QUESTIONS = {
    "all pairs": "how many pairs are how many hops apart",
    "one reader": "how many tokens are how many hops from the last one",
}

REPORTS: dict[str, tuple[list[str], float]] = {
    "longformer": (["longformer"], 2),
    "mistral": (["mistral"], 2),
    "streaming_llm": (["streaming_llm"], 2),
    "gemma3, 26 layers": (["gemma3", "--layers", "26"], 2),
    "sparse_transformer_strided": (["sparse_transformer_strided"], 2),
    "memory_transformer": (["memory_transformer"], 2),
    "bigbird": (["bigbird"], 30),
    "window and random": (["-"], 30),
}
"""What `attnloom analyze` is asked at a million tokens, and the seconds it may take."""

MOST_MEMORY = 2.0
"""GiB that a report may take."""


@dataclass(frozen=True)
class Limits:
    """What a single answer may take."""

    seconds: float
    gib: float

    def impose(self) -> None:
        """Within the process that answers."""
        size = int(self.gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def answer(tool: str, question: str, pattern: str, length: int, limits: Limits) -> dict[str, Any]:
    """What a tool answers, in a process of its own; or which limit it met."""
    words = [sys.executable, "-m", "bench.analysis", "--answer", tool, question, pattern]
    with subprocess.Popen(
        [*words, str(length)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=limits.impose,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    ) as process:
        try:
            out, _ = process.communicate(timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return {"met": f"{limits.seconds:g} s"}
    if process.returncode:
        return {"met": f"{limits.gib:g} GiB"}
    found: dict[str, Any] = json.loads(out)
    return found


def answer_here(tool: str, question: str, pattern: str, length: int) -> dict[str, Any]:
    """The answer of a tool, and what it took, in this process."""
    make, ask = tools.TOOLS[tool]
    ask(make("pattern p { window(each_side=1) }", 16), question)  # whatever is imported only then
    start = time.perf_counter()
    graph = make(f"pattern p {{\n{PATTERNS[pattern]}\n}}", length)
    middle = time.perf_counter()
    histogram, is_exact = ask(graph, question)
    stop = time.perf_counter()
    return {
        "graph_seconds": round(middle - start, 4),
        "seconds": round(stop - middle, 4),
        "peak_mib": tools.peak_mib(),
        "is_exact": is_exact,
        "hops": histogram,
    }


def compare(lengths: Sequence[int], limits: Limits, names: Sequence[str]) -> list[dict[str, Any]]:
    """All questions about all patterns at all lengths, to all tools in turn."""
    found = []
    for question in QUESTIONS:
        for pattern in PATTERNS:
            beaten: dict[str, str] = {}
            for length in lengths:
                results = {}
                for tool in names:
                    if tool in beaten:
                        results[tool] = {"met": f"{beaten[tool]} before"}
                        continue
                    results[tool] = answer(tool, question, pattern, length, limits)
                    if "met" in results[tool]:
                        beaten[tool] = results[tool]["met"]
                    say(f"{question}, {pattern}, {length:,}, {tool}: {shown(results[tool])}")
                check(results, f"{question} of {pattern} at {length:,}")
                found.append(
                    {"question": question, "pattern": pattern, "n": length, "tools": results}
                )
    return found


def check(results: dict[str, dict[str, Any]], what: str) -> None:
    """Raise if two exact answers differ; histograms are not kept."""
    exact = {
        tool: result.pop("hops")
        for tool, result in results.items()
        if result.get("is_exact") and "hops" in result
    }
    for result in results.values():
        result.pop("hops", None)
    first = next(iter(exact.values()), None)
    for tool, one in exact.items():
        if one != first:
            raise AssertionError(f"{what}: {tool} answers {one}, another tool {first}")


def reports(length: int, rounds: int) -> list[dict[str, Any]]:
    """Whole reports from the command line: what the process took in the quickest of some runs."""
    found = []
    for name, (words, target) in REPORTS.items():
        runs = [_report(words, length) for _ in range(rounds)]
        best = min(runs, key=lambda run: float(run["seconds"]))
        met = best["seconds"] <= target and best["peak_mib"] <= 1024 * MOST_MEMORY
        found.append(
            {"report": name, "n": length, "runs": rounds, **best, "target_seconds": target,
             "met": met}
        )  # fmt: skip
        say(f"report of {name}: {best}")
    return found


def _report(words: list[str], length: int) -> dict[str, Any]:
    """One whole report, in a process of its own."""
    text = f"pattern p {{\n{PATTERNS['window and random'].replace('16', '64')}\n}}"
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _COMMAND, "analyze", *words, "-n", str(length), "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(text.encode() if words == ["-"] else b"")
        process.stdin.close()
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"the report of {words} failed: {said}")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(float(said.split()[-1])),
    }


_COMMAND = """
import sys
from attnloom.cli import main
try:
    main()
finally:
    lines = open("/proc/self/status").read().splitlines()
    (peak,) = [line for line in lines if line.startswith("VmHWM")]
    print(int(peak.split()[1]) / 1024, file=sys.stderr)
"""
"""The command line; its last words are its peak of memory in MiB."""


def say(text: str) -> None:
    """Tell what goes on, beside the results."""
    print(text, file=sys.stderr, flush=True)


def shown(result: dict[str, Any]) -> str:
    """A result in a cell of a table."""
    if "met" in result:
        return f"over {result['met']}"
    kind = "" if result["is_exact"] else "~"
    graph = f" + {result['graph_seconds']:.3g} s" if result["graph_seconds"] >= 0.001 else ""
    return f"{kind}{result['seconds']:.3g} s{graph}, {result['peak_mib']:.0f} MiB"


def show(result: dict[str, Any]) -> None:
    """The results as tables."""
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    for question, words in QUESTIONS.items():
        rows = [row for row in result.get("questions", []) if row["question"] == question]
        if rows:
            print(f"\n{question}: {words}; seconds + those of making the graph; ~ is sampled")
        for row in rows:
            cells = (f"{tool} {shown(one)}" for tool, one in row["tools"].items())
            print(f"  {row['pattern']:18} {row['n']:>9,}  " + "; ".join(cells))
    if "reports" in result:
        print("\nwhole reports, from the start of the process to its end")
    for row in result.get("reports", []):
        met = "met" if row["met"] else "MISSED"
        print(
            f"  {row['report']:27} {row['n']:>9,}  {row['seconds']:6.2f} s, "
            f"{row['cpu_seconds']:6.2f} s of processor, {row['peak_mib']:5,} MiB; "
            f"at most {row['target_seconds']:g} s and {MOST_MEMORY:g} GiB: {met}"
        )


def main(arguments: Sequence[str]) -> int:
    """Run from the command line; 1 when a target is missed."""
    if arguments[:1] == ["--answer"]:
        tool, question, pattern, length = arguments[1:]
        print(json.dumps(answer_here(tool, question, pattern, int(length))))
        return 0
    parser = argparse.ArgumentParser(prog="python -m bench analysis", description=__doc__)
    number = partial(parser.add_argument, metavar="N")
    number("--length", type=int, action="append", help="repeat for several (default: 1k to 1M)")
    number("--limit", type=float, default=60, help="seconds of an answer (default: 60)")
    number("--memory", type=float, default=4, help="GiB of an answer (default: 4)")
    number("--rounds", type=int, default=3, help="runs of each report; the quickest counts")
    parser.add_argument("--only", choices=["questions", "reports"], help="one part alone")
    number("--report-length", type=int, default=LENGTHS[-1], help="tokens of whole reports")
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    options = parser.parse_args(arguments)
    names = [name for name in tools.TOOLS if name == tools.OURS or _is_installed(name)]
    about = _machine(names)
    result: dict[str, Any] = {"machine": about}
    if options.only != "reports":
        limits = Limits(options.limit, options.memory)
        result["limits"] = {"seconds": limits.seconds, "gib": limits.gib}
        result["questions"] = compare(options.length or LENGTHS, limits, names)
    if options.only != "questions":
        result["reports"] = reports(options.report_length, options.rounds)
    about["load_after"] = round(os.getloadavg()[0], 2)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    return int(any(not row["met"] for row in result.get("reports", [])))


def _is_installed(name: str) -> bool:
    found = importlib.util.find_spec(name) is not None
    if not found:
        say(f"{name} is not installed and left out")
    return found


def _machine(names: Sequence[str]) -> dict[str, Any]:
    from importlib.metadata import version

    from bench import machine

    about = machine.describe()
    versions = {name: version(name) for name in names if name != tools.OURS}
    return {**about, "numpy": np.__version__, **versions}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
