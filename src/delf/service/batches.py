"""Requests that add many photos at once, and ask how far that is: `/api/v1/images/batch` and `/api/v1/jobs`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from delf.service import schemas
from delf.service.core import API, Shared
from delf.service.forms import parsed_metadata, read_batch
from delf.service.schemas import BatchJob, BatchJobs, JobId, errors

router = APIRouter(prefix=API, tags=["jobs"])


@router.post("/images/batch", response_model=BatchJob, status_code=202,
             openapi_extra=schemas.batch_of(schemas.AddForm) | schemas.TOKEN,
             responses=errors(400, 401, 403, 408, 413, 415, 422, 429, 503, 507))
async def add_batch(request: Request, response: Response, service: Shared) -> Any:
    """Add several photos: they are taken in now, and added one after another by a job.

    `Location` is the address of the job, which says how far it is. What is said of the photos is kept with each of
    them. Where 429 says that there are too many jobs, `Retry-After` says when to come back.
    """
    service.require_token(request)
    with service.jobs.coming() as incoming, service.receiving():
        form = await read_batch(request, schemas.AddForm, service.options, incoming)
        metadata = None if form.metadata is None else parsed_metadata(form.metadata)
        job = service.jobs.begin(incoming, metadata)
    response.headers["Location"] = str(request.url.path).removesuffix("images/batch") + f"jobs/{job.id}"
    return BatchJob.of(job)


@router.get("/jobs", response_model=BatchJobs, openapi_extra=schemas.TOKEN, responses=errors(401, 403, 503))
async def jobs(request: Request, service: Shared) -> Any:
    """The batches of photos that are being added, and the last that were, the oldest first.

    When the service ends, it forgets them; what they have added stays.
    """
    service.require_token(request)
    return BatchJobs(jobs=[BatchJob.of(job, keys=False) for job in service.jobs.listed])


@router.get("/jobs/{id}", response_model=BatchJob, openapi_extra=schemas.TOKEN,
            responses=errors(401, 403, 404, 422, 503))
async def job(request: Request, service: Shared, id: JobId) -> Any:
    """How far a batch is, and what is wrong with photos that could not be added."""
    service.require_token(request)
    return BatchJob.of(service.jobs.find(id))


@router.delete("/jobs/{id}", response_model=BatchJob, openapi_extra=schemas.TOKEN,
               responses=errors(401, 403, 404, 422, 503))
async def cancel(request: Request, service: Shared, id: JobId) -> Any:
    """End a batch early. What it has added stays; one that has ended already is answered as it is."""
    service.require_token(request)
    return BatchJob.of(service.jobs.cancel(id))
