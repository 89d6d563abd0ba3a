"""How many evaluations a search needs: hypervolume over unique evaluations, aspk's samplers and others.

Problems are the tables that come with aspk (`--table NAME`, all by default), whose true front is known, and
the formula on a space of the paper's shape. A sampler is told accuracy and energy on `search`; its front is
scored on `test` afterwards. Reference points come from the whole table and are hidden from every sampler.
With `--log FILE` each finished run is a line of that file, and the same command resumes after being killed.

    python benchmarks/search.py --log runs/search.jsonl --json search.json
    python benchmarks/search.py --quick
    python benchmarks/search.py --encodings        # which encoding each peer gets
    python benchmarks/search.py --ablation         # what each part of aspk's surrogate brings
    python benchmarks/search.py --faeb             # the single objective F_AEB in its three forms
    python benchmarks/search.py --speed            # what a suggestion costs
    python benchmarks/search.py --peers            # Ax, SMAC3, syne-tune and Optuna's AutoSampler beside
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from run_log import RunLog
from scipy.stats import wilcoxon
from search_methods import (
    ABLATION,
    ENCODINGS,
    FAEB_ABLATION,
    METHODS,
    OURS,
    PATIENCE,
    SHORT_PATIENCE,
    SLOW,
    Method,
    run,
)
from search_peers import PEER_ENCODINGS, PEERS, WITHOUT_PRIORS, MissingPeerError, required
from search_problems import FaebProblem, FormulaProblem, Problem, TableProblem
from search_speed import speed

from aspk.engines.device import hardware
from aspk.tables import shipped_tables

AT = (25, 50, 100, 200, 400, 800)
SHARES = (0.9, 0.95, 0.99)
Run = dict[str, Any]


def measured(problem: Problem, name: str, method: Method, budget: int, seed: int) -> Run:
    """One run: quality after each evaluation count of interest, and when it passed each share.

    If a method was stopped for repeating itself, what it had found by then is used for all later counts.
    """
    patience = SHORT_PATIENCE if "TPE" in name or _slow(name) else PATIENCE
    ledger = run(method, problem, budget, seed, patience)
    X, F = ledger.arrays()
    counts = {n: min(n, len(X)) for n in AT if n <= budget}
    curve = problem.quality(X, F, range(1, len(X) + 1))
    reached = {str(share): next((n for n, q in enumerate(curve, 1) if q >= share), None) for share in SHARES}
    return {
        "problem": problem.name,
        "method": name,
        "seed": seed,
        "budget": budget,
        "evaluations": len(X),
        "at": {str(n): curve[last - 1] for n, last in counts.items()},
        "test": dict(zip(map(str, counts), problem.verdict(X, F, list(counts.values())), strict=True)),
        "reached": reached,
        "ms": 1e3 * ledger.seconds / max(ledger.asked, 1),
    }


def _slow(name: str) -> bool:
    return name.partition(",")[0] in SLOW


def runs(
    problems: Sequence[Problem], methods: Mapping[str, Method], options: argparse.Namespace
) -> Iterator[Run]:
    """All runs; those that the log has are taken from it, new ones appended."""
    log = RunLog(options.log, ("problem", "method", "seed", "budget"))
    if options.logged:
        names = {problem.name for problem in problems}
        yield from (run for run in log.all() if run["problem"] in names and run["method"] in methods)
        return
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for problem in problems:
            for name, method in methods.items():
                budget = options.slow_budget if _slow(name) else options.budget
                if _slow(name) and seed >= options.first_seed + options.slow_seeds:
                    continue
                known = log.get(problem.name, name, seed, budget)
                if known is None:
                    known = measured(problem, name, method, budget, seed)
                    log.add(known)
                yield known


def summary(found: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Problem to method to medians, quartiles and p-values against aspk's surrogate."""
    result: dict[str, dict[str, Any]] = {}
    for problem in dict.fromkeys(r["problem"] for r in found):
        here = [r for r in found if r["problem"] == problem]
        methods = {
            name: [r for r in here if r["method"] == name]
            for name in dict.fromkeys(r["method"] for r in here)
        }
        result[problem] = {
            name: {
                "seeds": len(rows),
                "hypervolume_at": _quartiles([r["at"] for r in rows]),
                "test_at": _quartiles([r["test"] for r in rows]),
                **{f"evaluations_to_{100 * s:g}": _evaluations(rows, str(s)) for s in SHARES},
                "quartiles_to_95": [_evaluations(rows, "0.95", q) for q in (0.25, 0.75)],
                "ms_per_suggestion": float(np.median([r["ms"] for r in rows])),
                "p_ours_ahead_at": {} if name == OURS else _p_values(methods.get(OURS, []), rows),
            }
            for name, rows in methods.items()
        }
    return result


