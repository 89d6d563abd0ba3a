"""What files say: settings, training recipes and studies."""

from aspk.spec.recipe import load_recipe
from aspk.spec.settings import DataSettings, EngineSettings, EvaluationSettings, Recipe
from aspk.spec.study import FAEBSettings, StudySpec, load_study_file

__all__ = [
    "DataSettings",
    "EngineSettings",
    "EvaluationSettings",
    "FAEBSettings",
    "Recipe",
    "StudySpec",
    "load_recipe",
    "load_study_file",
]
