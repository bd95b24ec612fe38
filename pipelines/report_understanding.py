"""The report's sections on what scores are made of, and which strategy was taken."""

from __future__ import annotations

import math
from typing import Any

from pipelines.report_html import Markup, escape, mark, section, table, tag
from pipelines.report_scores import METRICS, number

MOST_SETS = 15  # of modalities that are all shown: those of four modalities
BEST_SETS = 10  # shown of more


def strategy_sections(metrics: dict[str, Any]) -> list[Markup]:
    """How the strategies of a comparison did, if there was one, and which was taken."""
    found = metrics.get("strategy") or {}
    if "steps" in found:
        return [_tree(metrics, found)]
    if "strategies" not in found:
        return []
    name = metrics["score"]
    tie = "log_loss" if metrics["task"] == "classification" else "mae"
    rows = [
        [
            one["name"],
            number(name, one["score"]),
            number(name, one["standard_deviation"]),
            number(tie, one[tie]),
            _difference(one["against_chosen"]),
            "✓ chosen" if one["name"] == found["chosen"] else "",
        ]
        for one in found["strategies"]
    ]
    caption = (
        "From the simplest to the most complex, on the same folds. Differences to the chosen one "
        "are paired over folds, with a 95 % interval that allows for their common training rows "
        "(Nadeau & Bengio 2003)."
    )
    heads = ["strategy", METRICS[name], "± over folds", METRICS[tie], "less the chosen", ""]
    best = [one["name"] for one in found["strategies"]].index(found["chosen"])
    return [
        section(
            "Strategies compared",
            tag("p", f"{found['reason']}{_choosing(metrics, found)}"),
            table(caption, heads, rows, (1, 2, 3), strong=best),
        )
    ]


def _tree(metrics: dict[str, Any], found: dict[str, Any]) -> Markup:
    """How modalities were merged."""
    name = metrics["score"]
    rows = [[" | ".join(one["groups"]), number(name, one["score"])] for one in found["steps"]]
    caption = "Modalities joined by + share a model; the last line is what was taken."
    return section(
        "Modalities merged step by step",
        tag("p", f"Merged as long as that was a gain.{_choosing(metrics, found)}"),
        table(caption, ["models of", METRICS[name]], rows, (1,), strong=len(rows) - 1),
    )


def _choosing(metrics: dict[str, Any], found: dict[str, Any]) -> str:
    """What the choice is worth where it is made without the rows it is judged on."""
    nested, name = found["cross_validation"], metrics["score"]
    if nested is None:
        return ""
    return (
        f" Of several the best is a little better by luck: where the choice is made anew without "
        f"the folds that it is judged on, {METRICS[name]} is {number(name, nested['score'])}."
    )


def _difference(found: dict[str, Any]) -> str:
    if not found["difference"] or found["interval"] is None:
        return "-"
    low, high = found["interval"]
    return f"{found['difference']:+z.3f} ({low:+z.3f} to {high:+z.3f})"


def understanding_sections(metrics: dict[str, Any]) -> list[Markup]:
    """What metrics.json has under `understanding`."""
    found = metrics.get("understanding")
    if not found:
        return []
    sections = [
        _worth(metrics, found),
        _removal(metrics, found),
        _domains(metrics, found),
        _similarity(found),
        _reliability(found),
    ]
    return [one for one in sections if one is not None]


def _worth(metrics: dict[str, Any], found: dict[str, Any]) -> Markup | None:
    if not found["subsets"]:
        return None
    name = metrics["score"]
    parts: list[Markup] = []
    if found["shapley"]:
        values = sorted(found["shapley"]["values"].items(), key=lambda one: -one[1])
        caption = (
            f"Shapley values: what each modality adds to {METRICS[name]}, averaged over all orders "
            f"of adding them. They sum to {found['shapley']['total']:z.3f} less "
            f"{found['shapley']['nothing']:z.3f}, the score of saying nothing."
        )
        parts.append(
            table(caption, ["modality", "adds"], [[m, f"{v:+z.3f}"] for m, v in values], (1,))
        )
    return section("What each modality adds", *parts, *_sets(metrics, found["subsets"]))


