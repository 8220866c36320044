"""Requests that add many photos at once, and ask how far that is: `/api/v1/images/batch` and `/api/v1/jobs`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from delf.errors import OptionError
from delf.service import schemas
from delf.service.core import API, Shared
from delf.service.forms import parsed_metadata, read_batch
from delf.service.job_schemas import BatchJob, BatchJobs, JobId, PathsForm
from delf.service.present import listed
from delf.service.problems import Problem
from delf.service.schemas import errors

router = APIRouter(prefix=API, tags=["jobs"])


@router.post("/images/batch", response_model=BatchJob, status_code=202,
             openapi_extra=schemas.batch_of(schemas.AddForm) | schemas.TOKEN,
             responses=errors(400, 401, 403, 408, 413, 415, 422, 429, 503, 507))
async def add_batch(request: Request, response: Response, service: Shared) -> Any:
    """Add several photos. The service receives them now, and a job adds them one after another.

    `Location` is the address of the job, which says how far it is. The metadata are stored with each of the photos. If
    there are too many jobs, the answer is 429, and `Retry-After` says when to come back.
    """
    service.require_token(request)
    with service.jobs.coming() as incoming, service.receiving():
        form = await read_batch(request, schemas.AddForm, service.options, incoming)
        metadata = None if form.metadata is None else parsed_metadata(form.metadata)
        job = service.jobs.begin(incoming, metadata)
    response.headers["Location"] = f"../jobs/{job.id}"  # relative, so that it holds below any prefix
    return BatchJob.of(job)


@router.post("/images/paths", response_model=BatchJob, status_code=202,
             openapi_extra=schemas.json_of(PathsForm) | schemas.TOKEN,
             responses=errors(400, 401, 403, 408, 413, 415, 422, 429, 503))
async def add_paths(request: Request, response: Response, service: Shared) -> Any:
    """Add photos that lie on the computer of the service, where they lie: files, and folders with all below them.

    Only programs on that computer may ask for it, and only the folders that the service was started with are added
    from. A job adds the photos one after another, as of a batch.
    """
    service.require_token(request)
    if not service.options.roots or not service.options.local:
        raise Problem(403, "no_paths", "this service adds no photos by their paths: start it on this computer with "
                                       "--root FOLDER, and without --host and --allow-host")
    form, data = await service.form(service.drawing, request, PathsForm)
    if data is not None:
        raise OptionError("paths are added where they lie; send photos to /api/v1/images/batch")
    photos = await service.read(service.drawing, request, lambda _, __: listed(service.options, form.paths))
    job = service.jobs.begin_present(photos, form.metadata)
    response.headers["Location"] = f"../jobs/{job.id}"
    return BatchJob.of(job)


@router.get("/jobs", response_model=BatchJobs, openapi_extra=schemas.TOKEN, responses=errors(401, 403, 429, 503))
async def jobs(request: Request, service: Shared) -> Any:
    """List the batches of photos that are being added, and the last ones that were; the oldest comes first.

    When the service ends, it forgets its jobs; what they have added stays.
    """
    service.require_token(request)
    return BatchJobs(jobs=[BatchJob.of(job, keys=False) for job in service.jobs.listed])


@router.get("/jobs/{id}", response_model=BatchJob, openapi_extra=schemas.TOKEN,
            responses=errors(401, 403, 404, 422, 429, 503))
async def job(request: Request, service: Shared, id: JobId) -> Any:
    """Say how far a batch is, and what is wrong with photos that could not be added."""
    service.require_token(request)
    return BatchJob.of(service.jobs.find(id))


@router.delete("/jobs/{id}", response_model=BatchJob, openapi_extra=schemas.TOKEN,
               responses=errors(401, 403, 404, 422, 429, 503))
async def cancel(request: Request, service: Shared, id: JobId) -> Any:
    """End a batch early. What it has added stays. A batch that has ended already stays as it is."""
    service.require_token(request)
    return BatchJob.of(service.jobs.cancel(id))
