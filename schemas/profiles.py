"""Profiles: named sets of options for a runner, in a small file of the user's."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

FILE = "sensorium.yaml"


class Profile(BaseModel):
    """How and where to run: what one would otherwise write on the command line each time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shared: bool = Field(
        False, description="Local paths are on storage that all workers see (NFS and the like)"
    )
    beam: dict[str, str | list[str] | dict[str, Any]] = Field(
        default_factory=dict,
        description="Options for Beam, as on the command line but without --; a mapping becomes "
        "JSON, a list the option several times",
    )

    @field_validator("beam")
    @classmethod
    def _named_and_given(cls, beam: dict[str, Any]) -> dict[str, Any]:
        for name, value in beam.items():
            if name.startswith("-"):
                raise ValueError(f"write {name.lstrip('-')}, without dashes, not {name}")
            if value == "":
                raise ValueError(f"{name} has no value (of a flag it is true or false)")
        return beam


class Profiles(BaseModel):
    """Content of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profiles: dict[str, Profile]
