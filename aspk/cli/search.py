"""The commands of a search: ``aspk search``, ``report``, ``compare``, ``refine`` and ``dashboard``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from aspk.cli.arguments import (
    aim_argument,
    margin_of,
    refined_argument,
    selection_arguments,
    share_between,
    spec_of,
    study_arguments,
    study_words,
    whole_number,
    with_recipe,
)
from aspk.cli.commands import INTERRUPTED, Commands, Group, typed
from aspk.cli.terminal import show
from aspk.errors import StudyError
from aspk.util.files import safe_name


def add_search_commands(commands: Commands) -> None:
    """Add the commands to a parser's."""
    search = commands.add(
        "search",
        Group.SEARCH,
        help="search, or continue a search",
        example="aspk search digits --sampler nsga2 --evaluations 300",
    )
    study_arguments(search, sampler=True, device=True)
    search.add_argument(
        "--evaluations", type=whole_number(1, 10**9), help="networks to evaluate, not the study file's number"
    )
    search.add_argument(
        "--prior-study",
        action="append",
        metavar="STUDY",
        help="learn from this finished study, too: its file, or the name of a shipped one; may be repeated",
    )
    search.add_argument(
        "--stop-below",
        type=share_between,
        metavar="SHARE",
        help="end the search once, for twenty evaluations, the next one was expected to add less than this "
        "to the hypervolume, such as 0.001",
    )
    search.set_defaults(run=_search)

    report = commands.add(
        "report",
        Group.SEARCH,
        help="write a study's Pareto table, figures and HTML page",
        example="aspk report digits --select knee --output report",
    )
    study_arguments(report, sampler=True)
    refined_argument(report)
    report.add_argument("--output", type=Path, help="the folder to write to (default: FOLDER/report-NAME)")
    selection_arguments(report)
    report.add_argument("--trials", type=whole_number(0), nargs="+", help="trials whose layers are shown")
    report.set_defaults(run=_report)

    compare = commands.add(
        "compare",
        Group.SEARCH,
        help="compare samplers on one study file, or several studies",
        example="aspk compare digits own.toml --html studies.html",
    )
    compare.add_argument("studies", nargs="+", metavar="study", help="study files, or names of shipped ones")
    compare.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with the studies side by side"
    )
    compare.set_defaults(run=_compare)

    refine = commands.add(
        "refine",
        Group.SEARCH,
        help="after a search, train networks alone where that is most informative",
        example="aspk refine digits --trainings 24 --workers 2",
    )
    study_arguments(refine, sampler=True, device=True)
    refine.add_argument(
        "--trainings",
        type=whole_number(2, 10**6),
        default=24,
        help="networks to train, including the reference and those of earlier runs (default: 24)",
    )
    refine.add_argument(
        "--workers", type=whole_number(1, 1000), default=1, help="networks trained in parallel (default: 1)"
    )
    refine.add_argument(
        "--inherited", action="store_true", help="start from the supernet's weights, not from fresh ones"
    )
    refine.add_argument(
        "--without-test",
        action="store_true",
        help="do not read 'test', so that no later choice can have seen it",
    )
    aim_argument(
        refine,
        help="what to optimise: the study's objectives (default), or F_AEB alone, in a study of its own that "
        "takes over finished trainings",
    )
    refine.add_argument(
        "--no-stopping",
        dest="stop",
        action="store_false",
        help="train every network to the end (default: after 4/10 of the updates, end a training whose loss "
        "shows that a trained network will dominate its result)",
    )
    refine.add_argument("--recipe", help="a recipe instead of the study's [retrain]: cpu, paper, FILE")
    refine.set_defaults(run=_refine)

    dashboard = commands.add(
        "dashboard",
        Group.SEARCH,
        help="show a study in optuna-dashboard",
        example="aspk dashboard digits --port 0",
    )
    study_arguments(dashboard, sampler=True, device=True)
    refined_argument(dashboard)
    selection_arguments(dashboard)
    dashboard.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    dashboard.add_argument(
        "--port", type=whole_number(0, 65535), default=8080, help="port; 0 takes a free one (default: 8080)"
    )
    dashboard.add_argument("--no-models", dest="models", action="store_false", help="export no models")
    dashboard.set_defaults(run=_dashboard)


