import numpy as np
import optuna
import pytest
from sampler_cases import TINY, create, search

from aspk.errors import StudyError
from aspk.report.skill import skill_figure, skill_text, study_skill, write_skill_figure
from aspk.samplers import RandomSampler
from aspk.trials import attributes


def made_study(count):
    study = search(create(s := RandomSampler(space=TINY, seed=0)), s, count, batch=count)
    study.set_metric_names(["accuracy", "energy"])
    study.set_user_attr(attributes.SPACE, TINY.to_json())
    return study


@pytest.fixture(scope="module")
def skills():
    return study_skill(made_study(60), draws=4)


def test_skill_grows_with_the_trials_learnt_from(skills):
    assert list(skills) == ["accuracy", "energy"]
    for curve in skills.values():
        assert [s.size for s in curve] == [10, 20, 40]
        assert curve[-1].tau > curve[0].tau
    assert skills["energy"][-1].tau > 0.75


def test_the_table_has_a_row_for_each_size(skills):
    header, _, *rows, note = skill_text(skills).splitlines()
    assert header.startswith("objective")
    assert [row.split()[:2] for row in rows] == [[n, s] for n in skills for s in ("10", "20", "40")]
    assert f"{skills['energy'][2].tau:.3f}" in rows[-1]
    assert "not learnt from" in note


def test_the_figure_shows_both_objectives(skills, tmp_path):
    left, right = skill_figure(skills).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["accuracy", "energy"]
    assert left.lines[1].get_ydata().tolist() == [s.tau for s in skills["energy"]]
    assert np.allclose([line.get_ydata()[0] for line in right.lines[-2:]], [0.683, 0.954])
    write_skill_figure(skills, tmp_path / "skill.png")
    assert (tmp_path / "skill.png").read_bytes().startswith(b"\x89PNG")


def test_a_study_that_is_too_small_or_has_no_space_is_refused():
    with pytest.raises(StudyError, match="14 complete trials: expected at least 15"):
        study_skill(made_study(14))
    with pytest.raises(StudyError, match="no search space"):
        study_skill(optuna.create_study(study_name="strange"))
