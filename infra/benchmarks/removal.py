"""Scores as modalities are removed at random from training and test alike, by what stands in.

    python -m infra.benchmarks.removal RECIPE --to FOLDER

FOLDER is where the recipe's features are, or are made first. Of each key, modalities are removed
at random with a probability, but one stays (`understanding.removal_masks`): with two modalities,
0.37 removes 30 % of them. Strategies are then compared, each on the same
folds, with the candidates of the recipe and nested choices: their out-of-fold scores, and that of
the one which `compare` takes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.commands import Asked, run_recipe
from pipelines.planning import make_plan
from schemas.loading import locate_recipe
from schemas.options.fuse import Average, Compare, Concatenate
from schemas.plan import Plan
from transforms.fusion.filling import Missing
from transforms.fusion.fitted import Fusion
from transforms.fusion.joining import feature_names
from transforms.fusion.strategies import fit_rows
from transforms.fusion.trees import Part, Tree
from transforms.learning.choosing import choose
from transforms.learning.dataset import load_training_set
from transforms.learning.problem import TrainingSet
from transforms.learning.training import judging
from transforms.learning.understanding import removal_masks

POLICIES: tuple[Missing, ...] = ("mean", "conditional")


def strategies(scale: Any) -> dict[str, Concatenate | Average]:
    """What is compared, from the simplest to the most complex."""
    return {
        "concatenate": Concatenate(scale=scale),
        "mean rule": Average(method="average", of="decisions", rule="mean", scale=scale),
        "product rule": Average(method="average", of="decisions", rule="product", scale=scale),
    }


def without(data: TrainingSet, present: np.ndarray, missing: Missing, plan: Plan) -> TrainingSet:
    """The rows as if they had only what is `present`, what they lack being filled as it says."""
    names = {m: feature_names(plan, m) for m in data.modalities}
    here = data.present & present
    blocks = dict(data.blocks)
    for i, name in enumerate(data.modalities):  # nobody may look at what is gone
        blocks[name] = np.where(here[:, i, None], blocks[name], np.float32(np.nan))

    def fit(rows: np.ndarray, part: Part) -> Fusion:
        own = {m: names[m] for m in part.modalities}
        return fit_rows(Tree((part,)), missing, blocks, here, rows, own)

    return replace(data, present=here, blocks=blocks, fit=fit)


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--to", required=True, help="where the features are, or are made")
    parser.add_argument("--level", type=float, default=0.37, help="probability of removal")
    parser.add_argument("--seeds", type=int, default=1, help="number of draws")
    args = parser.parse_args()
    run_recipe(args.recipe, "extract", args.to, [], Asked([]))
    recipe, place = locate_recipe(args.recipe, [])
    plan = make_plan(recipe, args.recipe, args.to, place).plan
    assert recipe.target is not None
    assert recipe.train is not None
    data = load_training_set(plan, fused=False)
    masks = {"complete": np.ones_like(data.present)}
    for seed in range(args.seeds):
        (mask,) = removal_masks(data.keys, data.present, data.modalities, [args.level], seed)
        masks[f"removed, seed {seed}"] = mask
    assert hasattr(recipe.fuse, "scale")
    compare = Compare(method="compare", strategies=strategies(recipe.fuse.scale))
    for words, mask in masks.items():
        gone = 1 - (data.present & mask).sum() / data.present.sum()
        for missing in POLICIES if gone else POLICIES[:1]:
            own = without(data, mask, missing, plan)
            with judging(own, recipe.train.models, recipe.target.task) as heads:
                report = choose(heads, compare).report
            scores = {line["name"]: line["score"] for line in report["strategies"]}
            told = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
            nested = report["cross_validation"]
            print(
                f"{words} ({100 * gone:.1f} % gone), {missing}: {told}; chosen: "
                f"{report['chosen']} {scores[report['chosen']]:.4f}"
                + (f", choosing anew for each fold {nested['score']:.4f}" if nested else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()
