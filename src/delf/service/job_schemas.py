"""What goes in and out of jobs, as the OpenAPI description says it."""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from delf.service.forms import parsed_metadata
from delf.service.jobs import Batch, State

JobId = Annotated[str, Path(max_length=200, description="What the service calls a job.")]


def _as_list(given: Any) -> Any:
    """Of a field of a form: a list in JSON, or a single path."""
    if not isinstance(given, str):
        return given
    try:
        found = json.loads(given)
    except (ValueError, RecursionError):
        return [given]
    return found if isinstance(found, list) else [given]


def _as_metadata(given: Any) -> Any:
    return parsed_metadata(given if isinstance(given, str) else json.dumps(given)) if given is not None else None


class PathsForm(BaseModel):
    """Photos on the computer of the service."""

    model_config = ConfigDict(extra="forbid")
    paths: Annotated[list[str], Field(
        min_length=1, max_length=1000, description="Files and folders: absolute, or below a folder that the service "
                                                   "adds photos from.", examples=[["/photos/2024"]]),
        BeforeValidator(_as_list)]
    metadata: Annotated[dict[str, Any] | None, BeforeValidator(_as_metadata), Field(
        description="An object that is kept with each photo, in the place of the one before.")] = None


class JobError(BaseModel):
    """A photo that could not be added. photo: its place in the form, or among those at the paths, from 1. message: a
    sentence.
    """

    photo: int
    message: str


class BatchJob(BaseModel):
    """A batch of photos that is being added, or was. sentence: a remark on the batch as a whole, or empty."""

    id: str
    state: Annotated[str, Field(description="`done`, `cancelled` and `failed` are final.",
                                json_schema_extra={"enum": list(get_args(State))})]
    done: int = Field(description="How many photos have been processed.")
    total: int = Field(description="How many photos the batch has.")
    added: int = Field(description="How many photos were added.")
    known: int = Field(description="How many photos the collection had already.")
    errors: list[JobError]
    sentence: str
    keys: list[str | None] = Field(description="When it has ended: the key of each photo, in the order of the form; "
                                   "null for those that were not added.")

    @classmethod
    def of(cls, job: Batch, keys: bool = True) -> BatchJob:
        """keys: whether to tell them."""
        outcomes = job.outcomes
        keyed = {one.number: one.key for one in outcomes} if keys and job.ended else {}
        return cls(id=job.id, state=job.state, done=job.done, total=job.total, added=sum(one.added for one in outcomes),
                   known=sum(one.key is not None and not one.added for one in outcomes),
                   errors=[JobError(photo=one.number, message=one.problem) for one in outcomes if one.problem],
                   sentence=job.sentence,
                   keys=[keyed.get(number) for number in range(1, job.total + 1)] if keyed else [])


class BatchJobs(BaseModel):
    """Batches of photos, the oldest first; without their keys."""

    jobs: list[BatchJob]
