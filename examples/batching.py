"""Many inputs in one worker: gathered into a list by `@batched`, or side by side by `@concurrent`.

    cloudfn run examples/batching.py

A batched function is called with one input at a time and sees lists; a GPU model would take each list in one pass.
"""

import asyncio

import cloudfn

app = cloudfn.App("batching")

GUESTS = 10


@app.function(max_containers=1)
@cloudfn.batched(max_batch_size=8, wait_ms=200)
def embed(words: list[str]) -> list[tuple[int, int]]:
    """For each word its length, and how many words came with it."""
    return [(len(word), len(words)) for word in words]


@app.cls(max_containers=1)
@cloudfn.concurrent(max_inputs=GUESTS)
class Room:
    @cloudfn.enter()
    def open(self) -> None:
        self.guests = 0
        self.full = asyncio.Event()

    @cloudfn.method()
    async def meet(self, guest: int) -> int:
        """Wait until all guests are here, so each of them must be running at the same time. Returns how many came."""
        self.guests += 1
        if self.guests == GUESTS:
            self.full.set()
        await asyncio.wait_for(self.full.wait(), timeout=60)
        return self.guests


@app.local_entrypoint()
def main() -> None:
    words = ["pear" * (n % 4) for n in range(32)]
    answers = list(embed.map(words))
    print("each word has its own answer:", [length for length, _ in answers] == [len(word) for word in words])
    print("largest batch:", max(batch for _, batch in answers))
    print("guests that met:", min(Room().meet.map(range(GUESTS))))
