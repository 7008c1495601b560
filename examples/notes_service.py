"""A small service: it answers over HTTP, works every night, keeps its files in a Volume, and goes on after a reboot.

    cloudfn deploy examples/notes_service.py               # prints its URL
    curl -X PUT $URL/notes/groceries -H "Content-Type: text/plain" -d "bread and tea"
    curl $URL/notes/groceries
    curl $URL/digest                                       # written at two in the morning
    cloudfn volume ls notes-service notes

Each worker has its own view of the Volume: `commit` shows others what it has written, `reload` shows it what they have.
"""

from pathlib import Path

import cloudfn as modal

app = modal.App("notes-service", image=modal.Image.debian_slim().pip_install("fastapi"))
volume = modal.Volume.from_name("notes-service", create_if_missing=True)

NOTES = Path("/data/notes")
DIGEST = Path("/data/digest.txt")


@app.function(volumes={"/data": volume})
@modal.asgi_app()
def web():
    from fastapi import Body, FastAPI, HTTPException, Path
    from fastapi.responses import PlainTextResponse

    service = FastAPI(title="Notes", default_response_class=PlainTextResponse)
    name_of_note = Path(pattern=r"^[A-Za-z0-9-]{1,50}$")

    @service.put("/notes/{name}")
    def write(name: str = name_of_note, text: str = Body(media_type="text/plain")) -> str:
        NOTES.mkdir(exist_ok=True)
        aside = NOTES / f".{name}"
        aside.write_text(text)
        aside.replace(NOTES / name)  # whole or not at all
        volume.commit()  # on the disk before we say so
        return "kept\n"

    @service.get("/notes/{name}")
    def read(name: str = name_of_note) -> str:
        return show(NOTES / name)

    @service.get("/digest")
    def digest() -> str:
        return show(DIGEST)

    def show(path) -> str:
        volume.reload()
        if not path.is_file():
            raise HTTPException(404, f"There is no {path.name}.")
        return path.read_text()

    return service


@app.function(schedule=modal.Cron("0 2 * * *"), volumes={"/data": volume}, retries=3)
def write_digest() -> None:
    volume.reload()
    notes = [path for path in NOTES.glob("*") if not path.name.startswith(".")]
    words = sum(len(path.read_text().split()) for path in notes)
    DIGEST.write_text(f"{len(notes)} notes, {words} words\n")
