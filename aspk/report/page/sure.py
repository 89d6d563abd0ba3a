"""How sure is that? What the numbers are based on, and what networks trained alone reached."""

from __future__ import annotations

from aspk.energy import NOTHING
from aspk.report.figures.front import by_trial
from aspk.report.page.content import Content
from aspk.report.page.document import command, table, text
from aspk.report.summary import StudySummary
from aspk.report.tables import (
    number,
    statistics_text,
)
from aspk.report.trained import mean, with_error
from aspk.trials.attributes import mapping_in
from aspk.trials.verdict import is_warning

_TRUSTED = "Ranking of this supernet: trusted"


def sure(content: Content) -> list[str]:
    """The answer, part by part."""
    summary = content.summary
    parts = []
    if summary.verdict:
        trusted = summary.verdict.startswith(_TRUSTED) and not is_warning(summary.verdict)
        kind = "verdict" if trusted else "verdict warning"
        parts.append(f'<p class="{kind}">{text(summary.verdict)}</p>\n')
    parts += [f'<p class="warn">{text(note)}</p>\n' for note in summary.notes]
    parts.append(f"<ul>{''.join(f'<li>{line}</li>' for line in _reasons(content))}</ul>\n")
    trained = _trained(content)
    return [*parts, trained] if trained else parts


def _reasons(content: Content) -> list[str]:
    """How far the numbers above can be trusted, each reason a line of HTML."""
    summary, chosen = content.summary, content.selection.chosen
    split = _split(summary)
    found = []
    if summary.images and chosen and chosen.standard_error is not None:
        found.append(
            f"Accuracies were measured on {number(summary.images)} images of the split <i>{text(split)}</i>; "
            f"the standard error of {chosen.name} is {chosen.standard_error:.4f}, drawn as bars in the "
            "figure."
        )
    elif chosen and chosen.accuracy is not None:
        found.append(
            "The number of images behind the accuracies is not recorded, so there are no standard errors."
        )
    if chosen and chosen.accuracy is not None:
        found.append(
            f"The best of {number(summary.evaluations)} measured networks is likely to look too good: a "
            "network picked for its accuracy usually does a little worse on other images."
        )
        if summary.statistics:
            found.append(
                f"{text(statistics_text(summary))} Accuracies are those of the supernet's weights, not of "
                "networks trained alone."
            )
        wanted = sorted({pick.row.number for pick in content.picks.values()})
        if any(row.inherited is not None for row in summary.trials):
            words = f"aspk retrain {content.command} --front --seeds 3 --from-scratch"
            found.append(
                "Each network was trained alone, once. Another seed gives another accuracy: to compare close "
                f"networks, train them with further seeds: {command(words)}"
            )
        elif not by_trial(content.trained):
            words = f"aspk retrain {content.command} {' '.join(f'--trial {number}' for number in wanted)}"
            test = "" if split == "test" else " or measured on <i>test</i>"
            found.append(f"No network has been trained alone{test} yet: {command(words)}")
    states = ", ".join(f"{count} {state}" for state, count in sorted(summary.states.items())) or "none"
    found.append(f"Trials: {states}; {planned(summary)} networks were requested.")
    found.append(
        f"Energies are estimates from operation counts under the account {text(content.account.name)} "
        f"({content.account.mac_pj:g} pJ per multiply-accumulate, {content.account.ac_pj:g} pJ per "
        "accumulate), not a measurement."
    )
    return found


def _split(summary: StudySummary) -> str:
    """The split behind the accuracies; 'aspk refine' always measures on ``search``."""
    refined = any(row.inherited is not None for row in summary.trials)
    asked = mapping_in(summary.spec, "evaluation").get("split", "search")
    return "search" if refined else str(asked)


def _trained(content: Content) -> str:
    """Networks that were trained alone: what the search measured and what they reached."""
    rows, known = [], {row.number: row for row in content.summary.trials}
    names: dict[int, list[str]] = {}
    for pick in content.picks.values():
        names.setdefault(pick.row.number, []).append(pick.name)
    for trial, own in by_trial(content.trained).items():
        row = known.get(trial)
        test = [one.test for one in own]
        rows.append(
            [
                f"trial {trial} {', '.join(names.get(trial, []))}",
                f"{row.metrics.accuracy:.4f}" if row and row.metrics else NOTHING,
                with_error([one.search for one in own]),
                with_error(test),
                str(len(own)),
                content.energy(row.metrics.energy_mj if row and row.metrics else None),
                content.energy(mean([one.energy_mj for one in own])),
            ]
        )
    header = [
        "network",
        "in the search",
        "trained alone, search",
        "test",
        "seeds",
        "energy in the search",
        "energy trained alone",
    ]
    return f"<h3>Trained alone</h3>{table(header, rows)}" if rows else ""


def planned(summary: StudySummary) -> str:
    """How many networks were requested; a study that was continued may have more than it recorded."""
    planned = summary.spec.get("evaluations")
    done = summary.evaluations
    return number(max(planned, done)) if isinstance(planned, int) else number(done)
