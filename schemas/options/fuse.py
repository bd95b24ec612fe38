"""Strategies of fusion, as they are written in a recipe.

Of features, a strategy makes one vector of all modalities; of decisions, each part has a model
of its own, and what the models say is put together.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.options.base import FieldError, Options, UnknownName

Scale = Literal["standard", "block", "none"]
NetworkScale = Literal["tails", "standard", "block", "none"]
Rule = Literal["mean", "product"]
Learned = Literal["scores", "error_covariance", "stacking"]

_Count = Annotated[int, Field(ge=1)]
_Weight = Annotated[float, Field(ge=0)]
_METHOD = "How the modalities' features become one vector"
_SCALE = (
    "standard: each dimension to mean 0, deviation 1; block: each dimension to mean 0, each "
    "modality to a mean squared length equal to its number of dimensions; none"
)
_RULE = (
    "Of decisions: the mean of the posteriors, or their product with the prior counted once "
    "(Kittler et al. 1998)"
)


class Strategy(Options):
    """What all strategies have but `deep`, whose networks scale in a way of their own."""

    scale: Scale = Field(default="standard", description=_SCALE)
    keep_modalities: bool = Field(
        default=False, description="Also write each modality's own features"
    )


class Concatenate(Strategy):
    """Modalities side by side."""

    method: Literal["concatenate"] = Field(default="concatenate", description=_METHOD)
    pca: _Count | dict[str, _Count] | None = Field(
        default=None, description="Principal components kept of each modality, or of those named"
    )


class _Mean(Strategy):
    of: Literal["features", "decisions"] = Field(default="features", description="What is averaged")
    dimension: int = Field(default=32, ge=1, description="Of the space that features share")
    shared: Literal["pca", "cca"] = Field(
        default="pca",
        description="That space: principal components of each modality, or the directions that "
        "agree best between modalities (MAXVAR, Kettenring 1971)",
    )
    rule: Rule = Field(default="product", description=_RULE)


class Average(_Mean):
    """The mean over the modalities present: of features in a shared space, or of decisions."""

    method: Literal["average"] = Field(description=_METHOD)


class Weighted(_Mean):
    """An average with weights, given or learned, over the modalities present."""

    method: Literal["weighted"] = Field(description=_METHOD)
    weights: dict[str, _Weight] | Learned = Field(
        default="scores",
        description="Of each modality; or learned: from validation scores, from the covariance "
        "of out-of-fold errors (Bates & Granger 1969), or by stacking (non-negative least "
        "squares)",
    )

    @model_validator(mode="after")
    def _weights_make_sense(self) -> Weighted:
        if isinstance(self.weights, dict) and not any(self.weights.values()):
            raise FieldError(("weights",), "at least one weight must be above 0")
        if self.of == "features" and self.weights in ("error_covariance", "stacking"):
            raise FieldError(
                ("weights",), f"{self.weights} is learned from decisions: set `of: decisions`"
            )
        return self


def _lists_are_nodes(value: Any) -> Any:
    return {"parts": value} if isinstance(value, list) else value


class Node(Options):
    """Several parts of a tree that become one."""

    parts: list[Part] = Field(min_length=2, description="Modalities, or nodes of their own")
    method: Literal["concatenate", "average"] = Field(
        default="concatenate", description="How the parts' features become one vector"
    )
    of: Literal["features", "decisions"] = Field(
        default="features",
        description="What is put together; decisions, by `rule`, only above all features",
    )
    dimension: _Count | None = Field(
        default=None, description="Principal components kept; an average of features needs it"
    )
    rule: Rule = Field(default="product", description=_RULE)

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Node:
        if self.of == "features" and self.method == "average" and self.dimension is None:
            raise FieldError(("dimension",), "an average of features needs a dimension")
        for i, part in enumerate(self.parts):
            if self.of == "decisions" or isinstance(part, str):
                continue
            if part.of == "decisions":
                raise FieldError(("parts", i, "of"), "decisions cannot become features again")
            if self.method == "average" and part.dimension not in (None, self.dimension):
                raise FieldError(
                    ("parts", i, "dimension"),
                    f"is averaged with others over {self.dimension} dimensions, not "
                    f"{part.dimension}",
                )
        return self

    def modalities(self) -> list[str]:
        """Names of the modalities in it, in order."""
        found = []
        for part in self.parts:
            found += part.modalities() if isinstance(part, Node) else [part]
        return found


Part = Annotated[
    str | Node, BeforeValidator(_lists_are_nodes, json_schema_input_type=str | Node | list[Any])
]
Node.model_rebuild(force=True)  # messages of errors look at what the fields' types are


class Hierarchical(Strategy):
    """A tree of modalities, such as `[[image, text], audio]`, each node fused in its own way."""

    method: Literal["hierarchical"] = Field(description=_METHOD)
    tree: Annotated[
        Literal["auto", "cka"] | Node,
        BeforeValidator(
            _lists_are_nodes, json_schema_input_type=Literal["auto", "cka"] | Node | list[Any]
        ),
    ] = Field(
        default="auto",
        description="Parts in a list are concatenated; a node of another kind is a mapping with "
        "`parts`. auto: merged greedily by cross-validated gain; cka: the most similar first",
    )


class Deep(Options):
    """A network of one token a modality, masked fusion of those present, and a joint head.

    It is trained on the labels. The fused vector is the one that its joint head reads, with what
    the modalities' heads say of classes behind it.
    """

    method: Literal["deep"] = Field(description=_METHOD)
    scale: NetworkScale = Field(
        default="tails",
        description="tails: each dimension to mean 0 and the same fourth moment, so that what few "
        "rows have counts less than with standard, each modality to a mean squared length equal "
        f"to its number of dimensions; {_SCALE}",
    )
    keep_modalities: bool = Field(
        default=False, description="Also write each modality's own features"
    )
    dimension: int = Field(
        default=64,
        ge=4,
        le=1024,
        multiple_of=4,
        description="Of tokens, and of the vector that the joint head reads",
    )
    pooling: Literal["gated", "attention"] = Field(
        default="gated",
        description="How tokens become one: weighed by gates, or the mean of what they make of "
        "each other by self-attention",
    )
    modality_dropout: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of modalities that a training row loses, drawn for each key and epoch",
    )
    dropout: float = Field(default=0.5, ge=0, lt=1, description="Share of hidden values set to 0")
    auxiliary: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the losses of heads on each modality alone; 0: without",
    )
    learning_rate: float = Field(default=0.001, gt=0, description="Of AdamW, after the warm-up")
    weight_decay: float = Field(default=1.0, ge=0, description="Of AdamW")
    epochs: int = Field(
        default=100, ge=1, description="Most passes over the rows; an inner fold says when to stop"
    )
    seed: int = Field(default=0, ge=0, description="Another seed, other initial weights and draws")

    @property
    def scale_alone(self) -> Scale:
        """For the models of each modality alone that a network is seen beside."""
        return "standard" if self.scale == "tails" else self.scale


def concatenate_is_the_default(value: Any) -> Any:
    """A strategy as it is written, with its method."""
    return {"method": "concatenate", **value} if isinstance(value, dict) else value


One = Annotated[
    Concatenate | Average | Weighted | Hierarchical | Deep,
    Field(discriminator="method"),
    BeforeValidator(concatenate_is_the_default),
]


class Compare(Options):
    """Several strategies, compared by cross-validation; the simplest of the best is taken."""

    method: Literal["compare"] = Field(description=_METHOD)
    strategies: dict[str, One] = Field(
        default={
            "concatenate": Concatenate(),
            "mean rule": Average(method="average", of="decisions", rule="mean"),
            "product rule": Average(method="average", of="decisions", rule="product"),
        },
        min_length=2,
        description="By names of your own, from the simplest to the most complex",
    )
    keep_modalities: bool = Field(
        default=False, description="Also write each modality's own features"
    )


Fuse = Annotated[
    Concatenate | Average | Weighted | Hierarchical | Deep | Compare, Field(discriminator="method")
]


def needs_choice(fuse: Options) -> bool:
    """Whether a strategy must first be found, or a network trained, by looking at features."""
    if isinstance(fuse, Hierarchical):
        return isinstance(fuse.tree, str)
    if isinstance(fuse, Weighted):
        return fuse.of == "features" and isinstance(fuse.weights, str)
    return isinstance(fuse, Compare | Deep)


def networks_of(fuse: Options) -> list[Deep]:
    """The strategies that need a trained network, each once."""
    every = fuse.strategies.values() if isinstance(fuse, Compare) else [fuse]
    return list(dict.fromkeys(one for one in every if isinstance(one, Deep)))


def learns_from_labels(fuse: Options) -> bool:
    """Whether a strategy cannot do without labels."""
    if isinstance(fuse, Average | Weighted):
        return fuse.of == "decisions" or isinstance(getattr(fuse, "weights", None), str)
    if isinstance(fuse, Hierarchical):
        return isinstance(fuse.tree, str) or fuse.tree.of == "decisions"
    return isinstance(fuse, Compare | Deep)


def has_features_of_several(fuse: Options) -> bool:
    """Whether a strategy may make one vector of several modalities' features."""
    if isinstance(fuse, Average | Weighted):
        return fuse.of == "features"
    if isinstance(fuse, Compare):
        return any(has_features_of_several(one) for one in fuse.strategies.values())
    if isinstance(fuse, Hierarchical):
        return isinstance(fuse.tree, str) or has_features_of_several(fuse.tree)
    if isinstance(fuse, Node):
        below = [part for part in fuse.parts if isinstance(part, Node)]
        return fuse.of == "features" or any(has_features_of_several(part) for part in below)
    return True


