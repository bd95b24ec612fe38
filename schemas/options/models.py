"""Models and their options.

An option that takes several values names those that are tried; several such options are tried
in all combinations.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer, model_validator

from schemas.options.base import Options

_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=1)]


class ClassifierOptions(Options):
    """What all classifiers have."""

    class_weight: Literal["balanced"] | None = Field(
        default=None,
        description="balanced: each class counts the same, however many rows it has",
    )


class LogisticOptions(ClassifierOptions):
    """Multinomial logistic regression, L2 penalty."""

    C: tuple[_Positive, ...] = Field(
        default=(0.01, 0.1, 1.0), min_length=1, description="Inverse penalties tried"
    )


class LdaOptions(ClassifierOptions):
    """Linear discriminant analysis with a shrunken covariance."""

    shrinkage: tuple[_Share | Literal["auto"], ...] = Field(
        default=("auto",),
        min_length=1,
        description="Shrinkages tried: 0 to 1, or auto (Ledoit & Wolf 2004)",
    )


class NaiveBayesOptions(ClassifierOptions):
    """Gaussian naive Bayes: dimensions are independent within a class."""

    smoothing: tuple[_Positive, ...] = Field(
        default=(1e-9, 0.1),
        min_length=1,
        description="Tried: added to all variances, as a share of the largest",
    )


class QdaOptions(ClassifierOptions):
    """Quadratic discriminant analysis of principal components, a covariance for each class."""

    components: tuple[_Count, ...] = Field(
        default=(16, 64), min_length=1, description="Numbers of principal components tried"
    )
    shrinkage: tuple[_Share, ...] = Field(
        default=(0.1, 0.5),
        min_length=1,
        description="Tried: weight of the covariance of all rows in that of each class",
    )


class GaussianOptions(ClassifierOptions):
    """A normal distribution a class, fitted to rows that lack modalities as well as to others.

    Of what a row lacks nothing is made up: it is integrated out, in training (EM algorithm, Little
    & Rubin 2019) as in prediction. With nothing lacking it is LDA. For up to some hundred
    dimensions (`fuse.pca`): its time grows with their cube.
    """

    shrinkage: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.1, 0.5),
        min_length=1,
        description="Tried: weight of the mean variance in the covariance",
    )


class SvmOptions(ClassifierOptions):
    """Linear support vector machine, with probabilities by temperature scaling."""

    C: tuple[_Positive, ...] = Field(
        default=(0.001, 0.01, 0.1), min_length=1, description="Inverse penalties tried"
    )


class KernelOptions(ClassifierOptions):
    """Least-squares support vector machine of the Gaussian kernel, calibrated.

    For classes that no plane parts, and up to 6,000 training rows: its time grows with their
    cube. The model holds the training rows.
    """

    C: tuple[_Positive, ...] = Field(
        default=(1.0, 10.0), min_length=1, description="Inverse penalties tried"
    )
    gamma: tuple[_Positive, ...] = Field(
        default=(1.0,),
        min_length=1,
        description="Inverse squared widths tried, in units of 1 / (dimensions x variance)",
    )


class BoostingOptions(ClassifierOptions):
    """Gradient boosting of trees on histograms."""

    learning_rate: tuple[_Positive, ...] = Field(
        default=(0.1,), min_length=1, description="Factors of each tree tried"
    )
    iterations: tuple[_Count, ...] = Field(
        default=(100,), min_length=1, description="Numbers of rounds tried, a tree a class each"
    )
    leaves: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        default=(15,), min_length=1, description="Largest numbers of leaves of a tree tried"
    )


class RidgeOptions(Options):
    """Ridge regression."""

    alpha: tuple[_Positive, ...] = Field(
        default=(0.1, 1.0, 10.0, 100.0, 1000.0), min_length=1, description="Penalties tried"
    )


class Models(Options):
    """Models compared by cross-validation; none named means those that fit the task."""

    logistic: LogisticOptions | None = Field(
        default=None, description="Multinomial logistic regression"
    )
    lda: LdaOptions | None = Field(default=None, description="Linear discriminant analysis")
    naive_bayes: NaiveBayesOptions | None = Field(default=None, description="Gaussian naive Bayes")
    qda: QdaOptions | None = Field(
        default=None, description="Quadratic discriminant analysis of principal components"
    )
    gaussian: GaussianOptions | None = Field(
        default=None, description="LDA of rows that lack modalities, by the EM algorithm"
    )
    svm: SvmOptions | None = Field(default=None, description="Linear support vector machine")
    kernel: KernelOptions | None = Field(
        default=None, description="Support vector machine of the Gaussian kernel"
    )
    boosting: BoostingOptions | None = Field(
        default=None, description="Gradient boosting of trees, for classes or numbers"
    )
    ridge: RidgeOptions | None = Field(default=None, description="Ridge regression")

    @model_validator(mode="before")
    @classmethod
    def _no_options_means_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: ({} if v is None else v) for k, v in value.items()}

    @model_serializer(mode="plain")
    def _only_what_is_used(self) -> dict[str, Any]:
        # A name without options means its defaults, so one that is not used is left out.
        used = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: one.model_dump(mode="json") for name, one in used.items() if one is not None}