def _quartiles(curves: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    common = [n for n in curves[0] if all(n in curve for curve in curves)]
    return {n: np.quantile([curve[n] for curve in curves], [0.25, 0.5, 0.75]).tolist() for n in common}


def _evaluations(rows: Sequence[Run], share: str, quantile: float = 0.5) -> float | None:
    """A quantile over the seeds; None if it lies among those that never got there."""
    never = 1e12  # infinity times 0 would be no number
    counts = [never if r["reached"][share] is None else r["reached"][share] for r in rows]
    found = float(np.quantile(counts, quantile))
    return found if found < never / 1e6 else None


def _p_values(mine: Sequence[Run], theirs: Sequence[Run]) -> dict[str, float]:
    """P-values of Wilcoxon's paired test that ours is not ahead, by number of evaluations."""
    pairs = {r["seed"]: [r["at"]] for r in mine}
    for r in theirs:
        pairs.setdefault(r["seed"], []).append(r["at"])
    both = [pair for pair in pairs.values() if len(pair) == 2]
    result = {}
    for n in map(str, AT):
        differences = [a[n] - b[n] for a, b in both if n in a and n in b]
        if len(differences) >= 5 and any(differences):
            result[n] = float(wilcoxon(differences, alternative="greater").pvalue)
    return result


def printed(result: Mapping[str, Mapping[str, Any]]) -> None:
    for problem, methods in result.items():
        print(f"\n{problem}: share of the possible after n unique evaluations, median [quartiles]")
        counts = [n for n in map(str, AT) if any(n in m["hypervolume_at"] for m in methods.values())]
        print(f"{'':38}" + "".join(f"{n:>22}" for n in counts))
        for name, m in methods.items():
            cells = [_cell(m["hypervolume_at"].get(n)) for n in counts]
            print(f"{name:38}" + "".join(f"{cell:>22}" for cell in cells))
        header = [
            "seeds",
            "to 90 %",
            "to 95 %",
            "to 99 %",
            "quartiles to 95 %",
            "ms",
            f"test at {counts[-1]}",
        ]
        widths = [6, 9, 9, 9, 19, 10, 13]
        heads = (f"{text:>{width}}" for text, width in zip(header, widths, strict=True))
        print(f"{'':38}" + "".join(heads) + "  p at 100, 200")
        for name, m in methods.items():
            reached = "".join(f"{m[f'evaluations_to_{100 * s:g}'] or '-':>9}" for s in SHARES)
            quartiles = "[{} {}]".format(*(value or "-" for value in m["quartiles_to_95"]))
            test = m["test_at"].get(counts[-1])
            p = ", ".join(
                f"{m['p_ours_ahead_at'][n]:.1g}" for n in ("100", "200") if n in m["p_ours_ahead_at"]
            )
            last = f"{test[1]:13.4f}" if test else f"{'-':>13}"
            ms = f"{m['ms_per_suggestion']:10.2f}"
            print(f"{name:38}{m['seeds']:6}{reached}{quartiles:>19}{ms}{last}  {p}")


def _cell(quartiles: Sequence[float] | None) -> str:
    return "-" if quartiles is None else "{1:.4f} [{0:.3f} {2:.3f}]".format(*quartiles)


def chosen_problems(options: argparse.Namespace) -> list[Problem]:
    if options.formula and not options.table:
        return [FormulaProblem()]
    tables = options.table or shipped_tables()
    if options.faeb:
        return [FaebProblem(name, form) for name in tables for form in ("product", "linear", "chebyshev")]
    formula: list[Problem] = [FormulaProblem()] if options.formula or not options.table else []
    return [*(TableProblem(name) for name in tables), *formula]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--table", action="append", metavar="NAME", help="a shipped table or its file (default: all shipped)")
    add("--formula", action="store_true", help="the formula on auto_spikformer only, or beside --table")
    add("--faeb", action="store_true", help="single-objective F_AEB instead of accuracy and energy")
    add("--encodings", action="store_true", help="compare the encodings of the peers instead")
    add("--peers", action="store_true", help="beside other methods, those of requirements-peers.txt")
    add("--ablation", action="store_true", help="compare aspk's surrogate with itself, one part replaced")
    add("--methods", nargs="+", metavar="NAME", help="only methods whose name contains one of these")
    add("--seeds", type=int, default=15)
    add("--first-seed", type=int, default=1000, help="tuning used 0 to 149")
    add("--budget", type=int, default=400, help="unique evaluations (default: 400)")
    add("--slow-seeds", type=int, default=5, help="seeds of GPSampler and of slow peers (default: 5)")
    add("--slow-budget", type=int, default=100, help="their budget (default: 100)")
    add("--log", type=Path, metavar="FILE", help="keep finished runs here, and go on from them")
    add("--logged", action="store_true", help="print what --log has, and run nothing")
    add("--json", type=Path, metavar="FILE", help="write the summary as JSON")
    add("--speed", action="store_true", help="time suggestions of aspk's surrogate at 200 and 1,000 trials")
    add("--quick", action="store_true", help="3 seeds, 100 evaluations, nothing slow: within two minutes")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.budget, options.slow_seeds = 3, 100, 0
    return options


def chosen_methods(options: argparse.Namespace) -> dict[str, Method]:
    """The methods that the options name.

    Raises:
        MissingPeerError: one of them needs a package that is not installed.
    """
    if options.ablation:
        methods = {**ABLATION, **(FAEB_ABLATION if options.faeb else {})}
    elif options.encodings:
        methods = PEER_ENCODINGS if options.peers else ENCODINGS
    else:
        methods = {**METHODS, **WITHOUT_PRIORS, **PEERS} if options.peers else METHODS
    if options.methods:
        methods = {k: m for k, m in methods.items() if any(part in k for part in options.methods)}
    if not options.logged:
        required(methods)
    return methods


def main() -> int:
    options = parsed()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.speed:
        for problem in chosen_problems(options):
            speed(problem)
        return 0
    try:
        methods = chosen_methods(options)
    except MissingPeerError as error:
        print(f"search.py: {error}", file=sys.stderr)
        return 2
    start, load = time.time(), os.getloadavg()[0]
    result = summary(list(runs(chosen_problems(options), methods, options)))
    printed(result)
    print(f"\n{time.time() - start:.0f} s; load average at the start {load:.1f} on {os.cpu_count()} cores")
    if options.json:
        record = {"benchmark": "search", "processor": hardware("cpu"), "optuna": optuna.__version__}
        options.json.write_text(json.dumps({**record, "results": result}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
