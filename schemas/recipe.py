"""The recipe: which modalities, which key joins them, how they are extracted, fused and learnt.

`Recipe` is what a recipe.yaml says, checked for form. Whether files and columns exist is
checked by `pipelines.planning`, which reads them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.options.audio import AudioExtract
from schemas.options.base import Extract, FieldError, Options, UnknownName
from schemas.options.fuse import (
    Concatenate,
    Fuse,
    check_names,
    concatenate_is_the_default,
    has_features_of_several,
    learns_from_labels,
)
from schemas.options.image import ImageExtract
from schemas.options.models import Models
from schemas.options.series import SeriesExtract
from schemas.options.table import TableExtract
from schemas.options.text import TextExtract
from schemas.options.vector import VectorExtract
from schemas.sources import Format as Format
from schemas.sources import (
    PayloadSource,
    SeriesSource,
    Source,
    TableSource,
    TextSource,
    VectorSource,
)

NAME = r"^[a-z][a-z0-9_]*$"
TARGET = "target"  # the folder and branch name of the labels
RESERVED = (TARGET, "key", "label", "group", "split", "fold", "present", "fused")
"""Names that no modality may bear: the labels' and those of the fused data set's columns."""

Duplicates = Literal["error", "first", "last", "mean", "max"]

_Byte = Annotated[int, Field(ge=0, le=255)]
_Count = Annotated[int, Field(ge=1)]


def _check_high(rate: float, where: tuple[str | int, ...], hertz: float | None) -> None:
    """Refuse a highest frequency that a rate cannot carry."""
    if hertz is not None and hertz > rate / 2:
        message = f"must be at most half the rate, {rate / 2:g} Hz, got {hertz:g}"
        raise FieldError(where, message)


class _Modality(Options):
    kind: str
    source: Source
    extract: Extract
    duplicates: Duplicates = Field(
        default="error",
        description="Several rows a key: first or last row, or features pooled by mean or max",
    )


class PayloadModality(_Modality):
    """A modality whose rows may point at files."""

    payload: Literal["embed", "reference"] = Field(
        default="reference", description="Records hold the file's bytes, or its URI"
    )
    max_bytes: int = Field(default=256 * 2**20, ge=1, description="Larger files are dead letters")


class ImageModality(PayloadModality):
    """Images, one a row."""

    kind: Literal["image"] = Field(description="What a row is")
    source: PayloadSource = Field(description="Where the rows are")
    extract: ImageExtract = Field(description="How images become numbers")
    max_pixels: int = Field(default=64_000_000, ge=1, description="Larger images are dead letters")
    background: tuple[_Byte, _Byte, _Byte] = Field(
        default=(255, 255, 255), description="Red, green, blue under transparent pixels"
    )


class AudioModality(PayloadModality):
    """Recordings, one a row."""

    kind: Literal["audio"] = Field(description="What a row is")
    source: PayloadSource = Field(description="Where the rows are")
    extract: AudioExtract = Field(description="How recordings become numbers")
    rate: int = Field(default=16_000, ge=1000, le=192_000, description="Resampled to this rate, Hz")
    max_seconds: float = Field(
        default=600.0, gt=0, description="Longer recordings are dead letters"
    )

    @model_validator(mode="after")
    def _frequencies_fit_the_rate(self) -> AudioModality:
        chosen = self.extract
        for name in ("log_mel", "mfcc", "pitch"):
            options = getattr(chosen, name)
            if options is None:
                continue
            if options.low >= self.rate / 2:
                raise FieldError(
                    ("extract", name, "low"),
                    f"must be below half the rate, {self.rate / 2:g} Hz, got {options.low:g}",
                )
            _check_high(self.rate, ("extract", name, "high"), options.high)
        pitch = chosen.pitch
        if pitch is not None and self.rate > pitch.low * (pitch.window // 2):
            raise FieldError(
                ("extract", "pitch", "window"),
                f"must hold two periods of low, {2 * self.rate / pitch.low:.0f} samples, "
                f"got {pitch.window}",
            )
        return self


class VideoModality(PayloadModality):
    """Videos, one a row."""

    kind: Literal["video"] = Field(description="What a row is")
    source: PayloadSource = Field(description="Where the rows are")
    extract: ImageExtract = Field(description="How each frame becomes numbers")
    frames: int = Field(
        default=8, ge=1, le=256, description="Equally spaced frames taken of each video"
    )
    pool: Literal["mean", "max"] = Field(
        default="mean", description="How the frames' numbers become those of the video"
    )
    max_side: int = Field(
        default=512, ge=16, le=4096, description="Frames with a longer side are shrunk to it"
    )
    max_pixels: int = Field(
        default=9_000_000, ge=1, description="Videos with larger frames are dead letters"
    )
    max_frames: int = Field(default=36_000, ge=1, description="Longer videos are dead letters")


class TextModality(PayloadModality):
    """Texts, one a row."""

    kind: Literal["text"] = Field(description="What a row is")
    source: TextSource = Field(description="Where the rows are")
    extract: TextExtract = Field(description="How texts become numbers")
    max_characters: int = Field(
        default=1_000_000, ge=1, description="Longer texts are dead letters"
    )


class TableModality(_Modality):
    """Rows of numbers and categories."""

    kind: Literal["table"] = Field(description="What a row is")
    source: TableSource = Field(description="Where the rows are")
    extract: TableExtract = Field(
        description="How rows become numbers",
        default_factory=lambda: TableExtract.model_validate({"columns": {}}),
    )


class VectorModality(_Modality):
    """Rows of numbers that are features already."""

    kind: Literal["vector"] = Field(description="What a row is")
    source: VectorSource = Field(description="Where the rows are")
    extract: VectorExtract = Field(
        description="How rows become numbers",
        default_factory=lambda: VectorExtract.model_validate({"vector": {}}),
    )


class SeriesModality(_Modality):
    """Lists of numbers that follow each other in time, one a row, of any length."""

    kind: Literal["series"] = Field(description="What a row is")
    source: SeriesSource = Field(description="Where the rows are")
    extract: SeriesExtract = Field(description="How series become numbers")
    rate: float = Field(default=1.0, ge=1e-9, le=1e9, description="Values a second, Hz")
    max_length: int = Field(default=1_000_000, ge=1, description="Longer series are dead letters")

    @model_validator(mode="after")
    def _bands_below_half_the_rate(self) -> SeriesModality:
        bands = self.extract.bands
        if bands is not None and isinstance(bands.bands, tuple):
            where = ("extract", "bands", "bands", len(bands.bands) - 1)
            _check_high(self.rate, where, bands.bands[-1])
        return self


Modality = Annotated[
    ImageModality
    | AudioModality
    | VideoModality
    | TextModality
    | TableModality
    | VectorModality
    | SeriesModality,
    Field(discriminator="kind"),
]


class Target(Options):
    """What is learnt: a column of any source."""

    source: str | Source = Field(description="A modality's name, or a source of its own")
    column: str = Field(description="Column that holds the label or number")
    task: Literal["classification", "regression"] = Field(
        default="classification", description="Tell classes apart, or predict a number"
    )

    @model_validator(mode="after")
    def _labels_are_in_a_manifest(self) -> Target:
        if isinstance(self.source, Source) and self.source.key_pattern is not None:
            raise FieldError(("source", "key_pattern"), "bare files have no columns for labels")
        return self


class Split(Options):
    """Who is in training, test and which fold: by a seeded hash of the key, or whole groups."""

    group: str | None = Field(
        default=None, description="Column of the target's source; a group is never torn apart"
    )
    folds: Annotated[int, Field(ge=2, le=100)] | Literal["group"] = Field(
        default=5, description="Number of folds, or `group` for one fold a group"
    )
    test_share: float = Field(
        default=0.2, ge=0, lt=1, description="Share of keys set aside for the test"
    )
    seed: int = Field(default=0, ge=0, description="Another seed, another split")

    @model_validator(mode="after")
    def _group_folds_need_a_group(self) -> Split:
        if self.folds == "group" and self.group is None:
            raise FieldError(("folds",), "needs `group`, the column that names the groups")
        return self


class Left(Options):
    """Join that keeps the keys of one modality."""

    left: str = Field(description="The modality whose keys are kept")


class Join(Options):
    """Which keys are fused, and what stands in for a modality that a key lacks."""

    how: Literal["outer", "inner"] | Left = Field(
        default="outer",
        description="Keys of any modality, of all modalities, or of the one named as `left`",
    )
    missing: Literal["mean", "zero", "conditional"] = Field(
        default="mean",
        description="A missing modality's features: the training mean, zero, or their mean given "
        "the modalities that are there",
    )


class Train(Options):
    """Candidates for the model, compared on the data set's folds."""

    models: Models = Field(
        default=Models(), description="Candidates; none: those that fit the task"
    )
    memory: float = Field(
        default=4.0,
        gt=0,
        description="GiB: where all rows would take more, training reads them a bucket at a time",
    )
    domain: str | None = Field(
        default=None,
        description="Column of the target's source that names domains: each is predicted by what "
        "the others teach",
    )


