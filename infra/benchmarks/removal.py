"""Scores as modalities are removed at random from training and test alike, by what stands in.

    python -m infra.benchmarks.removal RECIPE --to FOLDER

FOLDER is where the recipe's features are, or are made first. Of each key, modalities are removed
at random with a probability, but one stays (`understanding.removal_masks`): with two modalities,
0.37 removes 30 % of them. Strategies are then compared, each on the same
folds, with the candidates of the recipe and nested choices: their out-of-fold scores, and that of
the one which `compare` takes. With `--deep` the network is one of them, by default with its default
options (`--deep "{dimension: 128}"`: with others), whose networks are trained anew for each draw:
minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import yaml

from pipelines.commands import Asked, run_recipe
from pipelines.planning import make_plan
from schemas.loading import locate_recipe
from schemas.options.fuse import Average, Compare, Concatenate, Deep
from schemas.plan import Plan
from transforms.fusion.filling import Missing
from transforms.fusion.fitted import Fusion, fusion_of
from transforms.fusion.joining import feature_names
from transforms.fusion.network import Network
from transforms.fusion.strategies import fit_rows
from transforms.fusion.trees import Part, Tree
from transforms.learning.choosing import choose
from transforms.learning.dataset import LabelledRows, labelled_rows, load_training_set
from transforms.learning.network.fitting import fit_jobs
from transforms.learning.network.jobs import Job, jobs_of
from transforms.learning.network.survey import Survey, survey
from transforms.learning.problem import TrainingSet
from transforms.learning.training import judging
from transforms.learning.understanding import removal_masks

POLICIES: tuple[Missing, ...] = ("mean", "conditional")
PROCESSES = 2
Networks = dict[tuple[int, ...], Network]
"""By the folds that they have not seen."""


def strategies(scale: Any, deep: Deep | None) -> dict[str, Concatenate | Average | Deep]:
    """What is compared, from the simplest to the most complex."""
    found: dict[str, Concatenate | Average | Deep] = {
        "concatenate": Concatenate(scale=scale),
        "mean rule": Average(method="average", of="decisions", rule="mean", scale=scale),
        "product rule": Average(method="average", of="decisions", rule="product", scale=scale),
    }
    return found | ({"deep": deep} if deep else {})


@dataclass(frozen=True)
class Removed:
    """An output's rows a bucket at a time, with a draw's modalities gone; see `removal_masks`."""

    plan: Plan
    level: float
    seed: int

    def __call__(self, buckets: Sequence[int] | None = None) -> Iterator[LabelledRows]:
        """The labelled rows of some buckets, or of all."""
        for rows in labelled_rows(self.plan, buckets):
            (here,) = removal_masks(
                rows.keys, rows.present, list(rows.blocks), [self.level], self.seed
            )
            yield replace(rows, present=here)


def networks(read: Removed, deep: Deep) -> Networks:
    """Those that `deep` asks for, trained as a run does."""
    names = tuple(m.name for m in read.plan.modalities)
    found = survey(names, read(), numbers=False)
    jobs = jobs_of(found.folds, ())
    groups = [jobs[start::PROCESSES] for start in range(PROCESSES)]
    context = get_context("spawn")  # forked, JAX would hang
    with ProcessPoolExecutor(PROCESSES, context) as pool:
        trained = pool.map(partial(_trained, read, found, deep), groups)
        return {folds: network for group in trained for folds, network in group.items()}


def _trained(read: Removed, found: Survey, deep: Deep, jobs: list[Job]) -> Networks:
    fits = fit_jobs(read, read.plan.buckets, found, deep, jobs)
    return {job.folds: one.network for job, one in zip(jobs, fits, strict=True)}


def without(
    data: TrainingSet, present: np.ndarray, missing: Missing, plan: Plan, trained: Networks
) -> TrainingSet:
    """The rows as if they had only what is `present`, what they lack being filled as it says."""
    names = {m: feature_names(plan, m) for m in data.modalities}
    here = data.present & present
    blocks = dict(data.blocks)
    for i, name in enumerate(data.modalities):  # nobody may look at what is gone
        blocks[name] = np.where(here[:, i, None], blocks[name], np.float32(np.nan))

    def fit(rows: np.ndarray, part: Part) -> Fusion:
        if part.network is not None:
            out = tuple(np.unique(data.fold[~data.test & ~rows]).tolist())
            return fusion_of(trained[out].of(part.modalities))
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
    parser.add_argument("--missing", nargs="+", choices=POLICIES, default=POLICIES)
    parser.add_argument("--deep", nargs="?", const="{}", help="with the network; its options")
    args = parser.parse_args()
    run_recipe(args.recipe, "extract", args.to, [], Asked([]))
    recipe, place = locate_recipe(args.recipe, [])
    plan = make_plan(recipe, args.recipe, args.to, place).plan
    assert recipe.target is not None
    assert recipe.train is not None
    data = load_training_set(plan, fused=False)
    draws = {"complete": (0.0, 0)}
    draws |= {f"removed, seed {seed}": (args.level, seed) for seed in range(args.seeds)}
    assert hasattr(recipe.fuse, "scale")
    deep = Deep(method="deep", **yaml.safe_load(args.deep)) if args.deep else None
    compare = Compare(method="compare", strategies=strategies(recipe.fuse.scale, deep))
    behind = []
    best = 0.0
    for words, (level, seed) in draws.items():
        (mask,) = removal_masks(data.keys, data.present, data.modalities, [level], seed)
        gone = 1 - (data.present & mask).sum() / data.present.sum()
        trained = networks(Removed(plan, level, seed), deep) if deep else {}
        for missing in args.missing if gone else POLICIES[:1]:
            own = without(data, mask, missing, plan, trained)
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
            if not gone:
                best = scores[report["chosen"]]
            elif missing == "mean":
                behind.append(best - scores[report["chosen"]])
    if behind:
        print(
            f"mean: chosen {100 * np.mean(behind):.2f} points below complete, "
            f"{100 * min(behind):.2f} to {100 * max(behind):.2f}"
        )


if __name__ == "__main__":
    main()
