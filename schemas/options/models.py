"""Models and their options."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.options.base import Options


class LogisticOptions(Options):
    """Multinomial logistic regression, L2 penalty."""

    C: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.01, 0.1, 1.0), min_length=1, description="Inverse penalties tried"
    )


class LdaOptions(Options):
    """Linear discriminant analysis with a shrunken covariance."""

    shrinkage: tuple[Annotated[float, Field(ge=0, le=1)] | Literal["auto"], ...] = Field(
        default=("auto",),
        min_length=1,
        description="Shrinkages tried: 0 to 1, or auto (Ledoit & Wolf 2004)",
    )


class RidgeOptions(Options):
    """Ridge regression."""

    alpha: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.1, 1.0, 10.0, 100.0, 1000.0), min_length=1, description="Penalties tried"
    )
