"""Generators and async: results that arrive one by one, and calls that do not block.

    cloudfn run examples/streams.py

Every blocking call has a twin with `.aio` for async code.
"""

import asyncio
from typing import AsyncGenerator, Generator

import cloudfn

app = cloudfn.App("streams")


@app.function()
def countdown(n: int) -> Generator[int, None, None]:
    while n:
        yield n
        n -= 1


@app.function()
async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


@app.function()
async def words(text: str) -> AsyncGenerator[str, None]:
    for word in text.split():
        yield word
        await asyncio.sleep(0)


async def without_blocking() -> None:
    print("awaited:", await double.remote.aio(21))
    print("gathered:", await asyncio.gather(*(double.remote.aio(x) for x in range(5))))
    print("mapped:", [x async for x in double.map.aio(range(5))])
    print("streamed:", [word async for word in words.remote_gen.aio("one at a time")])


@app.local_entrypoint()
def main(start: int = 3) -> None:
    for n in countdown.remote_gen(start):
        print("countdown:", n)
    print("an async generator, read by blocking code:", list(words.remote_gen("works as well")))
    print("an async function, called by blocking code:", double.remote(4))
    asyncio.run(without_blocking())