class Recipe(Options):
    """All that Sensorium needs to know to turn raw records into a data set and a model."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Names the output folder"
    )
    modalities: dict[Annotated[str, Field(pattern=NAME)], Modality] = Field(
        min_length=1,
        description="What there is of each key, by a name of your own",
        json_schema_extra={
            "additionalProperties": False,
            "propertyNames": {"not": {"enum": list(RESERVED)}},
        },
    )
    target: Target | None = Field(default=None, description="What is learnt")
    split: Split = Field(default=Split(), description="Training, test and folds")
    join: Join = Field(default=Join(), description="Which keys are fused")
    fuse: Fuse = Field(default=Concatenate(), description="How modalities become one vector")
    train: Train | None = Field(
        default=Train(), description="null: no model. None is trained without a target either"
    )
    max_dead_letters: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Largest share of a modality's rows that may be dead letters",
    )

    @field_validator("fuse", mode="before")
    @classmethod
    def _concatenate_is_the_default(cls, value: Any) -> Any:
        return concatenate_is_the_default(value)

    @model_validator(mode="after")
    def _names_agree(self) -> Recipe:
        names = list(self.modalities)
        for name in names:
            if name in RESERVED:
                raise FieldError(("modalities", name), f"is a reserved name: {', '.join(RESERVED)}")
        if isinstance(self.join.how, Left) and self.join.how.left not in names:
            raise UnknownName(self.join.how.left, names, ("join", "how", "left"))
        if self.target is not None and isinstance(self.target.source, str):
            if self.target.source not in names:
                raise UnknownName(self.target.source, names, ("target", "source"))
            if self.modalities[self.target.source].source.key_pattern is not None:
                raise FieldError(
                    ("target", "source"), "bare files (key_pattern) have no columns for labels"
                )
        if len(names) < 2 and self.fuse.method != "concatenate":
            raise FieldError(("fuse", "method"), f"{self.fuse.method} needs two modalities or more")
        check_names(self.fuse, names, ("fuse",))
        if self.join.missing == "conditional":
            if self.join.how == "inner":
                raise FieldError(("join", "missing"), "nothing is missing in an inner join")
            if len(names) < 2 or not has_features_of_several(self.fuse):
                raise FieldError(
                    ("join", "missing"),
                    "conditional is for features of several modalities in one vector; decisions "
                    "leave out what is missing, and one modality has nothing to go by",
                )
        if learns_from_labels(self.fuse) and (self.target is None or self.train is None):
            raise FieldError(
                ("fuse",),
                "is chosen by how well models do: it needs `target`, and `train` not null",
            )
        if self.split.group is not None and self.target is None:
            raise FieldError(
                ("split", "group"), "is a column of the target's source: give a target"
            )
        if self.train is not None and self.train.domain is not None and self.target is None:
            raise FieldError(
                ("train", "domain"), "is a column of the target's source: give a target"
            )
        if self.train is not None and self.target is not None:
            wrong = _MODELS_OF_THE_OTHER_TASK[self.target.task]
            for name in wrong:
                if getattr(self.train.models, name) is not None:
                    raise FieldError(("train", "models", name), f"is not for {self.target.task}")
            boosting = self.train.models.boosting
            if self.target.task == "regression" and boosting and boosting.class_weight:
                raise FieldError(
                    ("train", "models", "boosting", "class_weight"), "is not for regression"
                )
        return self

    def target_source(self) -> Source | None:
        """The source that holds the labels, or None without a target."""
        if self.target is None:
            return None
        if isinstance(self.target.source, str):
            return self.modalities[self.target.source].source
        return self.target.source


_MODELS_OF_THE_OTHER_TASK = {
    "classification": ("ridge",),
    "regression": ("logistic", "lda", "naive_bayes", "qda", "gaussian", "svm", "kernel"),
}
