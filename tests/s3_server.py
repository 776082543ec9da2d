"""A real S3 server on this machine, for tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pyarrow import fs


@contextmanager
def s3_server() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server with an empty bucket called `bucket`."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - seconds, and few tests need it

    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[variable] = "test"
    os.environ["AWS_DEFAULT_REGION"] = os.environ["AWS_REGION"] = "us-east-1"
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    direct = fs.S3FileSystem(
        endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True
    )
    direct.create_dir("bucket")
    yield host, port
    moto.stop()
