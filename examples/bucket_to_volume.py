"""A bucket and a Volume, each a folder in the worker: pictures come from the one, thumbnails go to the other.

    cloudfn secret create bucket-keys AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
    BUCKET=holidays cloudfn run examples/bucket_to_volume.py
    cloudfn volume ls thumbnails

BUCKET is the bucket's name; BUCKET_URL is where it is, if that is not Amazon: any server that speaks S3. Pictures are
all files below photos/ in it. The index goes back into the bucket. Needs bubblewrap, rclone and fuse3.
"""

import json
import os
from pathlib import Path

import cloudfn as modal

app = modal.App("bucket-to-volume")
image = modal.Image.debian_slim().pip_install("pillow")
volume = modal.Volume.from_name("thumbnails", create_if_missing=True)
bucket = modal.CloudBucketMount(
    os.environ.get("BUCKET", "holidays"),
    bucket_endpoint_url=os.environ.get("BUCKET_URL"),
    secret=modal.Secret.from_name("bucket-keys"),
)


@app.function(image=image, volumes={"/bucket": bucket, "/thumbnails": volume})
def make_thumbnails() -> int:
    from PIL import Image

    index = {}
    for photo in sorted(Path("/bucket/photos").iterdir()):
        with Image.open(photo) as picture:
            index[photo.name] = picture.size
            picture.thumbnail((64, 64))
            picture.save(Path("/thumbnails", photo.with_suffix(".png").name))
    Path("/bucket/index.json").write_text(json.dumps(index))
    return len(index)


@app.function(volumes={"/thumbnails": volume.read_only()})
def list_thumbnails() -> list[str]:
    return sorted(path.name for path in Path("/thumbnails").iterdir())


@app.local_entrypoint()
def main():
    print(make_thumbnails.remote(), "pictures")
    print("thumbnails:", list_thumbnails.remote())
