"""What would run: the Beam graph of a plan, stage by stage, without running it."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.options import RunnerOptions, quietly
from pipelines.planning import Checked, with_strategy
from schemas.options.fuse import Compare, needs_choice
from schemas.plan import Plan, SourcePlan
from schemas.recipe import TARGET

SHUFFLE, FLATTEN = "beam:transform:group_by_key:v1", "beam:transform:flatten:v1"
IMPULSE = "beam:transform:impulse:v1"


def print_graph(
    checked: Checked, upto: str, options: RunnerOptions, console: Console, done: set[str]
) -> None:
    """Print what a run would do: counts by modality, then the stages of each graph.

    Args:
        checked: the plan.
        upto: the last step.
        options: of the runner.
        console: to print to.
        done: steps that are done already, from the same recipe and inputs.
    """
    plan = checked.plan
    where = " (remote)" if options.remote else ""
    console.print(f"Dry run of {plan.recipe.name} up to {upto}: nothing is run or written.\n")
    console.print(f"runner   {options.runner or 'local worker processes'}{where}")
    console.print(f"output   {plan.output}\n")
    console.print(_modalities(checked, upto, done))
    graph, number = "fuse" if upto == "train" else upto, 1
    if graph == "fuse" and needs_choice(plan.recipe.fuse) and plan.fitted is None:
        _print_stages(checked, plan, "extract", 1, console)
        console.print("\nlauncher: choose the strategy of fusion by cross-validation")
        number, example = 2, _example(plan)
        if example is None:
            console.print("\ngraph 2: the same, everything up to there as it was, then join and")
            console.print("  fuse; its stages depend on the strategy that is chosen")
        else:
            plan = example
            console.print(f"\nwith {example.recipe.fuse.method!r} for instance:", end="")
    if number == 1 or plan is not checked.plan:
        _print_stages(checked, plan, graph, number, console)
    train = ", the model trained" if upto == "train" else ""
    console.print(f"\nlauncher: the audit checked{train}, the report written")


def _example(plan: Plan) -> Plan | None:
    """The plan with the first strategy of several, unless that is itself left open."""
    fuse = plan.recipe.fuse
    first = next(iter(fuse.strategies.values())) if isinstance(fuse, Compare) else fuse
    return None if needs_choice(first) else with_strategy(plan, first)


def _modalities(checked: Checked, upto: str, done: set[str]) -> Table:
    plan = checked.plan
    table = Table(box=None, pad_edge=False)
    for heading in ("modality", "kind", "files", "rows", "buckets", "extract", "done already"):
        right = heading in ("files", "rows", "buckets")
        table.add_column(heading, justify="right" if right else "left")
    sources: dict[str, tuple[str, SourcePlan]] = {
        m.name: (m.recipe.kind, m.source) for m in plan.modalities
    }
    if plan.target is not None:
        sources[TARGET] = ("labels", plan.target)
    for name, (kind, source) in sources.items():
        extract = ""
        if name != TARGET and upto != "ingest":
            extract = ", ".join(n for n, _ in plan.modality(name).recipe.extract.named())
        steps = [step for step in ("ingest", "extract") if f"{step}/{name}" in done]
        counts = [f"{n:,}" for n in (len(source.files), checked.rows[name], plan.buckets)]
        table.add_row(name, kind, *counts, extract, ", ".join(steps))
    return table


def _print_stages(checked: Checked, plan: Plan, upto: str, number: int, console: Console) -> None:
    stages = stages_of(plan, upto)
    work = [stage for stage in stages if stage[0] == "work"]
    rows, branches = sum(checked.rows.values()), len(plan.branches)
    console.print(f"\ngraph {number}: {len(work)} stages, {len(stages) - len(work)} shuffles")
    count = 0
    for kind, names in stages:
        if kind == "work":
            count += 1
            console.print(f"  {count:>2}  {', '.join(names)}")
            continue
        words = ""
        if names == ["Buckets"]:
            words = f": {rows:,} rows into {branches} x {plan.buckets} buckets"
        console.print(f"      -- shuffle {', '.join(names)}{words} --")


def stages_of(plan: Plan, upto: str) -> list[tuple[str, list[str]]]:
    """The graph's stages in order, as portable runners fuse them.

    Neither runner nor credentials are needed, and nothing is asked of any network.

    Returns:
        Of each, `work` or `shuffle`, and the names of its transforms.
    """
    with quietly():
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.portability import common_urns
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner, translations
        from apache_beam.transforms.environments import DockerEnvironment

        from pipelines.flow import build

    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    os.rmdir(pipeline.local_tempdir)  # made for a run, at whose end it would go
    build(pipeline, plan, upto)
    graph = pipeline.to_runner_api(default_environment=DockerEnvironment(container_image="none"))
    known = (common_urns.composites.RESHUFFLE, *_primitives(common_urns))
    _, found = translations.create_and_optimize_stages(
        graph,
        phases=translations.standard_optimize_phases(),
        known_runner_urns=frozenset(one.urn for one in known),
    )
    root = graph.components.transforms[graph.root_transform_ids[0]]
    return _named(found, [graph.components.transforms[i].unique_name for i in root.subtransforms])


def _primitives(common_urns: Any) -> list[Any]:
    names = ("IMPULSE", "FLATTEN", "GROUP_BY_KEY")
    return [getattr(common_urns.primitives, name) for name in names]


def _named(stages: list[Any], order: list[str]) -> list[tuple[str, list[str]]]:
    """Stages by the names of the flow: the step's own where a step is all in one stage."""
    place = {name: i for i, name in enumerate(order)}
    parts = [
        (
            "shuffle" if any(t.spec.urn == SHUFFLE for t in stage.transforms) else "work",
            [t.unique_name for t in stage.transforms if t.spec.urn not in (FLATTEN, IMPULSE)],
        )
        for stage in stages
    ]
    parts = [(kind, names) for kind, names in parts if names]
    steps = [{name.partition("/")[0] for name in names} for _, names in parts]
    several = {s for one in steps for s in one if sum(s in other for other in steps) > 1}

    def shown(name: str) -> str:
        step, *below = name.split("/")
        return "/".join([step, *below[:1]]) if step in several else step

    out = []
    for kind, names in parts:
        names.sort(key=lambda name: place[name.partition("/")[0]])
        out.append((kind, list(dict.fromkeys(map(shown, names)))))
    return out
