"""Re-bills a finished study under another energy account: same networks and counts, new bill and front."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import kendalltau

from aspk.energy import EnergyModel, energy_mj
from aspk.errors import StudyError
from aspk.metrics import Metrics
from aspk.objectives import OBJECTIVES, budget
from aspk.objectives.scalarization import FAEB
from aspk.report import StudySummary, summarise
from aspk.space.file import space_from_dict
from aspk.trials import attributes, note_study_record, study_record


@dataclass(frozen=True, kw_only=True)
class Rebilling:
    """A study under another account.

    Attributes:
        model: the account.
        study: the copy, in memory; trial numbers are those of the original.
        summary: its front and tables.
        before: the original's.
        kendall_tau: rank agreement of the energies before and after, None with fewer than two networks.
    """

    model: EnergyModel
    study: optuna.Study
    summary: StudySummary
    before: StudySummary
    kendall_tau: float | None

    @property
    def kept(self) -> int:
        """Networks that are on the front before and after."""
        fronts = [{row.number for row in summary.front} for summary in (self.before, self.summary)]
        return len(fronts[0] & fronts[1])


def rebill(study: optuna.Study, model: EnergyModel) -> Rebilling:
    """Bill every network of a study again and redraw its front; see :func:`rebilled`."""
    copy = rebilled(study, model)
    before, after = summarise(study), summarise(copy)
    energies = [[row.metrics.energy_mj for row in s.trials if row.metrics] for s in (before, after)]
    tau = float(kendalltau(*energies).statistic) if len(energies[0]) > 1 else None
    return Rebilling(model=model, study=copy, summary=after, before=before, kendall_tau=tau)


def rebilled(study: optuna.Study, model: EnergyModel) -> optuna.Study:
    """A copy of a study in memory with the energies of another account, from the stored layer counts.

    Objectives, constraints and anchors that depend on energy are computed again; a budget in mJ keeps its
    value. No network is evaluated. F_AEB needs the reference network under the new account: its counts are
    taken from the study or from the trial that evaluated it; without either, F_AEB is left out.

    Args:
        study: a study of aspk; it is only read.
        model: the account.

    Raises:
        StudyError: a complete trial carries no layer counts, or F_AEB is an objective and cannot be computed.
        MetricsError: a trial's counts are damaged.
    """
    context = attributes.mapping_in(study_record(study), attributes.CONTEXT)
    names = summarise(study).objectives
    reference = _reference(study, context, model)
    account = _Account(
        model=model,
        objectives=names,
        faeb=_faeb(context, reference),
        budgets=attributes.mapping_in(context, "constraints"),
    )
    copy = _empty_study(study, names)
    record = study_record(study)
    kept = {key: record[key] for key in (attributes.SPEC, attributes.SPACE) if key in record}
    note_study_record(copy, kept | {attributes.CONTEXT: _context(context, reference, model)})
    for key, value in study.user_attrs.items():
        if key not in (*kept, attributes.CONTEXT):
            copy.set_user_attr(key, value)
    for trial in study.get_trials(deepcopy=False):
        copy.add_trial(account.trial(trial))
    return copy


def _empty_study(study: optuna.Study, objectives: Sequence[str]) -> optuna.Study:
    """A study in memory with the same name, directions and objectives; nothing is logged."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        copy = optuna.create_study(study_name=study.study_name, directions=study.directions)
    finally:
        optuna.logging.set_verbosity(verbosity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        copy.set_metric_names(list(objectives))
    return copy


@dataclass(frozen=True, kw_only=True)
class _Account:
    """Everything that a trial's new values depend on."""

    model: EnergyModel
    objectives: tuple[str, ...]
    faeb: FAEB | None
    budgets: Mapping[str, float]

    def trial(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial under the account; unfinished ones stay as they are."""
        if trial.state != TrialState.COMPLETE:
            return create_trial(state=trial.state, user_attrs=trial.user_attrs)
        metrics = _billed(attributes.metrics_of(trial), self.model)
        if metrics is None:
            raise StudyError(
                f"trial {trial.number} carries no layer counts, so it cannot be billed again; "
                "only trials evaluated by 'aspk search' do"
            )
        constraints = dict(trial.constraints)
        for name, bound in self.budgets.items():
            if name in constraints:
                constraints[name] = budget(name, bound)(metrics)
        mirror = {attributes.CONSTRAINTS: constraints} if constraints else {}
        return create_trial(
            values=[self._value(name, trial, metrics) for name in self.objectives],
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**trial.user_attrs, "energy_mj": metrics.energy_mj, **mirror},
            system_attrs={
                key: trial.system_attrs[key] for key in (attributes.LAYERS,) if key in trial.system_attrs
            },
            constraints=constraints or None,
        )

    def _value(self, name: str, trial: FrozenTrial, metrics: Metrics) -> float:
        if name in OBJECTIVES:
            return OBJECTIVES[name](metrics)
        if name != "f_aeb":  # a custom objective: what it depends on is not known here
            return float(trial.values[self.objectives.index(name)])
        if self.faeb is None:
            raise StudyError("F_AEB is an objective, but the reference network's counts are not in the study")
        return self.faeb(metrics)


def _billed(metrics: Metrics | None, model: EnergyModel) -> Metrics | None:
    """The metrics with the energy of another account, None without counts."""
    if metrics is None or not metrics.layers:
        return None
    return replace(metrics, energy_mj=energy_mj(metrics.layers, model))


def _reference(study: optuna.Study, context: Mapping[str, Any], model: EnergyModel) -> Metrics | None:
    """The reference network under the account, None if the study does not hold its counts."""
    stored = _billed(attributes.metrics_from_attributes(attributes.mapping_in(context, "reference")), model)
    if stored is not None or attributes.SPACE not in study_record(study):
        return stored
    space = space_from_dict(study_record(study)[attributes.SPACE])
    genes = space.parameters(space.encode(space.reference))
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if trial.params == genes:
            return _billed(attributes.metrics_of(trial), model)
    return None


def _faeb(context: Mapping[str, Any], reference: Metrics | None) -> FAEB | None:
    if reference is None or "classes" not in context:
        return None
    options = attributes.mapping_in(context, "faeb")
    try:
        return FAEB(reference_energy_mj=reference.energy_mj, classes=context["classes"], **options)
    except TypeError as error:
        raise StudyError(f"the study's record of F_AEB is damaged: {error}") from None


def _context(context: Mapping[str, Any], reference: Metrics | None, model: EnergyModel) -> dict[str, Any]:
    """The study's context; entries that depend on energy are replaced, or dropped where not known."""
    known = attributes.mapping_in(context, "anchors")
    anchors = {name: pair for name, pair in known.items() if name != "energy"}
    fresh = {**context, "energy": asdict(model), "anchors": anchors}
    fresh.pop("reference", None)
    if reference is not None:
        fresh["reference"] = attributes.metrics_to_attributes(reference)
        if "energy" in known:
            anchors["energy"] = [0.0, reference.energy_mj]
    return fresh