def _sets(metrics: dict[str, Any], subsets: list[dict[str, Any]]) -> list[Markup]:
    """Scores of sets of modalities: those that one looks for first, and the others folded."""
    names, score = list(metrics["modalities"]), metrics["score"]

    def grid(caption: str, sets: list[dict[str, Any]]) -> Markup:
        rows = [
            [
                " + ".join(one["modalities"]),
                *(mark(True) if m in one["modalities"] else "" for m in names),
                number(score, one["score"]),
            ]
            for one in sets
        ]
        heads = ["modalities", *names, METRICS[score]]
        return table(caption, heads, rows, (len(names) + 1,))

    def worth(one: dict[str, Any]) -> float:
        return -math.inf if one["score"] is None else one["score"]

    ordered = sorted(subsets, key=worth, reverse=True)
    of = f"Cross-validated {METRICS[score]} of"
    if len(ordered) <= MOST_SETS:
        return [grid(f"{of} every set of modalities, from the best.", ordered)]
    first = [
        one
        for i, one in enumerate(ordered)
        if i < BEST_SETS or len(one["modalities"]) in (1, len(names))
    ]
    rest = [one for one in ordered if one not in first]
    caption = f"{of} the {BEST_SETS} best sets of modalities, each alone and all, from the best."
    others = grid(f"{of} the other sets of modalities, from the best.", rest)
    return [
        grid(caption, first),
        Markup(f"<details>\n<summary>The other {len(rest)} sets</summary>\n{others}\n</details>"),
    ]


def _removal(metrics: dict[str, Any], found: dict[str, Any]) -> Markup | None:
    if not found["removal"]:
        return None
    name = metrics["score"]
    rows = [
        [f"{one['level']:.0%}", f"{one['removed']:.0%}", number(name, one["score"])]
        for one in found["removal"]
    ]
    caption = (
        "Modalities are taken from the rows that are predicted, at random (seeded by the key), "
        "with the models as they are; every row keeps at least one."
    )
    heads = ["chance of removal", "modalities gone", METRICS[name]]
    return section("When modalities are missing", table(caption, heads, rows, (0, 1, 2)))


def _domains(metrics: dict[str, Any], found: dict[str, Any]) -> Markup | None:
    if not found["domains"]:
        return None
    name = metrics["score"]
    rows = [
        [
            one["domain"],
            f"{one['rows']:,}",
            number(name, one["score"]),
            number(name, one["aligned"]),
        ]
        for one in found["domains"]
    ]
    caption = (
        "Each domain predicted by what the others teach, as it is and with their features brought "
        "to the covariance of the domain's (CORAL, Sun et al. 2016)."
    )
    heads = ["domain", "rows", METRICS[name], "with CORAL"]
    return section("From other domains", table(caption, heads, rows, (1, 2, 3)))


def _similarity(found: dict[str, Any]) -> Markup | None:
    if not found["similarity"]:
        return None
    rows = [
        [
            " and ".join(one["modalities"]),
            f"{one['rows']:,}",
            "-" if one["linear_cka"] is None else f"{one['linear_cka']:.3f}",
            ", ".join(f"{c:.2f}" for c in one["canonical_correlations"]) or "-",
        ]
        for one in found["similarity"]
    ]
    caption = (
        "Linear CKA (Kornblith et al. 2019) and the first canonical correlations of principal "
        "components, over training rows that have both: 0 nothing in common, 1 the same."
    )
    heads = ["modalities", "rows", "CKA", "canonical correlations"]
    return section("How alike modalities are", table(caption, heads, rows, (1, 2)))


def _reliability(found: dict[str, Any]) -> Markup | None:
    if not found["reliability"]:
        return None
    rows = [
        [
            f"{one['low']:.2f} to {one['high']:.2f}",
            f"{one['rows']:,}",
            f"{one['confidence']:.3f}",
            f"{one['accuracy']:.3f}",
        ]
        for one in found["reliability"]["bins"]
    ]
    error = found["reliability"]["expected_calibration_error"]
    caption = (
        "Training rows, predicted out of fold, by how probable the predicted label was said to be. "
        f"Expected calibration error {error:.3f}."
    )
    heads = ["probability", "rows", "mean probability", "share right"]
    return section("How sure predictions are", table(caption, heads, rows, (1, 2, 3)))


def interval(metrics: dict[str, Any], part: str) -> str:
    """The 95 % interval of the score, in words; empty if there is none."""
    found = (metrics.get("understanding") or {}).get("intervals", {}).get(part)
    limits = found and found["intervals"].get(metrics["score"])
    if not limits:
        return ""
    unit = "groups" if found["grouped"] else "rows"
    return escape(
        f"{limits[0]:z.3f} to {limits[1]:z.3f} ({found['confidence']:.0%} interval by a "
        f"bootstrap of {found['units']:,} {unit})"
    )