def check_names(fuse: Options, names: list[str], where: tuple[str | int, ...]) -> None:
    """Compare the modalities that a strategy names with those that there are.

    Raises:
        FieldError, UnknownName: at the field that is wrong.
    """
    if isinstance(fuse, Compare):
        for name, strategy in fuse.strategies.items():
            check_names(strategy, names, (*where, "strategies", name))
    named: list[tuple[str, tuple[str | int, ...]]] = []
    if isinstance(fuse, Concatenate) and isinstance(fuse.pca, dict):
        named = [(name, (*where, "pca", name)) for name in fuse.pca]
    elif isinstance(fuse, Weighted) and isinstance(fuse.weights, dict):
        named = [(name, (*where, "weights", name)) for name in fuse.weights]
        lacking = [name for name in names if name not in fuse.weights]
        if lacking and all(name in names for name in fuse.weights):
            raise FieldError((*where, "weights"), f"lacks a weight for {', '.join(lacking)}")
    elif isinstance(fuse, Hierarchical) and isinstance(fuse.tree, Node):
        inside = fuse.tree.modalities()
        named = [(name, (*where, "tree")) for name in inside]
        lacking = [name for name in names if name not in inside]
        twice = sorted({name for name in inside if inside.count(name) > 1})
        if all(name in names for name in inside) and (lacking or twice):
            what = f"lacks {', '.join(lacking)}" if lacking else f"has {', '.join(twice)} twice"
            raise FieldError((*where, "tree"), f"{what}: each modality has one place in it")
    for name, at in named:
        if name not in names:
            raise UnknownName(name, names, at)
