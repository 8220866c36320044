"""Put the descriptors of photos into a vector database, each with its owner, and find a photo by their votes.

    python examples/vector_database.py FEATURES QUERY.jpg [FOLDER]

FEATURES is what `delf convert` reads: a collection, a .h5 or .parquet file of many photos, or a folder of feature
files. The database is Qdrant (pip install qdrant-client): in memory, or in a FOLDER, where it is kept; there is no
server.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from delf import Delf, DelfError, read_image
from delf.converting import open_source

NAME, NEIGHBOURS, BATCH = "delf", 5, 1000


def fill(client: Any, source: Path) -> None:
    """Write all descriptors of `source`, a batch at a time; the payload says whose each is, and where it lies there."""
    from qdrant_client import models

    def points() -> Iterator[models.PointStruct]:
        number = 0
        with open_source(source) as images:
            for image, features in images.items():
                for row, (x, y) in enumerate(features.keypoints.tolist()):
                    yield models.PointStruct(id=number, vector=features.descriptors[row].tolist(),
                                             payload={"image": image, "feature": row, "x": x, "y": y})
                    number += 1

    waiting = points()
    batch = list(islice(waiting, BATCH))
    if batch:
        size = len(batch[0].vector)
        client.create_collection(NAME, models.VectorParams(size=size, distance=models.Distance.COSINE))
    while batch:
        client.upsert(NAME, batch)
        batch = list(islice(waiting, BATCH))


def search(client: Any, query: Path) -> list[tuple[str, float]]:
    """The photos whose descriptors are nearest to those of the query, and the sum of the cosines of each."""
    from qdrant_client import models

    votes: dict[str, float] = defaultdict(float)
    features = Delf.load(max_features=200).extract(read_image(query))
    requests = [models.QueryRequest(query=vector, limit=NEIGHBOURS, with_payload=["image"])
                for vector in features.descriptors.tolist()]
    for answer in client.query_batch_points(NAME, requests):
        for point in answer.points:
            votes[point.payload["image"]] += point.score
    return sorted(votes.items(), key=lambda item: -item[1])[:10]


def main(source: Path, query: Path, folder: str | None = None) -> None:
    """Fill the database where it is empty, search it, and print the photos with their votes."""
    try:
        from qdrant_client import QdrantClient
    except ImportError:
        raise DelfError("this example needs the package qdrant-client: pip install qdrant-client") from None
    client = QdrantClient(path=folder) if folder else QdrantClient(":memory:")
    if not client.collection_exists(NAME):
        fill(client, source)
    print(f"{client.count(NAME).count} descriptors")
    for image, score in search(client, query):
        print(f"{score:8.2f}  {image}")
    client.close()


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
    except DelfError as error:
        sys.exit(str(error))