def _search(options: argparse.Namespace) -> int:
    spec = spec_of(options)
    if options.evaluations is not None:
        spec = replace(spec, evaluations=options.evaluations)
    if options.stop_below is not None:
        spec = replace(spec, stop_below=options.stop_below)
    if options.prior_study:
        spec = replace(spec, prior_studies=(*spec.prior_studies, *options.prior_study))

    from aspk.report import pareto_text, select, selection_text, statistics_text, summarise
    from aspk.space.file import load_space
    from aspk.study import check_sampler, load_problem, run_study

    check_sampler(spec, load_space(spec.space))  # before a supernet is loaded and its reference evaluated
    problem = load_problem(spec, device=options.device)
    print(problem.verdict)
    reference, faeb = problem.reference, problem.faeb
    print(f"{spec.name}: reference network {reference.accuracy:.4f} at {reference.energy_mj:.3g} mJ")
    print(f"F_AEB ({faeb.form}): {faeb.trade()}")
    result = run_study(spec, problem)
    summary = summarise(result.study)
    show(pareto_text(summary))
    print(selection_text(select(summary)))
    print(statistics_text(summary))
    if not result.finished:
        print(f"{result.evaluations} of {spec.evaluations} done; go on with: {typed()}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _report(options: argparse.Namespace) -> int:
    spec = spec_of(options)

    from aspk.report import (
        pareto_text,
        select,
        selection_text,
        statistics_text,
        summarise,
        write_report,
    )
    from aspk.study.storage import open_study, renew_verdict, statistics_of, studies_of

    study = open_study(spec)
    statistics = statistics_of(study) or spec.evaluation.statistics
    if not options.refined:  # whose trials do not depend on the supernet's weights
        renew_verdict(study, spec, statistics)  # 'aspk rank' may have run since the search
    folder = options.output or spec.folder / safe_name(f"report-{spec.name}")
    others = [other for other in studies_of(spec) if other.study_name != spec.name]
    marked = {"selection": options.select, "margin": margin_of(options)}
    write_report(
        study,
        folder,
        trials=options.trials,
        others=others,
        **marked,
        trained=spec.folder,
        command=study_words(options),
    )
    summary = summarise(study)
    selection = select(summary, options.select, margin=margin_of(options))
    lines = [pareto_text(summary, selection), selection_text(selection), statistics_text(summary)]
    show("\n".join(line for line in (*lines, summary.verdict) if line))
    print(f"wrote {folder / 'report.html'}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    specs = [spec_of(argparse.Namespace(study=study)) for study in options.studies]

    from aspk.report import StudySummary, compare_text, summarise, write_comparison
    from aspk.study.storage import studies_of

    found: dict[tuple[str, str], StudySummary] = {}
    for name, spec in zip(options.studies, specs, strict=True):
        studies = studies_of(spec)
        if not studies:
            raise StudyError(f"no study of {name!r} in its storage; run 'aspk search {name}'")
        found |= {(spec.storage_url, study.study_name): summarise(study) for study in studies}
    show(compare_text(list(found.values())))
    if options.html is not None:
        write_comparison(list(found.values()), options.html)
        print(f"wrote {options.html}")
    return 0


def _refine(options: argparse.Namespace) -> int:
    spec = with_recipe(spec_of(options), options.recipe)

    from aspk.report import summarise
    from aspk.report.refined import refined_text
    from aspk.standalone.refining import TrainingEvaluator, refine

    result = refine(
        spec,
        trainings=options.trainings,
        workers=options.workers,
        inherited=options.inherited,
        test=not options.without_test,
        aim=options.aim,
        stop=options.stop,
        device=options.device,
    )
    if result is None or not result.finished:
        print(f"saved; go on with: {typed()}", file=sys.stderr)
        return INTERRUPTED
    job = TrainingEvaluator(spec, inherited=options.inherited).job
    show(refined_text(summarise(result.study), export_of=lambda config: job(config).record_file.parent))
    return 0


def _dashboard(options: argparse.Namespace) -> int:
    spec = spec_of(options)

    from aspk.report.dashboard import show
    from aspk.standalone.refining import export_all_refined

    searched = spec_of(options, searched=True)
    export = partial(export_all_refined, searched, aim=options.aim) if options.refined else None
    try:
        return show(
            spec,
            export=export,
            host=options.host,
            port=options.port,
            models=options.models,
            device=options.device,
            selection=options.select,
            margin=margin_of(options),
        )
    except KeyboardInterrupt:
        print("aspk: the dashboard has stopped", file=sys.stderr)
        return INTERRUPTED
